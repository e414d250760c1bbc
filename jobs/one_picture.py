"""One picture and a model of pictures, for commands that need the plain install alone."""

import fsspec
import numpy as np
from numpy.typing import NDArray

from spae.data.media import DEFAULT_LIMITS, decode_image, fit_image
from spae.model import SPAE
from spae.model_folder import shipped_models


def model_names() -> str:
    """Names of the models that come with spae."""
    return ", ".join(shipped_models())


def load_model(name: str) -> SPAE:
    """The model; ValueError where it takes clips."""
    model = SPAE.from_pretrained(name)
    if len(model.config.input_size) != 2:
        raise ValueError(f"--model {name} takes clips of {model.config.input_size}; give a model of images")
    return model


def read_picture(place: str, size: tuple[int, ...]) -> NDArray[np.uint8]:
    """uint8 (H, W, 3) of the model's input size; ValueError or OSError where there is no picture."""
    try:
        with fsspec.open(place, "rb") as file:
            data = file.read(DEFAULT_LIMITS.bytes + 1)
    except FileNotFoundError as error:
        raise ValueError("does not exist") from error
    except IsADirectoryError as error:
        raise ValueError("is a folder; give the pictures in it, or use spae tokenize --input") from error
    return fit_image(decode_image(data), (size[0], size[1]))


def printable(text: str) -> str:
    """A word or a file's name without what a terminal would obey."""
    return "".join(mark if mark.isprintable() else mark.encode("unicode_escape").decode() for mark in text)
