import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spae.config import check_grids
from spae.pyramid import TokenPyramid, disjoint_groups, nearest_covered, positions
from tests import reference

PAPER = [(1, 1), (2, 2), (4, 4), (8, 8), (16, 16), (16, 16)]


def pyramid(grids, batch=3):
    return TokenPyramid(tuple(torch.randint(0, 99, (batch, *grid)) for grid in grids))


@pytest.mark.parametrize("side", [1, 2, 4, 8, 16])
def test_positions_are_those_of_equation_1(side):
    expected = [16 * y + x for y, x in reference.layer_positions((16, 16), (side, side))]
    assert positions((side, side), (16, 16)).tolist() == expected


def test_positions_of_a_clip_are_the_product_of_its_axes():
    expected = [t * 256 + y * 16 + x for t in (1, 3) for y in range(1, 16, 2) for x in range(1, 16, 2)]
    assert positions((2, 8, 8), (4, 16, 16)).tolist() == expected


def test_the_papers_first_four_layers_are_disjoint_and_the_last_two_cover_all():
    places = [set(positions(grid, (16, 16)).tolist()) for grid in PAPER]
    assert all(not a & b for a, b in itertools.combinations(places[:4], 2))
    assert len(set().union(*places[:4])) == 85
    assert places[4] == places[5] == set(range(256))
    assert disjoint_groups(PAPER, (16, 16)) == [[0, 1, 2, 3], [4], [5]]


def test_flatten_goes_layer_by_layer_in_raster_order():
    layers = (torch.tensor([[[7]]]), torch.arange(4).reshape(1, 2, 2))
    assert TokenPyramid(layers).flatten().tolist() == [[7, 0, 1, 2, 3]]
    assert TokenPyramid(layers).flatten(layers=1).tolist() == [[7]]


@given(sides=st.lists(st.sampled_from([1, 2, 4, 8]), min_size=1, max_size=4), batch=st.integers(0, 3))
def test_from_flat_undoes_flatten(sides, batch):
    grids = [(side, side) for side in sorted(sides)]
    original = pyramid(grids, batch)
    again = TokenPyramid.from_flat(original.flatten(), grids)
    assert again.grids == original.grids == tuple(grids)
    assert all(torch.equal(a, b) for a, b in zip(again.layers, original.layers, strict=True))


def test_prefix_keeps_the_first_layers():
    original = pyramid(PAPER)
    assert torch.equal(original.prefix(3).flatten(), original.flatten(layers=3))
    assert original.prefix(6).depth == original.depth == 6


@pytest.mark.parametrize("layers", [0, 7, -1])
def test_a_number_of_layers_outside_the_pyramid_is_named(layers):
    with pytest.raises(ValueError, match=f"layers={layers} is outside 1 to 6"):
        pyramid(PAPER).prefix(layers)


def test_ids_that_do_not_fill_the_grids_are_refused():
    with pytest.raises(ValueError, match="they hold 5"):
        TokenPyramid.from_flat(torch.zeros(1, 6), [(1, 1), (2, 2)])


def test_float_ids_and_mixed_batches_are_refused():
    with pytest.raises(ValueError, match="int64"):
        TokenPyramid((torch.zeros(1, 1, 1),))
    with pytest.raises(ValueError, match="no pyramid"):
        TokenPyramid((torch.zeros(1, 1, 1).long(), torch.zeros(2, 2, 2).long()))


@pytest.mark.parametrize("grids", [[(4, 4), (2, 2)], [(3, 3), (16, 16)], [(1, 1, 1), (16, 16)]])
def test_shrinking_or_uneven_grids_are_refused(grids):
    with pytest.raises(ValueError, match=r"coarse to fine|does not divide|shorter|longer"):
        check_grids(grids, (16, 16))


def test_nearest_covered_is_itself_where_covered_and_the_closest_elsewhere():
    source = nearest_covered([(1, 1), (2, 2)], (4, 4))
    covered = {5, 7, 10, 13, 15}
    assert {int(source[i]) for i in covered} == covered
    assert set(source.tolist()) == covered
    for position, found in enumerate(source.tolist()):
        distances = {c: (c // 4 - position // 4) ** 2 + (c % 4 - position % 4) ** 2 for c in covered}
        assert found == min(distances, key=lambda c: (distances[c], c))


def test_a_sample_is_a_batch_of_one():
    ids = torch.arange(15).view(3, 5)
    pyramid = TokenPyramid.from_flat(ids, ((1, 1), (2, 2)))
    assert pyramid[1].flatten().tolist() == [[5, 6, 7, 8, 9]]
    assert pyramid[-1] == pyramid[2:3]
    assert [len(one) for one in pyramid] == [1, 1, 1]
    with pytest.raises(IndexError):
        _ = pyramid[3]


def test_pyramids_are_equal_where_all_ids_are():
    ids = torch.arange(15).view(3, 5)
    pyramid = TokenPyramid.from_flat(ids, ((1, 1), (2, 2)))
    assert pyramid == TokenPyramid.from_flat(ids.clone(), ((1, 1), (2, 2)))
    assert pyramid != TokenPyramid.from_flat(ids + 1, ((1, 1), (2, 2)))
    assert pyramid != pyramid.prefix(1)
    assert pyramid != "pyramid"
    with pytest.raises(TypeError, match="unhashable"):
        hash(pyramid)


def test_arrays_and_back():
    pyramid = TokenPyramid.from_flat(torch.arange(15).view(3, 5), ((1, 1), (2, 2)))
    arrays = pyramid.to_arrays()
    assert [(one.dtype.name, one.shape) for one in arrays] == [("int32", (3, 1, 1)), ("int32", (3, 2, 2))]
    assert TokenPyramid.from_arrays(arrays) == pyramid
