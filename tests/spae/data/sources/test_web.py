import email.utils
import time

import pytest

from spae.data.media import MediaError
from spae.data.sources import Entry, SourceSettings, web
from spae.data.sources.read_ahead import ReadAhead
from spae.data.sources.web import UNAVAILABLE, Web
from tests.image_layouts import jpegs
from tests.web_server import WebServer

LIMIT = 1 << 24
FILES = {f"{i}.jpg": data for i, data in enumerate(jpegs(24))}


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setattr(web, "FIRST_WAIT", 0.01)
    with WebServer(FILES).running() as server:
        yield server


def reason(url, patience=Web()):  # noqa: B008
    with pytest.raises(MediaError) as caught:
        patience.read(url, LIMIT)
    return caught.value.reason


def test_a_file_is_read_within_bounds(site):
    assert Web().read(f"{site.url}/0.jpg", LIMIT) == FILES["0.jpg"]
    assert Web().read(f"{site.url}/0.jpg", 7) == FILES["0.jpg"][:7]
    assert len(Web().read(f"{site.url}/endless/0.jpg", 5 << 20)) == 5 << 20


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 451])
def test_final_answers_are_not_asked_for_again(site, status):
    assert reason(f"{site.url}/{status}/0.jpg") == "cannot be read"
    assert site.asked[f"/{status}/0.jpg"] == 1


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_busy_server_is_asked_as_often_as_wished(site, status):
    path = f"/busy{status}-3/0.jpg"
    assert Web().read(f"{site.url}{path}", LIMIT) == FILES["0.jpg"]
    assert site.asked[path] == 4
    path = f"/busy{status}-3/1.jpg"
    assert reason(f"{site.url}{path}", Web(retries=2)) == UNAVAILABLE
    assert site.asked[path] == 3


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_server_is_left_alone_for_as_long_as_it_asks(site, form):
    date = email.utils.formatdate(time.time() + 2, usegmt=True)  # of whole seconds: one to two from now
    site.headers = {"Retry-After": "1" if form == "seconds" else date}
    begin = time.monotonic()
    assert Web().read(f"{site.url}/busy503-1/0.jpg", LIMIT) == FILES["0.jpg"]
    assert 0.9 < time.monotonic() - begin < 2.5
    assert site.asked["/busy503-1/0.jpg"] == 2


@pytest.mark.parametrize("said", ["3600", "Thu, 01 Jan 2099 00:00:00 GMT"])
def test_nobody_waits_for_an_hour(site, said):
    site.headers = {"Retry-After": said}
    assert reason(f"{site.url}/busy429-1/0.jpg") == UNAVAILABLE
    assert site.asked["/busy429-1/0.jpg"] == 1


@pytest.mark.parametrize("said", ["", "soon", "-5", "1e9", "Thu, 01 Jan 1970 00:00:00 GMT"])
def test_what_is_no_time_is_no_reason_to_wait(site, said):
    site.headers = {"Retry-After": said}
    begin = time.monotonic()
    assert Web().read(f"{site.url}/busy429-2/0.jpg", LIMIT) == FILES["0.jpg"]
    assert time.monotonic() - begin < 1


def test_a_silent_server_costs_its_time_and_no_more(site):
    begin = time.monotonic()
    assert reason(f"{site.url}/silent/0.jpg", Web(timeout=0.2)) == UNAVAILABLE
    assert time.monotonic() - begin < 2
    assert site.asked["/silent/0.jpg"] == 3
    assert reason("http://localhost:1/a.jpg") == UNAVAILABLE


def test_what_is_no_url_cannot_be_read():
    assert reason("http://[bad/a.jpg") == "cannot be read"


def many(site, kind="slow"):
    return [Entry(f"{i}", f"{site.url}/{kind}/{i}.jpg") for i in range(len(FILES))]


@pytest.mark.parametrize("count", [1, 3, 8])
def test_several_inputs_are_fetched_at_once_in_their_order(site, tmp_path, count):
    settings = SourceSettings(name="list", url=str(tmp_path / "list.csv"), split="train", fetches=count)
    entries, site.crowd = many(site), count
    with settings.reading(entries) as source:
        assert [source.read(entry, LIMIT) for entry in entries] == list(FILES.values())
    assert site.at_once == count


def test_an_error_is_raised_where_its_input_is_read(site, tmp_path):
    (tmp_path / "list.txt").write_text(
        "\n".join(f"{site.url}/{p}" for p in ("0.jpg", "403/1.jpg", "2.jpg", "x", "3.jpg"))
    )
    settings = SourceSettings(name="list", url=str(tmp_path / "list.txt"), split="train", fetches=4)
    entries = list(settings.open().entries())
    found = []
    with settings.reading(entries) as source:
        for entry in entries:
            try:
                found.append(source.read(entry, LIMIT))
            except MediaError as error:
                found.append(error.reason)
    assert found == [FILES["0.jpg"], "cannot be read", FILES["2.jpg"], "cannot be read", FILES["3.jpg"]]


def test_inputs_that_are_passed_over_or_unknown_are_no_obstacle(site, tmp_path):
    entries = many(site)
    ahead = ReadAhead(SourceSettings(name="list", url=str(tmp_path / "a.csv"), split="train").open(), entries, 4)
    for number in (0, 5, 6, 20, 3, 23):
        assert ahead.read(entries[number], LIMIT) == FILES[f"{number}.jpg"]
    assert ahead.read(Entry("other", f"{site.url}/7.jpg"), LIMIT) == FILES["7.jpg"]
    ahead.close()


def test_files_of_this_machine_are_read_one_by_one(tmp_path):
    settings = SourceSettings(name="folder", url=str(tmp_path), split="train", fetches=8)
    with settings.reading([Entry("a", "a.jpg")]) as source:
        assert source == settings.open()


@pytest.mark.parametrize("flag", [{"timeout": 0.0}, {"retries": -1}, {"fetches": 0}])
def test_patience_has_bounds(flag):
    with pytest.raises(ValueError, match=f"--{next(iter(flag))} .* must be at least"):
        SourceSettings(name="list", url="a.csv", split="train", **flag)
