"""In which segments the words of a pyramid are drawn, and which words each of them sees (equation 11)."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How a pyramid is cut into segments, none of which crosses a layer.

    Progressive segments (PAR) see the condition and the words before them; those of the last layers may be parallel
    (PNAR): they see the layers before theirs, neither the condition nor each other.

    Attributes:
        stride: words of a progressive segment; 0 draws all words in one pass.
        history: words before a progressive segment that it sees; None for all.
        parallel_layers: last layers that are drawn in parallel; without effect in one pass.
        parallel_stride: words of a parallel segment.
    """

    stride: int = 4
    history: int | None = None
    parallel_layers: int = 1
    parallel_stride: int = 16

    def __post_init__(self) -> None:
        for name, least in (("stride", 0), ("history", 0), ("parallel_layers", 0), ("parallel_stride", 1)):
            if (value := getattr(self, name)) is not None and value < least:
                raise ValueError(f"{name}={value} must be {least} or more")


@dataclass(frozen=True)
class Segment:
    """Words start..stop of a pyramid, layer by layer, and the words that it sees.

    Attributes:
        start: first word.
        stop: behind the last one.
        seen: first word that it sees; the last one is `seen_stop` - 1.
        seen_stop: behind it.
        conditioned: whether it sees the condition too.
    """

    start: int
    stop: int
    seen: int
    seen_stop: int
    conditioned: bool = True


def waves(layer_sizes: Sequence[int], known_layers: int, decoding: Decoding) -> list[list[Segment]]:
    """Segments in the order in which they are drawn; those of one wave do not see each other.

    Args:
        layer_sizes: words of each layer that a picture has.
        known_layers: first ones, which need not be drawn.
        decoding: how.

    Raises:
        ValueError: there is nothing to draw.
    """
    if not 0 <= known_layers < len(layer_sizes):
        raise ValueError(f"{known_layers} of {len(layer_sizes)} layers are known; at least one must be left to draw")
    first, total = sum(layer_sizes[:known_layers]), sum(layer_sizes)
    if not decoding.stride:
        return [[Segment(first, total, 0, first)]]
    found, start = list[list[Segment]](), first
    for layer in range(known_layers, len(layer_sizes)):
        stop = start + layer_sizes[layer]
        if len(layer_sizes) - layer <= decoding.parallel_layers and start:
            cuts = range(start, stop, decoding.parallel_stride)
            found.append([Segment(at, min(at + decoding.parallel_stride, stop), 0, start, False) for at in cuts])
        else:
            history = total if decoding.history is None else decoding.history
            cuts = range(start, stop, decoding.stride)
            found += [[Segment(at, min(at + decoding.stride, stop), max(at - history, 0), at)] for at in cuts]
        start = stop
    return found
