import os
from pathlib import Path

import fsspec
import pytest

from spae.data.publishing import absolute, delete, join, list_files, publish, publishing, read_bytes


@pytest.fixture(params=["local", "memory"])
def folder(request, tmp_path):
    return str(tmp_path / "new") if request.param == "local" else f"memory://{tmp_path.name}"


def test_bytes_come_back_and_replace_what_stood_there(folder):
    url = join(folder, "deep", "file.bin")
    assert read_bytes(url) is None
    publish(url, b"first")
    publish(url, b"second")
    assert read_bytes(url) == b"second"
    assert list_files(join(folder, "deep")) == {"file.bin": 6}
    delete(url)
    delete(url)
    assert read_bytes(url) is None


def test_a_local_file_is_copied_whole(folder, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(os.urandom(100_000))
    publish(join(folder, "copy"), Path(source))
    assert read_bytes(join(folder, "copy")) == source.read_bytes()


def write_and_fail(url):
    with publishing(url) as file:
        file.write(b"half of the new")
        raise RuntimeError


def test_a_failed_block_leaves_the_old_content_and_no_trace(folder):
    url = join(folder, "file")
    publish(url, b"old")
    with pytest.raises(RuntimeError):
        write_and_fail(url)
    assert read_bytes(url) == b"old"
    assert list_files(folder) == {"file": 3}


def test_nothing_stands_at_the_name_while_it_is_written(tmp_path):
    url = str(tmp_path / "file")
    with publishing(url) as file:
        file.write(b"x")
        assert read_bytes(url) is None
        assert all(".tmp-" in name for name in list_files(str(tmp_path)))
    assert list_files(str(tmp_path)) == {"file": 1}


def test_listing_sees_what_another_instance_wrote_and_skips_folders(tmp_path):
    folder = f"memory://{tmp_path.name}"
    assert list_files(folder) == {}
    fsspec.filesystem("memory").pipe_file(f"/{tmp_path.name}/below/x", b"1")
    fsspec.filesystem("memory").pipe_file(f"/{tmp_path.name}/y", b"22")
    assert list_files(folder) == {"y": 2}


def test_urls(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert absolute("runs/x") == absolute(f"file://{tmp_path}/runs/x") == f"{tmp_path}/runs/x"
    assert absolute("gs://bucket/x") == "gs://bucket/x"
    assert join("gs://bucket/x/", "a", "b") == "gs://bucket/x/a/b"
    assert join("folder", "/absolute") == "/absolute"
    assert join("folder", "s3://bucket/x") == "s3://bucket/x"
