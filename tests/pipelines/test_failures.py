"""What cannot be done ends in one line and the right status: 2 where other arguments mend it, 1 where work failed."""

import contextlib
import errno
import http.server
import os
import resource
import threading

import pytest

from pipelines.failures import one_line, status_before_work, status_of_work
from pipelines.images import main as images
from pipelines.planning.order import NoRoomError
from pipelines.verify import main as verify
from pipelines.videos import main as videos
from pipelines.vocabulary import main as vocabulary
from tests.pipelines.conftest import use_store
from tests.pipelines.folders import digit_folder, digits, folder, tree_hashes

DATAFLOW = ["--runner=DataflowRunner", "--project=spae-project", "--region=europe-west4", "--temp_location=gs://b/t"]


def the_error(caplog):
    """The one line that was logged as an error."""
    (record,) = [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]
    assert record.exc_info is None
    assert "\n" not in record.getMessage()
    return record.getMessage()


@pytest.mark.parametrize(
    ("given", "output", "overlap"),
    [
        ("data/train", "data", True),
        ("data", "data", True),
        ("data/train/deep", "data", True),
        ("data/train/*.tar", "data", True),
        ("data/*/*.tar", "data", True),
        ("data/{train,val}/*.tar", "data", False),  # braces are the source's to know
        ("link/train", "data", True),
        ("data", "link/below", True),
        ("data/raw", "data", False),
        ("data/train-raw", "data", False),
        ("data/list.csv", "data", False),
        ("data", "shards", False),
    ],
)
def test_inputs_and_the_folder_of_the_split_lie_apart(given, output, overlap, tmp_path, caplog):
    (tmp_path / "data/train").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "data")
    command = ["--source", "webdataset", "--input", f"{tmp_path}/{given}", "--output", f"{tmp_path}/{output}"]
    assert images([*command, "--split", "train", "--dry-run"]) == 2  # there is nothing
    assert ("overlap" in the_error(caplog)) == overlap


def test_a_split_that_is_its_own_input_keeps_it_whatever_is_given(tmp_path):
    source = digit_folder(tmp_path / "data/train", 8)
    before = tree_hashes(source)
    for flags in ([], ["--replace"]):
        assert folder(source, tmp_path / "data", *flags) == 2
    assert tree_hashes(source) == before


def test_stores_are_one_place_by_all_their_names(caplog):
    command = ["--source", "folder", "--input", "gcs://bucket/train/", "--output", "gs://bucket", "--split", "train"]
    assert images(command) == 2
    assert "overlap" in the_error(caplog)


@pytest.mark.parametrize("flag", ["--input", "--output", "--annotations"])
def test_dataflow_gets_no_place_of_this_machine(flag, tmp_path, caplog):
    places = {"--input": "gs://b/in", "--output": "gs://b/out", "--annotations": "gs://b/k.csv", flag: str(tmp_path)}
    command = ["--source", "kinetics", "--split", "train", *DATAFLOW]
    assert videos([*command, *(part for pair in places.items() for part in pair)]) == 2
    assert f"{flag} {tmp_path} is on this machine, which Dataflow's workers do not see" in the_error(caplog)


def test_the_vocabulary_neither(tmp_path, caplog):
    assert vocabulary(["--llm", "nothing", "--output", str(tmp_path), *DATAFLOW]) == 2
    assert "which Dataflow's workers do not see" in the_error(caplog)


@pytest.mark.parametrize("runner", ["NoSuchRunner", "no.such.Runner"])
def test_an_unknown_runner_is_named(runner, tmp_path, caplog):
    assert digits(tmp_path, "--runner", runner) == 2
    assert runner.split(".")[0] in the_error(caplog)
    assert not any(tmp_path.iterdir())


class Refusing(http.server.BaseHTTPRequestHandler):
    """A store that answers every request with 401."""

    def do_GET(self):
        body = b'{"error": {"code": 401, "message": "Login Required"}}'
        self.send_response(401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *arguments):
        pass


@pytest.fixture
def refusing(monkeypatch):
    server = http.server.ThreadingHTTPServer(("localhost", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    use_store(monkeypatch, server.server_port)
    yield
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("flags", [[], ["--dry-run"]])
def test_a_store_that_refuses_is_one_line(flags, refusing, tmp_path, caplog):
    assert folder("gs://bucket-that-refuses/photos", tmp_path, *flags) == 2
    assert "Login Required" in the_error(caplog)
    caplog.clear()
    assert digits("gs://bucket-that-refuses/shards") == 2
    assert "cannot write to gs://bucket-that-refuses/shards/val" in the_error(caplog)
    caplog.clear()
    assert verify(["gs://bucket-that-refuses/shards/val"]) == 2
    assert "Login Required" in the_error(caplog)


class HttpError(Exception):
    """As gcsfs has it, which must not be imported before a test has set its environment."""

    def __init__(self, message, code):
        super().__init__(message)
        self.code = code


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("no such class"), 2),
        (ImportError("Install s3fs to access S3"), 2),
        (FileNotFoundError("gs://bucket/photos"), 2),
        (PermissionError("Access Denied"), 2),
        (OSError("Forbidden: bucket\nyou lack storage.objects.list"), 2),
        (HttpError("Invalid Credentials", 401), 2),
        (HttpError("Service Unavailable", 503), 1),
        (OSError(errno.ENOSPC, "No space left on device"), 1),
        (ConnectionResetError("by peer"), 1),
        (TimeoutError(), 1),
        (NoRoomError("no room to plan"), 1),
    ],
)
def test_the_status_tells_whether_other_arguments_would_mend_it(error, status, caplog):
    assert status_before_work(error) == status
    assert the_error(caplog) == one_line(error) != ""


def test_mistakes_of_the_program_keep_their_traceback(caplog):
    with pytest.raises(KeyError):
        status_before_work(KeyError("key"))
    worker = "Traceback (most recent call last):\n  File ...\nRuntimeError: {} [while running 'Shards/Write']\n"
    for text, is_told in (("AttributeError: 'x' has no 'y'", True), ("spae.StoreError: cannot read x", False)):
        caplog.clear()
        assert status_of_work(RuntimeError(worker.format(text))) == 1
        (record,) = caplog.records
        assert bool(record.exc_info) == is_told
        assert record.getMessage().startswith(f"the run failed: {text.rpartition('spae.')[2]} [while")


@contextlib.contextmanager
def files_of_at_most(size):
    """No file can grow further, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_is_full_while_listing(tmp_path, caplog):
    with files_of_at_most(1000):
        assert digits(tmp_path, "--dry-run") == 1
    assert "TMPDIR names another disk" in the_error(caplog)


def test_a_disk_that_is_full_while_writing(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("pipelines.shards.transform.PAUSES", (0.0,))
    with files_of_at_most(100_000):
        assert digits(tmp_path) == 1
    assert "File too large" in the_error(caplog)
    assert f"{tmp_path}/val/val-000000.tar" in the_error(caplog)
    assert not any(".tmp-" in name or name.endswith(".tar") for name in os.listdir(tmp_path / "val"))
    assert digits(tmp_path) == 0
