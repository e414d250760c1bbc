import dataclasses
import hashlib

import pytest

from jobs import judges
from spae.judges import catalogue
from spae.judges.catalogue import CATALOGUE, fetch_weights, load_judge
from tests.loopback import QuietHandler, serving_on_loopback


@pytest.fixture
def entry(tmp_path, monkeypatch):
    """An entry whose file a server on this machine has."""
    monkeypatch.setenv("SPAE_JUDGES", str(tmp_path / "judges"))

    class Handler(QuietHandler):
        def do_GET(self):
            found = self.path == "/a.pth"
            self.send_response(200 if found else 404)
            self.send_header("Content-Length", "7" if found else "0")
            self.end_headers()
            self.wfile.write(b"weights" if found else b"")

        do_HEAD = do_GET

    with serving_on_loopback(Handler) as address:
        sha256 = hashlib.sha256(b"weights").hexdigest()
        yield dataclasses.replace(CATALOGUE["lpips-alex"], url=f"{address}/a.pth", sha256=sha256[:8])


def test_what_is_missing_is_told_with_its_licence_and_place(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SPAE_JUDGES", str(tmp_path))
    assert judges.main([]) == 0
    text = capsys.readouterr().out
    for entry in CATALOGUE.values():
        assert entry.licence in text
    assert "efficientnet-lite0: here" in text
    assert "inception-v3: MISSING" in text
    assert str(tmp_path / "weights-inception-2015-12-05-6726825d.pth") in text
    assert "--get inception-v3" in text
    assert "compare with nothing" in text


def test_weights_are_fetched_checked_and_put_in_their_place(entry):
    place = fetch_weights(entry)
    assert entry.is_here()
    with open(place, "rb") as file:
        assert file.read() == b"weights"


def test_another_file_is_not_kept(entry, caplog, monkeypatch):
    other = dataclasses.replace(entry, sha256="0000")
    monkeypatch.setitem(catalogue.CATALOGUE, "lpips-alex", other)
    assert judges.main(["--get", "lpips-alex"]) == 1
    assert "0000 is wanted; nothing was written" in caplog.text
    assert not other.is_here()
    with pytest.raises(ValueError, match="put the file at"):
        fetch_weights(dataclasses.replace(entry, url=entry.url + ".not"))


def test_names_and_missing_weights_are_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SPAE_JUDGES", str(tmp_path))
    with pytest.raises(ValueError, match="there are inception-v3, "):
        load_judge("inception")
    with pytest.raises(ValueError, match="--get inception-v3"):
        load_judge("inception-v3")
    with pytest.raises(ValueError, match="cannot be read"):
        load_judge(f"inception-v3={tmp_path}/nothing.pth")
    with pytest.raises(SystemExit):
        judges.main(["--get", "tiny"])
    assert "--get tiny is none of" in capsys.readouterr().err
