import io
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from pipelines.samples.images import ImageSamples
from spae.data.media import MediaError, decode_image, shrink_image
from spae.data.sources import Entry
from tests.photographs import photographs, swapping_profile

PICTURE = photographs()[0]  # 427 x 640


@dataclass(frozen=True)
class OneFile:
    """A source of one input."""

    data: bytes

    def read(self, entry, limit):
        return self.data[:limit]


def encoded(image, form, **options):
    sink = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(sink, format=form, **options)
    return sink.getvalue()


def media(data, **settings):
    return ImageSamples(**settings).media(OneFile(data), Entry("key", "path"))


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("settings", [{}, {"check": "decode"}, {"short_side": 427}, {"short_side": 5_000}])
def test_what_is_small_enough_keeps_its_bytes(form, settings):
    data = encoded(PICTURE, form)
    made = media(data, **settings)
    assert made.data == data
    assert made.metadata == {"source_format": form, "width": 640, "height": 427}


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(("square", "size"), [(False, (192, 128)), (True, (128, 128))])
def test_what_is_larger_shrinks_to_the_short_side(form, square, size):
    made = media(encoded(PICTURE, form), short_side=128, square=square)
    pixels = decode_image(made.data)
    assert (pixels.shape[1], pixels.shape[0]) == size == (made.metadata["width"], made.metadata["height"])
    assert (made.metadata["source_width"], made.metadata["source_height"]) == (640, 427)
    assert made.suffix == ("png" if form == "PNG" else "jpg")
    whole = shrink_image(PICTURE, 128, square=square)
    assert np.abs(pixels.astype(int) - whole).mean() < 4


def test_a_square_is_cut_from_the_centre_without_enlarging():
    picture = PICTURE[:, :500]
    made = media(encoded(picture, "PNG"), short_side=1_000, square=True)
    np.testing.assert_array_equal(decode_image(made.data), picture[:, 36:463])


def test_a_given_format_holds_for_all():
    png, jpeg = encoded(PICTURE, "PNG"), encoded(PICTURE, "JPEG", quality=90)
    assert media(jpeg, format="jpg").data == jpeg
    assert media(png, format="png").data == png
    assert media(png, format="jpg").suffix == "jpg"
    np.testing.assert_array_equal(decode_image(media(jpeg, format="png").data), decode_image(jpeg))


@pytest.mark.parametrize(
    ("form", "options", "suffix"),
    [
        ("WEBP", {"quality": 80}, "jpg"),
        ("WEBP", {"quality": 80, "exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0"}, "jpg"),
        ("WEBP", {"lossless": True}, "png"),
        ("WEBP", {"lossless": True, "icc_profile": b"x" * 101}, "png"),
        ("AVIF", {"quality": 80}, "jpg"),
        ("GIF", {}, "png"),
        ("BMP", {}, "png"),
    ],
)
def test_what_is_lossy_already_becomes_a_jpeg_that_says_so(form, options, suffix):
    picture = Image.fromarray(PICTURE)
    data = encoded(picture.quantize(256) if form == "GIF" else picture, form, **options)
    made = media(data)
    assert made.suffix == suffix == made.metadata["encoded_as"]
    assert made.metadata.get("quality") == (95 if suffix == "jpg" else None)
    difference = np.abs(decode_image(made.data).astype(int) - decode_image(data)).mean()
    assert difference < 2.5 if suffix == "jpg" else difference == 0
    assert suffix == "png" or len(made.data) < 4 * len(data)
    assert media(data, format="png").suffix == "png"


def test_what_is_too_long_for_a_jpeg_is_a_media_error():
    data = encoded(np.zeros((2, 65_501), np.uint8), "PNG")
    assert media(data).data == data
    with pytest.raises(MediaError, match="too long for JPEG: 65501 x 2, at most 65500"):
        media(data, format="jpg")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_colours_of_another_space_are_turned_into_those_of_srgb(form):
    """A profile that calls red blue and blue red: whoever ignores it sees another picture."""
    swapped = encoded(PICTURE, form, icc_profile=swapping_profile(), **({"lossless": True} if form == "WEBP" else {}))
    plain = encoded(np.ascontiguousarray(PICTURE[..., ::-1]), form, **({"lossless": True} if form == "WEBP" else {}))
    found, expected = (decode_image(media(data, short_side=64).data).astype(int) for data in (swapped, plain))
    assert np.abs(found - expected).mean() < 3
    assert np.abs(found - expected[..., ::-1]).mean() > 10


def test_quality_is_that_of_the_encoder():
    data = encoded(PICTURE, "JPEG", quality=95)
    sizes = [len(media(data, short_side=200, quality=quality).data) for quality in (30, 75, 95)]
    assert sizes == sorted(sizes)
    assert media(data, short_side=200).data == media(data, short_side=200).data


@pytest.mark.parametrize(
    ("mode", "form"), [("CMYK", "JPEG"), ("L", "JPEG"), ("P", "PNG"), ("RGBA", "PNG"), ("LA", "PNG"), ("1", "TIFF")]
)
def test_every_kind_of_pixel_becomes_rgb(mode, form):
    made = media(encoded(Image.fromarray(PICTURE).convert(mode), form), short_side=64)
    assert decode_image(made.data).shape == (64, 96, 3)
    with Image.open(io.BytesIO(made.data)) as image:
        assert image.mode == "RGB"


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_what_is_encoded_anew_stands_upright(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(PICTURE, "JPEG", exif=exif.tobytes(), quality=95)
    made = media(data, short_side=100)
    expected = shrink_image(decode_image(data), 100)
    assert decode_image(made.data).shape == expected.shape
    assert np.abs(decode_image(made.data).astype(int) - expected).mean() < 6
    with Image.open(io.BytesIO(made.data)) as image:
        assert not image.getexif()


def test_damage_inside_of_the_pixels_is_seen_where_they_are_decoded():
    data = bytearray(encoded(PICTURE, "TIFF", compression="tiff_lzw"))
    data[2_000:60_000] = bytes(58_000)
    with pytest.raises(MediaError):
        media(bytes(data), short_side=64)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"short_side": 0}, "at least 1"), ({"square": True}, "needs --short-side"), ({"quality": 99}, "1 to 95")],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ImageSamples(**settings)
