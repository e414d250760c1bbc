"""What a table or figure of the paper is made of: commands to run, and cells read from what they write."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

Document = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A figure of ours beside the paper's.

    Attributes:
        layers, column: where it stands.
        value: in the table's unit; None where it could not be made.
        low, high: its 95% interval.
        count: of what it was measured on.
        reason: why there is no value, or what is wrong with it.
        row: of the paper's table, where it has several of as many layers.
        picture: file below the output that shows the row.
        published: the paper's figures for it, by system.
        digits: significant ones to show; 0 for one behind the point.
    """

    layers: int
    column: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    count: int = 0
    reason: str = ""
    row: str = ""
    picture: str = ""
    published: Mapping[str, float] = field(default_factory=dict)
    digits: int = 0

    @property
    def reach(self) -> float:
        """Half the width of the interval, before it was cut at the ends of the scale; 0 without one."""
        if self.value is None or self.low is None or self.high is None:
            return 0.0
        return max(self.value - self.low, self.high - self.value)

    @property
    def differences(self) -> dict[str, float]:
        """Ours minus each of the paper's, none where there is no value."""
        value = self.value
        return {} if value is None else {system: value - theirs for system, theirs in self.published.items()}


@dataclass(frozen=True, kw_only=True)
class Run:
    """A command that measures a row.

    Attributes:
        layers: whose words or pictures it is about.
        row: of the paper's table, where it has several of as many layers.
        module: of the command.
        folder: below the output, that it writes.
        document: in this folder, that it leaves.
        flags: beside the folder, the settings and those that are handed on.
        settings: columns; none where the command has no such flag.
        overriding: flags that stand in for those that are handed on.
        output_is_document: whether its --output is the document, and not the folder.
    """

    layers: int
    module: str
    folder: str
    document: str
    flags: tuple[str, ...]
    settings: tuple[str, ...]
    output_is_document: bool = False
    overriding: tuple[str, ...] = ()
    row: str = ""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a reproduction is asked for.

    Attributes:
        layers: none for those that the paper tells of.
        task: to measure another than the paper's, on pictures of one's own.
        released: whether there are files that others released, instead of shards.
        baselines: folders of other models to compare with, by name.
        models: folder of models, one a row of the ablation table, as `jobs.ablate` leaves them.
    """

    layers: tuple[int, ...] = ()
    task: str | None = None
    released: bool = False
    baselines: Mapping[str, str] = field(default_factory=dict)
    models: str | None = None


class Reproduction(Protocol):
    """A table or figure."""

    @property
    def title(self) -> str:
        """What it shows."""

    @property
    def unit(self) -> str:
        """Of its values."""

    @property
    def notes(self) -> Sequence[str]:
        """What keeps our figures and the paper's apart, in sentences."""

    @property
    def paper(self) -> Mapping[str, str]:
        """How the paper measured, by aspect."""

    def runs(self, inputs: Inputs) -> list[Run]:
        """The commands that measure it; ValueError where the inputs do not suffice."""

    def cells(self, run: Run, document: Document | None, reason: str) -> list[Cell]:
        """Of a run, from the document that it left, or empty ones for the reason."""

    def here(self, document: Document) -> Mapping[str, str]:
        """How a run measured, by the paper's aspects."""

    def picture(self, cells: Sequence[Cell], output: str) -> bytes | None:
        """A PNG, where it is a figure, of the cells or of what the runs left in the output."""
