"""Bytes to pictures: one decoder for sharding, training, evaluation and `encode`.

Bytes come from anywhere, so nothing is believed: the format is read from the content, sizes are bounded before memory
is taken, and whatever goes wrong is one `MediaError` that says why.
"""

import io
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from spae.data.colours import as_srgb
from spae.data.image_bytes import is_heif, is_lossy, is_video, is_whole_jpeg

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM")
"""What is opened at all (JPEG includes MPO); Pillow knows more, some of which start other programs."""
STORED_SUFFIXES = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png"}
"""Member suffix of the formats that shards hold as they are."""
MAX_TEXT_BYTES = 1 << 24
"""Of one text or profile in a PNG, unpacked: editors write megabytes of XMP. Pillow's own bound is 1 MB."""
MAX_JPEG_SIDE = 65_500
"""Pixels that a JPEG can have in a row or column."""


class MediaError(ValueError):
    """Bytes that cannot be used. `reason` is one of few, to be counted; the message adds the details of this case."""

    def __init__(self, reason: str, details: str = "") -> None:
        super().__init__(f"{reason}: {details}" if details else reason)
        self.reason, self._details = reason, details

    def __reduce__(self) -> tuple[type["MediaError"], tuple[str, str]]:
        return MediaError, (self.reason, self._details)


@dataclass(frozen=True)
class ImageLimits:
    """Largest image that is opened; beyond it lies a decompression bomb or a mistake."""

    pixels: int = 89_000_000
    """Width times height; 89 million take 267 MB as uint8 RGB, and Pillow itself warns above them."""
    bytes: int = 1 << 28


@dataclass(frozen=True)
class ImageHeader:
    """What an image says of itself, before any pixel is decoded; width and height before EXIF orientation."""

    format: str
    width: int
    height: int
    is_lossy: bool = False
    """Whether the format has lost details already: JPEG, AVIF, most WebP."""


DEFAULT_LIMITS = ImageLimits()


def check_image(data: bytes, *, decode: bool = False, limits: ImageLimits = DEFAULT_LIMITS) -> ImageHeader:
    """Check the structure of an image file, with `decode` every pixel too; MediaError where it cannot be whole.

    PNG: every chunk and its checksum. JPEG: the end mark must follow the last scan, so a cut file is seen; what stands
    behind it is ignored. Damage inside compressed data is seen with `decode`, or by `decode_image`, only.
    """
    image = _open(data, limits)
    form = str(image.format)
    header = ImageHeader(form, image.width, image.height, is_lossy(form, data))
    if form in ("JPEG", "MPO") and not is_whole_jpeg(data):
        raise MediaError("truncated JPEG", "no end mark after the last scan")
    try:
        if not decode or header.format == "PNG":  # of the others verify sees no more than load
            image.verify()
        if decode:
            image = _open(data, limits) if header.format == "PNG" else image  # what is verified cannot be read any more
            image.load()
            _check_range(image)
    except MediaError:
        raise
    except Exception as error:  # Pillow raises many types on hostile bytes, struct.error and IndexError among them
        raise MediaError(f"broken {header.format}", repr(error)) from error
    return header


def decode_image(
    data: bytes, *, limits: ImageLimits = DEFAULT_LIMITS, short_side: int | None = None
) -> NDArray[np.uint8]:
    """Decode an image to uint8 RGB (H, W, 3), turned upright by its EXIF orientation.

    Transparent pixels are laid over white, 16-bit grey is scaled to 8, CMYK and palettes become RGB, and colours those
    of sRGB where the image has a profile of others. With `short_side`
    a JPEG may be decoded at an eighth to a half of its size, as long as its short side stays twice that long: for those
    who shrink it anyway, two to three times faster. Raises MediaError on bytes that are no image, cut or damaged ones,
    animations, and images over the limits. What the JPEG library fills in with a mere warning, such as scans that end
    early before a proper end mark, cannot be seen.
    """
    image = _open(data, limits)
    try:
        if short_side is not None:
            scale = 2 * short_side / min(image.size)
            image.draft(image.mode, (math.ceil(image.width * scale), math.ceil(image.height * scale)))
        image.load()
        return to_rgb(image)
    except MediaError:
        raise
    except Exception as error:  # as in check_image
        raise MediaError(f"broken {image.format}", repr(error)) from error


def to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """A Pillow image as uint8 RGB (H, W, 3), upright, by the rules of `decode_image`."""
    _check_range(image)
    image = _upright(image)
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = as_srgb(image.convert("RGBA"))
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = as_srgb(image.convert("RGB") if image.mode == "P" else image)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """uint8 (H, W, 3) or grey (H, W) as PNG; the same bytes for the same pixels and Pillow version."""
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, format="PNG")
    return sink.getvalue()


def encode_jpeg(pixels: NDArray[np.uint8], quality: int) -> bytes:
    """uint8 (H, W, 3) as JPEG of a quality from 1 to 95; the same bytes for the same pixels and Pillow version.

    MediaError where it is too long for a JPEG.
    """
    height, width = pixels.shape[:2]
    if max(height, width) > MAX_JPEG_SIDE:
        raise MediaError("too long for JPEG", f"{width} x {height}, at most {MAX_JPEG_SIDE} a side")
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, format="JPEG", quality=quality)
    return sink.getvalue()


def shrink_image(pixels: NDArray[np.uint8], short_side: int, *, square: bool = False) -> NDArray[np.uint8]:
    """Bring the short side of uint8 (H, W, 3) down to a length (antialiased bicubic), never up; then crop to a square.

    The crop is the centre one. An image that needs neither is returned as it is.
    """
    height, width = pixels.shape[:2]
    side = min(height, width, short_side)
    if side < min(height, width):
        scale = side / min(height, width)
        width, height = max(side, round(width * scale)), max(side, round(height * scale))
        pixels = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))
    if square:
        top, left = (height - side) // 2, (width - side) // 2
        pixels = pixels[top : top + side, left : left + side]
    return pixels


def fit_image(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Bring uint8 (H, W, 3) to (height, width): short side resized (antialiased bicubic), then centre crop.

    An image that has the size already is returned as it is.
    """
    height, width = size
    if height < 1 or width < 1:
        raise ValueError(f"size={size} must be (height, width), both at least 1")
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.asarray(ImageOps.fit(Image.fromarray(pixels), (width, height), Image.Resampling.BICUBIC))


def _open(data: bytes, limits: ImageLimits) -> Image.Image:
    if not data:
        raise MediaError("empty file")
    if len(data) > limits.bytes:
        raise MediaError("too many bytes", f"over {limits.bytes}")
    PngImagePlugin.MAX_TEXT_CHUNK = MAX_TEXT_BYTES
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        frames = getattr(image, "n_frames", 1) if image.format in ("GIF", "WEBP", "AVIF", "TIFF") else 1
    except UnidentifiedImageError as error:
        if is_heif(data):
            raise MediaError("HEIC image", "nothing here decodes HEVC; make JPEG of it, as by heif-convert") from error
        if is_video(data):
            raise MediaError("no image", "a video; a model of clips takes it, or frames of it by --clips") from error
        raise MediaError("no image", f"in none of {', '.join(FORMATS)}") from error
    except Image.DecompressionBombError as error:  # Pillow's own bound, twice ours
        raise MediaError("too many pixels", str(error)) from error
    except Exception as error:  # as in check_image
        raise MediaError("broken header", repr(error)) from error
    if image.width * image.height > limits.pixels:
        raise MediaError("too many pixels", f"{image.width} x {image.height}, at most {limits.pixels}")
    if frames > 1:
        raise MediaError("animation", f"{image.format} of {frames} frames")
    return image


def _check_range(image: Image.Image) -> None:
    if image.mode in ("I", "F"):
        raise MediaError("unknown pixel range", f"mode {image.mode}")


def _upright(image: Image.Image) -> Image.Image:
    try:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
        return ImageOps.exif_transpose(image) if turned else image  # which would copy what needs no turn
    except Exception:  # damaged EXIF says nothing about the pixels, which are whole: keep them as they lie
        return image
