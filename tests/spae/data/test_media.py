import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin

from spae.data.media import ImageLimits, MediaError, check_image, decode_image, encode_png, fit_image, to_rgb
from tests.photographs import swapping_profile


def ramp(height=24, width=36):
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows * 7 % 256, columns * 5 % 256, (rows + columns) * 2 % 256], axis=-1).astype(np.uint8)


def encoded(image, form, **options):
    sink = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(sink, format=form, **options)
    return sink.getvalue()


SMALL = {
    "JPEG": encoded(ramp(), "JPEG", quality=95),
    "PNG": encoded(ramp(), "PNG"),
    "WEBP": encoded(ramp(), "WEBP", lossless=True),
    "AVIF": encoded(ramp(), "AVIF", quality=95),
    "GIF": encoded(Image.fromarray(ramp()).quantize(64), "GIF"),
    "BMP": encoded(ramp(), "BMP"),
    "TIFF": encoded(ramp(), "TIFF"),
    "PPM": encoded(ramp(), "PPM"),
}


@pytest.mark.parametrize("form", SMALL)
def test_format_is_read_from_the_content(form):
    header = check_image(SMALL[form])
    assert (header.format, header.width, header.height) == (form, 36, 24)
    pixels = decode_image(SMALL[form])
    assert pixels.shape == (24, 36, 3)
    assert pixels.dtype == np.uint8
    if form in ("PNG", "WEBP", "BMP", "TIFF", "PPM"):
        np.testing.assert_array_equal(pixels, ramp())
    else:
        assert np.abs(pixels.astype(int) - ramp()).mean() < 12


def test_png_round_trip():
    np.testing.assert_array_equal(decode_image(encode_png(ramp())), ramp())
    assert encode_png(ramp()) == encode_png(ramp())


UPRIGHT = {  # how the stored picture must be turned for each EXIF orientation (EXIF 2.3, tag 0x0112)
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
    8: lambda x: np.rot90(x),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_is_applied(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(ramp(), "PNG", exif=exif)
    np.testing.assert_array_equal(decode_image(data), UPRIGHT[orientation](ramp()))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_costs_no_picture():
    data = encoded(ramp(), "JPEG", exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\xff garbage")
    assert decode_image(data).shape == (24, 36, 3)


def test_grey_becomes_three_equal_channels():
    grey = ramp()[..., 0]
    for data in (encoded(grey, "PNG"), encode_png(grey)):
        np.testing.assert_array_equal(decode_image(data), np.repeat(grey[..., None], 3, axis=2))


def test_sixteen_bit_grey_is_scaled():
    wide = np.linspace(0, 65535, 24 * 36).reshape(24, 36).astype(np.uint16)
    np.testing.assert_array_equal(decode_image(encoded(wide, "PNG"))[..., 0], wide >> 8)


def test_cmyk_keeps_its_colours():
    colours = Image.new("RGB", (16, 16), (200, 30, 60)).convert("CMYK")
    pixels = decode_image(encoded(colours, "JPEG", quality=95))
    assert np.abs(pixels.astype(int) - np.array([200, 30, 60])).max() < 12


def test_transparency_lies_over_white():
    clear = np.zeros((4, 4, 4), np.uint8)
    clear[0, 0] = (10, 20, 30, 255)
    pixels = decode_image(encoded(clear, "PNG"))
    assert pixels[0, 0].tolist() == [10, 20, 30]
    assert (pixels.reshape(-1, 3)[1:] == 255).all()
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([5, 5, 5] * 256)
    assert (decode_image(encoded(palette, "PNG", transparency=0)) == 255).all()
    assert (decode_image(encoded(palette, "PNG")) == 5).all()


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("read", [check_image, decode_image])
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"these are words", "no image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no image"),
        (SMALL["JPEG"][:40], "broken header"),
        (SMALL["PNG"][:-40], "broken PNG"),
        (encoded(Image.new("1", (20_000, 20_000)), "PNG"), "too many pixels"),
        (encoded(Image.new("1", (10_000, 9_000)), "PNG"), "too many pixels"),
        (encoded(ramp(), "GIF", save_all=True, append_images=[Image.new("RGB", (36, 24))]), "animation"),
    ],
    ids=["empty", "text", "postscript", "head", "cut png", "bomb", "large", "animation"],
)
def test_what_cannot_be_used_says_why(read, data, reason):
    with pytest.raises(MediaError) as caught:
        read(data)
    assert caught.value.reason == reason


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.999])
def test_cut_jpegs_are_seen_without_decoding(share):
    data = encoded(ramp(200, 300), "JPEG")
    for read in (check_image, decode_image):
        with pytest.raises(MediaError, match="JPEG"):
            read(data[: int(len(data) * share)])


def test_limits_are_the_callers():
    assert check_image(SMALL["PNG"], limits=ImageLimits(pixels=24 * 36)).width == 36
    with pytest.raises(MediaError, match="36 x 24, at most 863"):
        decode_image(SMALL["PNG"], limits=ImageLimits(pixels=24 * 36 - 1))
    with pytest.raises(MediaError, match="too many bytes"):
        decode_image(SMALL["PNG"], limits=ImageLimits(bytes=10))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("progressive", [False, True])
def test_what_stands_behind_a_jpeg_is_ignored(seed, progressive):
    """Motion photos hold a video there; marks of JPEGs occur in it by chance."""
    data = encoded(ramp(), "JPEG", quality=95, progressive=progressive)
    behind = np.random.default_rng(seed).integers(0, 256, 300_000, dtype=np.uint8).tobytes() + b"\xff\xda"
    for tail in (behind, bytes(1000), b"\xff\xd8\xff\xda", data[:-2]):
        assert check_image(data + tail) == check_image(data, decode=True) == check_image(data + tail, decode=True)
    with pytest.raises(MediaError, match="truncated JPEG"):
        check_image(data[:-2] + bytes(1000))


@pytest.mark.parametrize(
    "options", [{"restart_marker_rows": 1}, {"progressive": True}, {"exif": b"Exif\0\0\xff\xd9" * 99}]
)
def test_marks_inside_of_a_jpeg_are_not_its_end(options):
    data = encoded(ramp(200, 300), "JPEG", **options)
    check_image(data)
    for share in (0.2, 0.5, 0.9):
        with pytest.raises(MediaError, match="JPEG"):
            check_image(data[: int(len(data) * share)])


@pytest.mark.parametrize("packed", [False, True])
def test_a_png_with_megabytes_of_text_is_a_picture(packed):
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", "x" * 2_000_000, zip=packed)
    data = encoded(ramp(), "PNG", pnginfo=text)
    assert check_image(data, decode=True).width == 36
    np.testing.assert_array_equal(decode_image(data), ramp())
    text.add_text("bomb", "x" * 40_000_000, zip=True)
    with pytest.raises(MediaError):
        check_image(encoded(ramp(), "PNG", pnginfo=text))


def test_heic_says_what_is_missing():
    data = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)
    with pytest.raises(MediaError, match="HEIC image: nothing here decodes HEVC; make JPEG of it, as by heif-convert"):
        decode_image(data)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L"])
def test_a_profile_of_srgb_or_of_nothing_changes_no_pixel(mode):
    image = Image.fromarray(ramp()).convert(mode)
    plain = decode_image(encoded(image, "PNG"))
    same = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (same, same[:200], b"words" * 99, bytes(1 << 23)):
        np.testing.assert_array_equal(decode_image(encoded(image, "PNG", icc_profile=profile)), plain)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_profiles_hold_for_every_kind_of_pixels(mode):
    image = Image.fromarray(ramp()).convert(mode)
    plain = decode_image(encoded(image, "PNG")).astype(int)
    found = decode_image(encoded(image, "PNG", icc_profile=swapping_profile()))
    assert np.abs(found - plain[..., ::-1]).max() <= 3


def black_ink_profile():
    """A printer of which black ink alone can be seen: lightness falls from 100 to 0 with it (a table of 2^4 points)."""
    lightness = bytes(value for point in range(16) for value in (0 if point % 2 else 255, 128, 128))
    matrix = b"".join((one << 16).to_bytes(4) for one in (1, 0, 0, 0, 1, 0, 0, 0, 1))
    table = (
        b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + matrix + bytes(range(256)) * 4 + lightness + bytes(range(256)) * 3
    )
    white = b"XYZ " + bytes(4) + b"".join(int(value * 65536).to_bytes(4) for value in (0.9642, 1, 0.8249))
    begin = 128 + 4 + 2 * 12
    tags = b"A2B0" + begin.to_bytes(4) + len(table).to_bytes(4)
    tags += b"wtpt" + (begin + len(table)).to_bytes(4) + len(white).to_bytes(4)
    body = (2).to_bytes(4) + tags + table + white
    head = (128 + len(body)).to_bytes(4) + bytes(4) + b"\2\x10\0\0prtrCMYKLab " + bytes(12) + b"acsp" + bytes(28)
    return (head + white[8:]).ljust(128, b"\0") + body


def test_the_inks_of_a_printer_are_those_of_its_profile():
    inks = np.zeros((16, 16, 4), np.uint8)
    inks[:8], inks[8:] = (200, 30, 90, 0), (10, 200, 250, 255)
    for form in ("JPEG", "TIFF"):
        data = encoded(Image.fromarray(inks, "CMYK"), form, icc_profile=black_ink_profile())
        pixels = decode_image(data).astype(int)
        assert pixels[:7].min() > 245
        assert pixels[9:].max() < 10
        coloured = decode_image(encoded(Image.fromarray(inks, "CMYK"), form)).astype(int)
        assert np.ptp(coloured[:7], axis=-1).min() > 50


@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=40))
@settings(max_examples=60, deadline=None)
def test_mutated_profiles_cost_no_picture(changes):
    profile = bytearray(swapping_profile())
    for place, value in changes:
        profile[int(place * len(profile))] = value
    assert decode_image(encoded(ramp(), "PNG", icc_profile=bytes(profile))).shape == (24, 36, 3)


@given(st.sampled_from(sorted(SMALL)), st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255))))
@settings(max_examples=300, deadline=None)
@pytest.mark.filterwarnings("ignore")
def test_mutated_bytes_are_a_picture_or_a_media_error(form, changes):
    data = bytearray(SMALL[form])
    for place, value in changes:
        data[int(place * len(data))] = value
    for read in (check_image, decode_image):
        try:
            result = read(bytes(data))
        except MediaError:
            continue
        assert read is check_image or result.shape[2] == 3


def test_to_rgb_takes_what_others_opened():
    np.testing.assert_array_equal(to_rgb(Image.fromarray(ramp())), ramp())
    with pytest.raises(MediaError, match="mode F"):
        to_rgb(Image.fromarray(np.zeros((2, 2), np.float32)))


@pytest.mark.parametrize("size", [(8, 8), (24, 24), (12, 18), (48, 48), (24, 36)])
def test_fit_image_has_the_size_asked_for(size):
    assert fit_image(ramp(), size).shape == (*size, 3)


def test_fit_image_leaves_a_fitting_image_alone():
    pixels = ramp()
    assert fit_image(pixels, (24, 36)) is pixels


def test_fit_image_resizes_the_short_side_and_crops_the_centre():
    pixels = ramp(24, 40)
    resized = np.asarray(Image.fromarray(pixels).resize((20, 12), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(fit_image(pixels, (12, 12)), resized[:, 4:16])
    np.testing.assert_array_equal(fit_image(pixels, (24, 24)), pixels[:, 8:32])
    with pytest.raises(ValueError, match="at least 1"):
        fit_image(pixels, (0, 12))


@pytest.mark.parametrize("form", SMALL)
def test_a_decoding_check_tells_the_same_of_sound_images(form):
    assert check_image(SMALL[form], decode=True) == check_image(SMALL[form])


def test_a_decoding_check_sees_damage_that_a_header_hides():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(noise, "TIFF", compression="tiff_lzw")
    data = data[:400] + bytes(len(data) - 800) + data[-400:]
    check_image(data)
    with pytest.raises(MediaError, match="broken TIFF"):
        check_image(data, decode=True)
