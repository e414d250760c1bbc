"""Signs of a sick codebook, told once an epoch (facts 8.7): the ranges within which every measured good run stayed."""

from collections.abc import Sequence

from spae.codebook.usage import LayerUsage

TOP_SHARE = 0.5
"""A layer whose most used word takes more of its tokens has collapsed."""
RADIUS_RANGE = (0.5, 2.0)
"""|z| over the table's radius, root mean square at a layer's positions."""
REPEATS = 0.5
"""Share of positions at which the last layer chooses the word of the one before, where both have the same grid."""


def problems(usage: Sequence[LayerUsage], radii: Sequence[float], repeats: float | None) -> list[str]:
    """One sentence for each sign, none for a healthy codebook.

    Args:
        usage: of each layer over an epoch.
        radii: |z| over the table's radius of each layer.
        repeats: share of repeated words of the last layer; None where it has no equal before it.
    """
    found = []
    for number, (layer, radius) in enumerate(zip(usage, radii, strict=True), 1):
        if layer.top_share > TOP_SHARE:
            found.append(f"layer {number} has collapsed: one word takes {layer.top_share:.0%} of its tokens")
        if not RADIUS_RANGE[0] <= radius <= RADIUS_RANGE[1]:
            found.append(f"layer {number}: |z| is {radius:.2f} of the table's radius, outside {RADIUS_RANGE}")
    if repeats is not None and repeats > REPEATS:
        found.append(f"layer {len(usage)} repeats the word of the layer before at {repeats:.0%} of its positions")
    return found
