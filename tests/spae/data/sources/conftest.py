import pytest

from tests.image_layouts import tar_bytes, write_files
from tests.spae.data.sources.labelled_tars import labelled


@pytest.fixture
def tars(tmp_path):
    files = {f"{i:05d}.tar": tar_bytes(labelled(4 * i, 4)) for i in range(3)}
    return write_files(tmp_path / "tars", {**files, "00000_stats.json": b"{}", "00000.parquet": b"x"})
