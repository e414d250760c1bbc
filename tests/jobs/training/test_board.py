import struct
from collections import defaultdict

import fsspec
import pytest
import torch
from tensorboardX.proto.event_pb2 import Event

from jobs.training.board import SHOWN, Board
from tests import tiny_spae


def events(run):
    """Summaries by tag and step, as TensorBoard's files hold them; a step that was begun anew counts once."""
    file_system, path = fsspec.url_to_fs(f"{run}/tensorboard")
    found = defaultdict(dict)
    for name in sorted(file_system.ls(path, detail=False)):
        data = file_system.cat_file(name)
        while data:
            (size,) = struct.unpack("<Q", data[:8])
            event, data = Event.FromString(data[12 : 12 + size]), data[16 + size :]
            for value in event.summary.value:
                found[value.tag][event.step] = value
    return found


@pytest.mark.parametrize("store", ["", "memory:/"])
def test_figures_pictures_and_words_are_shown(tmp_path, store):
    run = f"{store}{tmp_path}/run"
    board, pixels = Board(run, 0), torch.randint(0, 256, (SHOWN + 2, 3, 16, 16), dtype=torch.uint8)
    model = tiny_spae.model()
    board.draw(2, model, pixels)
    board.publish([{"step": 1, "pixel": 0.5}, {"step": 2, "pixel": 0.25, "words/1": 7}])
    board.publish([{"step": 3, "pixel": 0.125}])
    shown = events(run)
    assert {step: value.simple_value for step, value in shown["pixel"].items()} == {1: 0.5, 2: 0.25, 3: 0.125}
    assert shown["words/1"][2].simple_value == 7
    image = shown["reconstructions"][2].image
    assert (image.height, image.width) == (5 * 16, SHOWN * 16)
    (text,) = [one[2] for tag, one in shown.items() if tag.startswith("first_words")]
    words = [one[0] for one in model.vocabulary.words(model.encode(pixels[:SHOWN]), layers=1)]
    assert text.tensor.string_val[0].decode() == ", ".join(words)
