"""Real colour photographs that come with installed packages: scikit-learn's two and matplotlib's one."""

import numpy as np
import torch
from PIL import Image, ImageCms

from jobs.demos.photographs import photographs as photographs


def crops(side: int, each: int, seed: int = 0) -> torch.Tensor:
    """uint8 (3 x each, 3, side, side): non-overlapping crops of photographs brought to four times that height."""
    generator, found = np.random.default_rng(seed), []
    for picture in photographs():
        height = 4 * side
        resized = Image.fromarray(picture).resize((round(picture.shape[1] / picture.shape[0] * height), height))
        tiles = [(row, column) for row in range(4) for column in range(resized.width // side)]
        for row, column in [tiles[i] for i in generator.permutation(len(tiles))[:each]]:
            box = (column * side, row * side, (column + 1) * side, (row + 1) * side)
            found.append(np.asarray(resized.crop(box)))
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).contiguous()


def swapping_profile() -> bytes:
    """A colour profile as sRGB's, but for its primaries: what it calls red is blue, and blue red."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    places = {}
    for row in range(132, 132 + 12 * int.from_bytes(data[128:132]), 12):
        places[bytes(data[row : row + 4])] = row + 4
    red, blue = (slice(places[name], places[name] + 8) for name in (b"rXYZ", b"bXYZ"))
    data[red], data[blue] = data[blue], data[red]
    return bytes(data)
