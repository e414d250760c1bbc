import pytest
import torch

from pipelines.features.parts import VectorParts
from pipelines.words import endpoint
from pipelines.words.endpoint import EndpointFlags, EndpointRows
from pipelines.words.tokens import RowsError
from tests.embeddings_server import WIDTH, serving, vector

WORDS = [f"word{number}" for number in range(10)]
EXPECTED = torch.tensor([vector(word) for word in WORDS])


@pytest.fixture
def server():
    with serving() as state:
        yield state


@pytest.fixture
def ask(server, tmp_path):
    """Ask for the rows of words; keywords are flags of the endpoint."""

    def rows(words=WORDS, **flags):
        values = {"embeddings_batch": 4, "embeddings_attempts": 3, "embeddings_timeout": 0.4, **flags}
        values = EndpointFlags(embeddings_endpoint=server.url, embeddings_model="ada", **values)
        source = EndpointRows(values, VectorParts(str(tmp_path / "parts" / "rows")), first_pause=0.01)
        return source.rows(words, range(len(words)))

    return rows


def test_rows_come_in_the_order_of_the_words(server, ask, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    server.faults[:] = ["shuffled"]
    assert torch.equal(ask(), EXPECTED)
    assert [request["input"] for request in server.requests] == [WORDS[:4], WORDS[4:8], WORDS[8:]]
    assert {request["model"] for request in server.requests} == {"ada"}
    assert {headers["Authorization"] for headers in server.headers} == {"Bearer secret"}


def test_the_key_goes_nowhere_else(server, ask, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("MY_KEY", "secret-key")
    server.faults[:] = ["500", "401"]
    with pytest.raises(RowsError, match=r"refused the request with status 401: .*too many") as error:
        ask(embeddings_key_variable="MY_KEY")
    assert "secret-key" not in str(error.value) + caplog.text
    ask(embeddings_key_variable="MY_KEY")
    assert all(b"secret-key" not in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    monkeypatch.delenv("MY_KEY")
    server.requests.clear()
    ask(["other"], embeddings_key_variable="MY_KEY")
    assert "Authorization" not in server.headers[-1]


@pytest.mark.parametrize("fault", ["500", "503", "429", "429 Retry-After=0", "late", "drip", "cut", "hang up", "408"])
def test_what_may_go_well_another_time_is_tried_again(server, ask, fault):
    server.faults[:] = ["", fault, fault]
    assert torch.equal(ask(), EXPECTED)
    assert len(server.requests) == 3 + 2


@pytest.mark.parametrize("fault", ["500", "429", "late", "cut"])
def test_a_rerun_asks_for_the_rest_alone(server, ask, fault):
    server.faults[:] = ["", *[fault] * 3]
    with pytest.raises(RowsError, match=r"failed 3 times, at last with .* asks for the rest only"):
        ask()
    server.requests.clear()
    assert torch.equal(ask(embeddings_batch=5), EXPECTED)
    assert [request["input"] for request in server.requests] == [WORDS[4:9], WORDS[9:]]
    server.requests.clear()
    assert torch.equal(ask(list(reversed(WORDS))), EXPECTED.flip(0))
    assert server.requests == []


def test_a_rate_limit_is_waited_for_as_long_as_it_asks(server, ask, monkeypatch):
    pauses = []
    monkeypatch.setattr(endpoint.time, "sleep", pauses.append)
    server.faults[:] = ["429 Retry-After=7", "429 Retry-After=Wed,01-Jan-2020", "500", "500"]
    ask(["one"], embeddings_attempts=5)
    assert pauses == [7.0, 0.02, 0.04, 0.08], "a date that cannot be read counts as none"
    server.faults[:] = ["429 Retry-After=4000"]
    with pytest.raises(RowsError, match=r"failed 1 times, .* may be asked again in 4000 s"):
        ask(["two"])


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("fewer", "3 rows, with other indices than 0 to 3"),
        ("twice", "other indices"),
        ("ragged", "not one row a word"),
        ("wider", "rows are 7 wide, those before 6"),
        ("nan", "hold NaN"),
        ("huge number", "hold NaN"),
        ("text", "not one row a word"),
        ("huge", "answers more than"),
        ("not json", "not one row a word: JSONDecodeError"),
        ("other json", "not one row a word: KeyError"),
        ("400", "refused the request with status 400"),
        ("302 Location=http://127.0.0.1:9/", "refused the request with status 302"),
    ],
)
def test_a_wrong_answer_is_one_clear_error_and_costs_no_finished_batch(server, ask, fault, reason):
    server.faults[:] = ["", fault]
    with pytest.raises(RowsError, match=reason):
        ask(embeddings_timeout=5.0)
    assert len(server.requests) == 2, "asking again would cost and change nothing"
    assert torch.equal(ask(), EXPECTED)
    assert len(server.requests) == 4


def test_a_damaged_part_is_asked_for_anew(server, ask, tmp_path, caplog):
    ask()
    part = next(file for file in tmp_path.rglob("*-2.safetensors"))
    part.write_bytes(b"")
    server.requests.clear()
    assert torch.equal(ask(), EXPECTED)
    assert "is damaged" in caplog.text
    assert sum(len(request["input"]) for request in server.requests) == 2


def test_the_estimate_is_of_what_is_not_there_yet(server, ask, tmp_path):
    ask(WORDS[:4])
    flags = EndpointFlags(
        embeddings_endpoint=server.url, embeddings_model="ada", embeddings_batch=4, embeddings_price=100_000.0
    )
    source = EndpointRows(flags, VectorParts(str(tmp_path / "parts" / "rows")))
    text = source.estimate(WORDS)
    assert text.startswith("6 words to embed by ada by 127.0.0.1")
    assert "about 12 tokens in 2 requests, 1.2000 at --embeddings-price 100000" in text
    assert len(server.requests) == 1
    source.clear()
    assert not (tmp_path / "parts").exists()
    assert EXPECTED.shape[1] == WIDTH


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ({"embeddings_endpoint": "http://host/v1"}, "belong together"),
        ({"embeddings_endpoint": "http://me:key@host/v1", "embeddings_model": "ada"}, "without user"),
        ({"embeddings_endpoint": "http://host/v1?key=1", "embeddings_model": "ada"}, "without user"),
        ({"embeddings_endpoint": "file:///etc/passwd", "embeddings_model": "ada"}, r"http\(s\)"),
        ({"embeddings_batch": 0}, "--embeddings-batch 0 must be above 0"),
    ],
)
def test_flags_that_make_no_endpoint_are_named(flags, reason):
    with pytest.raises(ValueError, match=reason):
        EndpointFlags(**flags)
