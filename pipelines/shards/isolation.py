"""Samples made in a process of their own, which inputs may kill without the worker."""

from pipelines.planning.plan import ShardSettings
from pipelines.shards.inputs import InputMaker, Made
from spae.data.isolation import IsolatedProcess
from spae.data.media import MediaError
from spae.data.records import ClassName
from spae.data.sources import Entry


class IsolatedMaker:
    """Makes samples in a process of its own; an input that kills it twice is a dead letter. A context manager."""

    def __init__(self, settings: ShardSettings, classes: tuple[ClassName, ...]) -> None:
        self._process = IsolatedProcess(_open_maker, settings, classes)

    def __enter__(self) -> "IsolatedMaker":
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.__exit__(*exception)

    def make(self, entry: Entry) -> Made:
        """As `InputMaker.make`."""
        try:
            return self._process.call(_make, entry)
        except MediaError as error:
            return Made(reason=error.reason, details=str(error))


def _open_maker(settings: ShardSettings, classes: tuple[ClassName, ...]) -> None:
    global _maker
    _maker = InputMaker(settings.source.open(), settings.samples, classes)


def _make(entry: Entry) -> Made:
    return _maker.make(entry)


_maker: InputMaker
