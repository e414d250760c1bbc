"""What others make of pictures at the price of so many words: JPEG, WebP, and bicubic down and up again."""

import io
import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

Picture = NDArray[np.uint8]


def rebuild(name: str, pixels: Tensor, words: int, vocabulary: int) -> tuple[Tensor, int]:
    """What a codec makes of uint8 pictures (B, 3, H, W), and the bits that it takes for all of them.

    Args:
        name: of `CODECS`.
        pixels: the originals.
        words: that a model has for a picture.
        vocabulary: words that it chooses from; a word is worth log2 of it in bits.
    """
    made = [
        CODECS[name](picture, words, words * math.log2(vocabulary)) for picture in pixels.permute(0, 2, 3, 1).numpy()
    ]
    pictures = torch.from_numpy(np.stack([picture for picture, _ in made])).permute(0, 3, 1, 2).contiguous()
    return pictures, sum(bits for _, bits in made)


def _file_format(kind: str) -> Callable[[Picture, int, float], tuple[Picture, int]]:
    def code(picture: Picture, words: int, bits: float) -> tuple[Picture, int]:
        """The best quality that fits the bits, the file's header included; the lowest where none does."""
        image, low, high = Image.fromarray(picture), 1, 95
        best = _encoded(image, kind, low)
        while low < high:
            middle = (low + high + 1) // 2
            data = _encoded(image, kind, middle)
            if 8 * len(data) <= bits:
                best, low = data, middle
            else:
                high = middle - 1
        with Image.open(io.BytesIO(best)) as decoded:
            return np.asarray(decoded.convert("RGB")), 8 * len(best)

    return code


def _encoded(image: Image.Image, kind: str, quality: int) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, quality=quality, **({"optimize": True} if kind == "JPEG" else {"method": 4}))
    return sink.getvalue()


def _bicubic(picture: Picture, words: int, bits: float) -> tuple[Picture, int]:
    """As many values as words: a picture of fewer pixels, each of three bytes."""
    height, width = picture.shape[:2]
    scale = min(1.0, math.sqrt(words / 3 / (height * width)))
    size = (max(1, int(width * scale + 1e-9)), max(1, int(height * scale + 1e-9)))
    small = Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC)
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)), 24 * size[0] * size[1]


CODECS: dict[str, Callable[[Picture, int, float], tuple[Picture, int]]] = {
    "jpeg": _file_format("JPEG"),
    "webp": _file_format("WEBP"),
    "bicubic": _bicubic,
}
"""From a picture uint8 (H, W, 3), a number of words and their bits, to what is left of it and the bits that it took."""
