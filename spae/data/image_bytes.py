"""What the bytes of image files say by their structure alone, before anything is decoded."""

import re

_JPEG_MARKER = re.compile(
    rb"\xff[^\x00\x01\xff\xd0-\xd8]"
)  # all but those that no length follows, which stand in scans
_END, _SCAN = 0xD9, 0xDA
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")


def is_whole_jpeg(data: bytes) -> bool:
    """Whether the end mark follows the scans of a JPEG; what stands behind it, such as a phone's video, is ignored."""
    position, scans = 2, 0
    while match := _JPEG_MARKER.search(data, position):
        marker, position = data[match.end() - 1], match.end()
        if marker == _END:
            return scans > 0
        scans += marker == _SCAN
        position += max(int.from_bytes(data[position : position + 2]), 2)
    return False


def is_lossy(form: str, data: bytes) -> bool:
    """Whether an image of this format has lost details already, so that a JPEG of high quality does it justice.

    JPEG, AVIF (which can be lossless and hardly ever is), and WebP by its chunks.
    """
    if form != "WEBP":
        return form in ("JPEG", "MPO", "AVIF")
    position = 12
    while position + 8 <= len(data):
        name, size = data[position : position + 4], int.from_bytes(data[position + 4 : position + 8], "little")
        if name in (b"VP8 ", b"VP8L"):
            return name == b"VP8 "
        position += 8 + size + size % 2
    return False


def is_video(data: bytes) -> bool:
    """Whether this is an mp4 or its like, Matroska, WebM or AVI."""
    return data[4:8] == b"ftyp" or data.startswith(b"\x1aE\xdf\xa3") or (data[:4] == b"RIFF" and data[8:12] == b"AVI ")


def is_picture(data: bytes) -> bool:
    """Whether this is a JPEG or PNG."""
    return data.startswith((b"\xff\xd8\xff", b"\x89PNG"))


def is_heif(data: bytes) -> bool:
    """Whether this is HEIC, or another HEIF file: what phones of one maker write."""
    return data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS
