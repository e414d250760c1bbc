"""Pixels of other colour spaces become those of sRGB, by the profile that an image carries."""

import functools
import io

import numpy as np
from PIL import Image, ImageCms

MAX_PROFILE_BYTES = 1 << 22
"""Profiles of printers have 3 MB; a larger one is not believed."""
PROFILES = 32
"""Profiles that are kept, with what they make of colours."""
SAME_LEVELS = 2
"""Levels by which a profile may move colours and still be one of sRGB: their makers round differently."""
_SPACES = {"RGB": "RGB ", "RGBA": "RGB ", "CMYK": "CMYK", "L": "GRAY"}


def as_srgb(image: Image.Image) -> Image.Image:
    """The image in sRGB, as RGB or RGBA; itself where it has no profile, one of sRGB, or one that cannot be used."""
    profile = image.info.get("icc_profile")
    if not profile or image.mode not in _SPACES or len(profile) > MAX_PROFILE_BYTES:
        return image
    transform = _transform(profile, image.mode)
    return image if transform is None else transform.apply(image)


@functools.lru_cache(maxsize=PROFILES)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From a profile to sRGB; None where it is broken, of another kind of pixels, or sRGB itself."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space != _SPACES[mode]:
            return None
        target = ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(source, target, mode, "RGBA" if mode == "RGBA" else "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    if mode == "CMYK":
        return transform
    levels = np.arange(0, 256, 17, dtype=np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(64, 64, 3)
    colours = Image.fromarray(grid).convert(mode)
    moved = np.asarray(transform.apply(colours).convert("RGB"), int) - np.asarray(colours.convert("RGB"), int)
    return transform if np.abs(moved).max() > SAME_LEVELS else None
