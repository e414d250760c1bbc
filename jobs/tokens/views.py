"""Views of a picture: it as it is, and crops and mirror images of it, the same for whoever draws them."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from spae.data.media import decode_image, fit_image

SMALLEST_SIDE = 0.6
"""Of a crop, as share of the side of view 0."""


def view_box(seed: int, key: str, view: int) -> NDArray[np.float32]:
    """Left, top, right, bottom of a view as shares of view 0, float32 (4,); of a mirrored one left is over right.

    View 0 is the whole. The others depend on seed, key and view alone: a square share of the sides from
    `SMALLEST_SIDE` to 1, anywhere, mirrored with probability a half.
    """
    if view == 0:
        return np.array([0, 0, 1, 1], np.float32)
    digest = hashlib.sha256(f"{seed} {view} {key}".encode(errors="surrogatepass")).digest()
    draws = np.random.default_rng(int.from_bytes(digest))
    side = draws.uniform(SMALLEST_SIDE, 1)
    left, top = draws.uniform(0, 1 - side, 2)
    across = (left, left + side) if draws.random() < 0.5 else (left + side, left)
    return np.array([across[0], top, across[1], top + side], np.float32)


def cut_view(picture: NDArray[np.uint8], box: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.uint8]:
    """A view of uint8 (H, W, 3) at (height, width); its edges are rounded to pixels of the picture."""
    height, width = picture.shape[:2]
    scale = min(height / size[0], width / size[1])
    whole = np.array([size[1], size[0]]) * scale  # view 0: the largest part of the picture that has the size's shape
    shares = np.sort(box.astype(np.float64).reshape(2, 2), axis=0)
    (left, top), (right, bottom) = (
        ((np.array([width, height]) - whole) / 2 + shares * whole).round().astype(int).tolist()
    )
    fitted = fit_image(np.ascontiguousarray(picture[top : max(bottom, top + 1), left : max(right, left + 1)]), size)
    return np.ascontiguousarray(fitted[:, ::-1]) if box[0] > box[2] else fitted


def cut_views(
    key: str, picture: NDArray[np.uint8], size: tuple[int, int], views: int, seed: int
) -> list[NDArray[np.uint8]]:
    """All views of a picture, uint8 (height, width, 3) each, view 0 first: the picture as without views."""
    others = (view_box(seed, key, view) for view in range(1, views))
    return [fit_image(picture, size), *(cut_view(picture, box, size) for box in others)]


def decode_views(key: str, media: bytes, *, size: tuple[int, int], views: int, seed: int) -> list[NDArray[np.uint8]]:
    """The same of an encoded picture; MediaError where it cannot be decoded."""
    return cut_views(key, decode_image(media), size, views, seed)
