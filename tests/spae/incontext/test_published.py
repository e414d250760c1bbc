import pytest

from spae.incontext.prompts import SETTINGS
from spae.incontext.published import _ABLATION, FIGURE_3, TABLE_1, TABLE_3


@pytest.mark.parametrize("row", TABLE_1, ids=lambda row: f"{row.system}-{row.layers}")
def test_the_means_of_a_row_are_its_printed_averages(row):
    assert list(row.percents) == list(SETTINGS)
    for ways, printed in row.averages.items():
        percents = [percent for name, percent in row.percents.items() if SETTINGS[name].ways == ways]
        assert sum(percents) / len(percents) == pytest.approx(printed, abs=0.0051)


def test_table_3_has_a_figure_for_each_number_of_shots():
    assert [[SETTINGS[name].shots for name in row.percents] for row in TABLE_3] == [[1, 3, 5]] * 2


def test_figure_3_is_best_at_three_layers_in_all_six_settings():
    assert [row.layers for row in FIGURE_3] == [1, 2, 3, 4, 5]
    best = FIGURE_3[2].percents
    assert len(best) == 6
    assert all(row.percents[name] <= best[name] for row in FIGURE_3 for name in row.percents)


def test_tables_1_and_4_agree_where_they_overlap():
    for layers in (2, 3):
        (row,) = (row for row in TABLE_1 if (row.system, row.layers) == ("SPAE_PaLM", layers))
        assert _ABLATION[layers] == row.percents["5-way-1-shot"]
