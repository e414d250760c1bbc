import dataclasses

import pytest
import torch
import torch.nn.functional as F

from spae.codebook.variants import CosineCodebook, LearnedCodebook, ProjectedCodebook, make_codebook
from tests import tiny_spae


@pytest.fixture
def rows():
    return torch.randn(20, 6, generator=torch.Generator().manual_seed(0))


def test_cosine_search_is_that_of_normalised_rows(rows):
    queries = torch.randn(50, 6)
    expected = (F.normalize(queries.double(), dim=1) @ F.normalize(rows.double(), dim=1).T).argmax(1)
    codebook = CosineCodebook(rows)
    assert torch.equal(codebook.nearest(queries), expected)
    assert torch.equal(codebook.embed(expected), rows[expected])


def test_of_words_in_one_direction_the_lowest_id_is_found():
    """Multiples that float32 holds exactly; with lengths in float32 many of these queries got a higher id."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(-999, 1_000, (250, 16), generator=generator).float()
    codebook = CosineCodebook(torch.cat([rows, rows * 3, rows * 7, rows / 16]))
    assert int(codebook.nearest(torch.randn(2_000, 16, generator=generator)).max()) < 250


def test_a_learned_codebook_starts_with_the_variance_of_maskgit():
    codebook = LearnedCodebook(1_024, 256)
    assert float(codebook.weight.detach().var()) == pytest.approx(1 / 1_024, rel=0.02)
    assert torch.equal(codebook.embeddings, codebook.weight)


def test_a_projection_of_equal_width_starts_with_the_words(rows):
    assert torch.equal(ProjectedCodebook(rows, 6).embeddings, rows)
    narrow = ProjectedCodebook(rows, 4)
    torch.testing.assert_close(narrow.projection.weight @ narrow.projection.weight.T, torch.eye(4))


@pytest.mark.parametrize("make", [lambda rows: LearnedCodebook(20, 6), lambda rows: ProjectedCodebook(rows, 6)])
def test_the_searched_table_follows_the_parameters_after_a_refresh(rows, make):
    codebook = make(rows)
    with torch.no_grad():
        next(codebook.parameters()).mul_(2)
    codebook.refresh()
    torch.testing.assert_close(codebook.embeddings, codebook.rows().detach())
    torch.testing.assert_close(codebook.half_squares, codebook.embeddings.square().sum(1) / 2)
    torch.testing.assert_close(codebook.mean, codebook.embeddings.mean(0))
    ids = torch.tensor([3, 3, 7])
    codebook.embed(ids).sum().backward()
    torch.testing.assert_close(codebook.embed(ids), codebook.rows()[ids])
    assert float(next(codebook.parameters()).grad.abs().sum()) > 0


def test_the_configuration_chooses(rows):
    kinds = {"learned": LearnedCodebook, "projected": ProjectedCodebook}
    for table, kind in kinds.items():
        assert type(make_codebook(dataclasses.replace(tiny_spae.CONFIG, table=table), rows, 1.0)) is kind
    assert type(make_codebook(dataclasses.replace(tiny_spae.CONFIG, search="cosine"), rows, 1.0)) is CosineCodebook
    with pytest.raises(ValueError, match="needs table=frozen"):
        dataclasses.replace(tiny_spae.CONFIG, search="cosine", table="learned")
