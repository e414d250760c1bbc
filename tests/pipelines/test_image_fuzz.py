"""Damaged files by the thousand: each becomes a sample or a dead letter, and the job ends as it should."""

import io
import json
import random

import pytest
from PIL import Image

from spae.data.media import decode_image
from tests.photographs import crops
from tests.pipelines.folders import folder

FORMS = {
    "JPEG": {"quality": 80},
    "PNG": {},
    "WEBP": {},
    "AVIF": {},
    "GIF": {},
    "BMP": {},
    "TIFF": {"compression": "tiff_lzw"},
}


def mutated(data, generator):
    """The bytes with bits turned, parts cut out, doubled, overwritten or exchanged, at random places."""
    data = bytearray(data)
    for _ in range(generator.choice((1, 1, 2, 5, 20))):
        begin = generator.randrange(len(data) if generator.random() < 0.5 else min(len(data), 100))
        length = generator.choice((1, 1, 2, 4, 16, 200))
        change = generator.randrange(5)
        if change == 0:
            data[begin] ^= 1 << generator.randrange(8)
        elif change == 1:
            del data[begin : begin + length]
        elif change == 2:
            data[begin:begin] = data[begin : begin + length]
        elif change == 3:
            data[begin : begin + length] = generator.randbytes(length)
        else:
            data[begin : begin + length] = generator.choice((b"\x00", b"\xff", b"\x7f")) * length
        if not data:
            break
    return bytes(data)


@pytest.mark.parametrize("flags", [(), ("--check", "decode"), ("--short-side", "24", "--format", "jpg")])
def test_a_thousand_damaged_images_never_stop_the_job(flags, tmp_path):
    generator = random.Random(" ".join(flags))
    originals = []
    for tile in crops(48, 4).permute(0, 2, 3, 1).numpy():
        for form, options in FORMS.items():
            sink = io.BytesIO()
            Image.fromarray(tile).save(sink, format=form, **options)
            originals.append((sink.getvalue(), form.lower()))
    (tmp_path / "images" / "class").mkdir(parents=True)
    for number in range(1_000):
        data, suffix = generator.choice(originals)
        (tmp_path / "images" / "class" / f"{number:04d}.{suffix}").write_bytes(mutated(data, generator))
    assert folder(tmp_path / "images", tmp_path / "shards", "--max-error-share", "1", *flags) == 0
    sidecar = json.loads((tmp_path / "shards/train/train-000000.json").read_text())
    assert sidecar["inputs"] == 1_000 == sidecar["samples"] + sidecar["errors"]
    assert sum(sidecar["reasons"].values()) == sidecar["errors"]
    assert 100 < sidecar["errors"] < 990
    assert len(sidecar["reasons"]) < 20, "reasons are few, to be counted"


def test_what_passes_the_decode_check_can_be_decoded(tmp_path):
    generator = random.Random(1)
    sink = io.BytesIO()
    Image.fromarray(crops(64, 1)[0].permute(1, 2, 0).numpy()).save(sink, format="JPEG")
    (tmp_path / "images" / "class").mkdir(parents=True)
    for number in range(200):
        (tmp_path / "images" / "class" / f"{number}.jpg").write_bytes(mutated(sink.getvalue(), generator))
    assert folder(tmp_path / "images", tmp_path / "shards", "--max-error-share", "1", "--check", "decode") == 0
    import webdataset

    samples = list(webdataset.WebDataset(str(tmp_path / "shards/train/train-000000.tar"), shardshuffle=False))
    assert samples
    for sample in samples:
        assert decode_image(sample["jpg"]).ndim == 3
