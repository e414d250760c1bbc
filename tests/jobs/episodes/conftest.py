import pytest

from tests.jobs.episodes.runs import save_splits


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return save_splits(tmp_path_factory.mktemp("incontext"))
