import pytest
import ray

from jobs.cluster import connect, lend_cluster
from tests.clusters import free_port


@pytest.fixture(autouse=True)
def _unconnected():
    assert not ray.is_initialized(), "an earlier test left its Ray connected"


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_where_nothing_answers_is_a_clear_error(form):
    with pytest.raises(ValueError, match=r"no Ray cluster answers at '.*127\.0\.0\.1:\d+'.*leave the address out"):
        connect(form.format(free_port()))


def test_the_environment_names_the_cluster(monkeypatch):
    place = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("RAY_ADDRESS", place)
    with pytest.raises(ValueError, match=place):
        connect(num_cpus=1)


def test_a_cluster_that_the_environment_names_is_lent_as_it_is(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "somewhere:1")
    with lend_cluster(num_cpus=1) as environment:
        assert environment == {}
        assert not ray.is_initialized()
