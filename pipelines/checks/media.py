"""What is wrong with the image or clip of a sample."""

from collections.abc import Iterator

from spae.data.media import STORED_SUFFIXES, MediaError, check_image, decode_image
from spae.data.video import check_video


def media_problems(suffix: str, data: bytes) -> Iterator[str]:
    """Deviations of a member from its suffix: another format, or pixels that cannot be decoded, to the last frame."""
    try:
        if suffix == "mp4":
            stored = "mp4" if check_video(data, decode=True).is_stored else None
        else:
            stored = STORED_SUFFIXES.get(check_image(data).format)
            decode_image(data)
        if stored != suffix:
            yield f"{suffix} holds {stored or 'another format'}"
    except MediaError as error:
        yield f"{error}; a run with --check decode --replace sorts such inputs out"
