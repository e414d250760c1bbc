import pytest

from jobs import retries
from jobs.retries import persistently


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(retries, "PAUSES", (0, 0, 0))


def failing(*errors):
    """Work that raises each of the errors, then succeeds."""
    left = list(errors)

    def work():
        if left:
            raise left.pop(0)
        return "done"

    return work


def test_what_fails_for_a_while_succeeds_and_is_told(caplog):
    assert persistently("publishing a.parquet", failing(OSError("cut"), Exception("HttpError 503"))) == "done"
    assert "publishing a.parquet failed and is tried again: OSError('cut')" in caplog.text


def test_what_fails_for_good_raises_the_last_error():
    work = failing(*(OSError(str(number)) for number in range(9)))
    with pytest.raises(OSError, match="3"):
        persistently("reading", work)


@pytest.mark.parametrize("error", [ValueError("damaged"), FileNotFoundError("a.tar"), PermissionError("a.tar")])
def test_what_would_come_again_is_not_tried_again(error, caplog):
    with pytest.raises(type(error)):
        persistently("reading", failing(error))
    assert caplog.text == ""
