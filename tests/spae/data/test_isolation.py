"""A process that its work may kill."""

import os
import pickle
import signal

import pytest

from spae.data.isolation import IsolatedProcess
from spae.data.media import MediaError


def work(number):
    """Kills its process, raises, or tells where it ran."""
    if number == 13:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 14:
        raise MediaError("broken video", "frame 3")
    return number, os.getpid()


def test_what_kills_its_process_costs_one_error_and_the_next_call_works():
    with IsolatedProcess() as process:
        number, first = process.call(work, 1)
        assert (number, first != os.getpid()) == (1, True)
        with pytest.raises(MediaError, match="killed its process: 2 times"):
            process.call(work, 13)
        assert process.call(work, 2)[0] == 2
        assert process.call(work, 2)[1] == process.call(work, 3)[1] != first


def test_errors_come_back_as_they_were_raised():
    with IsolatedProcess() as process, pytest.raises(MediaError) as caught:
        process.call(work, 14)
    assert (caught.value.reason, str(caught.value)) == ("broken video", "broken video: frame 3")
    again = pickle.loads(pickle.dumps(MediaError("empty file")))
    assert (again.reason, str(again)) == ("empty file", "empty file")
