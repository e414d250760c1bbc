import logging
import os
import socket

import fsspec
import pytest
from gcp_storage_emulator.server import create_server


@pytest.fixture(autouse=True)
def _all_messages(caplog):
    caplog.set_level(logging.INFO)


@pytest.fixture
def google_storage(monkeypatch):
    """The URL of a bucket in a storage emulator that lives as long as the test."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://localhost:{port}")
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # else gcsfs waits a minute for a gRPC answer
    for protocol in ("gs", "gcs"):
        monkeypatch.setitem(
            fsspec.config.conf, protocol, {"token": "anon", "endpoint_url": os.environ["STORAGE_EMULATOR_HOST"]}
        )
    server = create_server("localhost", port, in_memory=True, default_bucket="bucket")
    server.start()
    yield "gs://bucket"
    server.stop()
