import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from jobs import encode
from spae.config import NetworkConfig, SPAEConfig
from spae.data.media import decode_image, fit_image
from spae.evaluation.pictures import channels_first
from spae.model import SPAE
from tests import tiny_spae
from tests.photographs import photographs


def rows(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def layers_of(model, picture):
    """Ids of each layer, of a Pillow image alone."""
    return [layer[0].tolist() for layer in SPAE.from_pretrained(model).encode(picture).layers]


def test_json_holds_the_words_of_the_library(model, pictures, capsys):
    assert encode.main([*pictures, "--model", model, "--json"]) == 0
    printed = rows(capsys)
    assert [row["picture"] for row in printed] == pictures
    for row in printed:
        assert row["ids"] == layers_of(model, Image.open(row["picture"]))
        assert row["words"] == [[[f"word{number}" for number in line] for line in grid] for grid in row["ids"]]


def test_layers_are_printed_as_they_stand_in_the_picture(model, pictures, capsys):
    assert encode.main([pictures[0], "--layers", "3", "--model", model]) == 0
    name, *lines = capsys.readouterr().out.splitlines()
    words = [[[f"word{number}" for number in line] for line in grid] for grid in layers_of(model, Image.open(name))]
    assert name == pictures[0]
    assert [line[12:].split() for line in lines] == [row for grid in words[:3] for row in grid]
    assert [line[:9].strip() for line in lines] == ["layer 1", "layer 2", "", "layer 3", "", "", ""]
    columns = {tuple(at for at in range(12, len(line)) if line[at - 1] == " " != line[at]) for line in lines[3:]}
    assert len(columns) == 1, "words of a column stand below each other"


def test_the_output_is_what_the_printed_layers_rebuild(model, pictures, tmp_path):
    output = tmp_path / "made" / "rebuilt.png"
    assert encode.main([*pictures, "--layers", "2", "--output", str(output), "--model", model]) == 0
    loaded = SPAE.from_pretrained(model)
    expected = torch.cat([loaded.decode(loaded.encode(Image.open(place)), 2)[0] for place in pictures], 2)
    with Image.open(output) as picture:
        np.testing.assert_array_equal(np.asarray(picture), (expected.permute(1, 2, 0) * 255).round().byte().numpy())


def forms():
    """One photograph as files of many kinds, and how it is seen."""
    pixels = photographs()[0][:300, :200]
    colour, grey = Image.fromarray(pixels), Image.fromarray(pixels).convert("L")
    turned = Image.Exif()
    turned[0x0112] = 6
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) << 8)
    return {
        "grey": (grey, {"format": "PNG"}),
        "16 bit": (deep, {"format": "PNG"}),
        "alpha": (Image.merge("RGBA", (*colour.split(), Image.new("L", colour.size, 255))), {"format": "PNG"}),
        "turned": (colour.transpose(Image.Transpose.ROTATE_90), {"format": "PNG", "exif": turned}),
        "small": (colour.resize((5, 9)), {"format": "BMP"}),
        "palette": (colour.quantize(64), {"format": "GIF"}),
        "wide": (colour.resize((1000, 3)), {"format": "JPEG"}),
    }


@pytest.mark.parametrize("form", forms())
def test_pictures_of_any_size_and_mode(model, tmp_path, capsys, form):
    image, options = forms()[form]
    sink = io.BytesIO()
    image.save(sink, **options)
    (tmp_path / "picture").write_bytes(sink.getvalue())
    assert encode.main([str(tmp_path / "picture"), "--model", model, "--json"]) == 0
    seen = channels_first(fit_image(decode_image(sink.getvalue()), (16, 16))[None])
    assert rows(capsys)[0]["ids"] == layers_of(model, seen)
    if form in ("alpha", "turned"):
        assert layers_of(model, seen) == layers_of(model, Image.fromarray(photographs()[0][:300, :200]))


@pytest.mark.parametrize("kind", ["folder", "missing", "text", "empty", "cut"])
def test_what_is_no_picture_costs_one_line(model, pictures, tmp_path, capsys, caplog, kind):
    place = tmp_path / "place.png"
    if kind == "folder":
        place.mkdir()
    elif kind != "missing":
        whole = Path(pictures[0]).read_bytes()
        place.write_bytes({"text": b"no picture at all", "empty": b"", "cut": whole[: len(whole) // 2]}[kind])
    assert encode.main([str(place), "--model", model]) == 2
    assert capsys.readouterr().out == ""
    (line,) = caplog.messages
    assert line.startswith(f"{place}: ")
    caplog.clear()
    assert encode.main([pictures[0], str(place), pictures[1], "--model", model, "--json"]) == 1
    printed = rows(capsys)
    assert [row["picture"] for row in printed] == [pictures[0], str(place), pictures[1]]
    assert ["error" in row for row in printed] == [False, True, False]
    assert caplog.messages == [line]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--layers", "5"], "layers=5 is outside 1 to 4"),
        (["--model", "digitz"], "digitz is neither a folder nor a hub id .* come with spae: .*digits"),
        (["--model", "CLIPS"], r"takes clips of \(4, 16, 16\)"),
    ],
)
def test_what_the_model_cannot_do_is_named(model, pictures, tmp_path, caplog, flags, message):
    if flags[-1] == "CLIPS":
        config = SPAEConfig(
            input_size=(4, 16, 16),
            grids=((1, 1, 1), (1, 4, 4)),
            embedding_width=12,
            network=NetworkConfig(base_channels=8, channel_multipliers=(1, 1, 2), residual_blocks=1, middle_blocks=1),
        )
        SPAE(config, tiny_spae.vocabulary()).save_pretrained(str(tmp_path))
        flags = ["--model", str(tmp_path)]
    assert encode.main([pictures[0], "--model", model, *flags]) == 2
    assert len(caplog.messages) == 1
    assert re.search(message, caplog.text)


@pytest.mark.parametrize("flags", [["--output", "rebuilt.jpg"], ["--laers", "2"], []])
def test_flags_that_cannot_be_used_are_named(capsys, flags):
    with pytest.raises(SystemExit) as stopped:
        encode.main(["picture.png", *flags] if flags else [])
    assert stopped.value.code == 2
    assert (flags[0] if flags else "PICTURE") in capsys.readouterr().err


def test_an_output_that_cannot_be_written_is_named(model, pictures, tmp_path, caplog, capsys):
    (tmp_path / "file").write_bytes(b"")
    assert encode.main([pictures[0], "--model", model, "--output", f"{tmp_path}/file/rebuilt.png"]) == 1
    assert f"--output {tmp_path}/file/rebuilt.png cannot be written" in caplog.text
    assert "layer 4" in capsys.readouterr().out


def test_nothing_reaches_the_terminal_that_it_would_obey(tmp_path, caplog):
    assert encode.as_text("a\x1b[2J\udce9.png", [[["\x07bell", "é"]]]) == (
        "a\\x1b[2J\\udce9.png\n  layer 1   \\x07bell  é"
    )
    assert encode.main([f"{tmp_path}/a\x1b[2J"]) == 2
    assert "\x1b" not in caplog.text


def test_the_plain_install_is_enough():
    code = "import sys; sys.modules |= dict.fromkeys(['ray', 'apache_beam', 'tyro', 'sklearn'])"
    code += "; from jobs.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "encode", "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "white on black, seen at 32 x 32" in done.stdout
