"""Print the words of pictures, layer by layer, and write what the words rebuild. Needs the plain install alone."""

import argparse
import json
import logging
import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from jobs.one_picture import load_model, model_names, printable, read_picture
from spae.data.media import encode_png
from spae.data.publishing import publish
from spae.evaluation.pictures import channels_first, decode_in_batches
from spae.pyramid import check_layers

EPILOG = """example: spae encode photo.png --output rebuilt.png

The model `digits` comes with spae and knows one thing: single handwritten digits, white on black, seen at 32 x 32. It
gives words to any other picture too, a black digit on white paper among them, and they mean nothing.
"""

WordGrids = list[list[list[str]]]
"""Words of a picture: of each layer its rows."""

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 where all went well, 1 where a part failed, 2 where no picture could be used."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    flags = parse_flags(arguments)
    try:
        model = load_model(flags.model)
        layers = check_layers(flags.layers, model.depth)
    except (ValueError, OSError) as error:
        logger.error("%s", error)
        return 2
    rebuilt: list[NDArray[np.uint8]] = []
    for place in flags.pictures:
        try:
            pixels = read_picture(place, model.config.input_size)
        except (ValueError, OSError, ImportError) as error:  # fsspec wants a package for some stores
            logger.error("%s", printable(f"{place}: {error}"))
            if flags.json:
                _write(json.dumps({"picture": place, "error": str(error)}))
            continue
        pyramid = model.encode(channels_first(pixels[None]), layers)
        rebuilt += [part[0] for part in decode_in_batches(model, pyramid, 1)]
        ids = [layer[0].tolist() for layer in pyramid.layers]
        words = [[[model.vocabulary.word_list[number] for number in row] for row in layer] for layer in ids]
        _write(json.dumps({"picture": place, "words": words, "ids": ids}) if flags.json else as_text(place, words))
    if not rebuilt:
        return 2
    try:
        if flags.output:
            publish(flags.output, encode_png(np.concatenate(rebuilt, axis=1)))
    except OSError as error:
        logger.error("--output %s cannot be written: %s", flags.output, error)
        return 1
    return int(len(rebuilt) < len(flags.pictures))


def parse_flags(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command's flags; SystemExit with status 2 names one that cannot be used."""
    parser = argparse.ArgumentParser(
        "spae encode", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("pictures", nargs="+", metavar="PICTURE", help="files or URLs, of any size and mode; the middle is taken")
    add(
        "--model",
        default="digits",
        help=f"comes with spae ({model_names()}), or a folder, URL or hub id (default: digits)",
    )
    add("--layers", type=int, metavar="N", help="first layers to print and to rebuild from (default: all)")
    add("--output", metavar="FILE.png", help="what the words rebuild, the pictures side by side")
    add("--json", action="store_true", help="one line of JSON a picture: its words and ids, or its error")
    flags = parser.parse_intermixed_args(arguments)
    if flags.output and not flags.output.endswith(".png"):
        parser.error(f"--output {flags.output} must end in .png")
    return flags


def as_text(place: str, words: WordGrids) -> str:
    """A picture's words for a terminal: rows and columns of each layer as they stand in the picture."""
    lines = [printable(place)]
    for number, grid in enumerate(words, 1):
        cells = [[printable(word) for word in row] for row in grid]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for row, head in zip(cells, (f"layer {number}", *[""] * len(cells)), strict=False):
            padded = "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True))
            lines.append(f"  {head:9} {padded}".rstrip())
    return "\n".join(lines)


def _write(line: str) -> None:
    sys.stdout.write(f"{line}\n")
