import logging
import os
import socket

import fsspec
import pytest
from gcp_storage_emulator.server import create_server

from tests.pipelines.unsteady import UnsteadyProxy


@pytest.fixture(autouse=True)
def _all_messages(caplog):
    caplog.set_level(logging.INFO)


@pytest.fixture
def google_storage(monkeypatch):
    """The URL of a bucket in a storage emulator that lives as long as the test."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    use_store(monkeypatch, port)
    server = create_server("localhost", port, in_memory=True, default_bucket="bucket")
    server.start()
    yield "gs://bucket"
    server.stop()


@pytest.fixture
def unsteady(google_storage, monkeypatch):
    """A proxy before that store, by which all requests go from now on, and which can answer 503."""
    with UnsteadyProxy(int(os.environ["STORAGE_EMULATOR_HOST"].rsplit(":", 1)[1])) as proxy:
        use_store(monkeypatch, proxy.port)
        yield proxy


def use_store(monkeypatch, port):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://localhost:{port}")
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # else gcsfs waits a minute for a gRPC answer
    for protocol in ("gs", "gcs"):
        monkeypatch.setitem(
            fsspec.config.conf, protocol, {"token": "anon", "endpoint_url": os.environ["STORAGE_EMULATOR_HOST"]}
        )
