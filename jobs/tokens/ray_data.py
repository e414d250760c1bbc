"""A step of one's own Ray Data pipeline that turns pictures into words, for corpora that Ray Data reads and writes.

    images = ray.data.read_images("photos/", size=(128, 128), mode="RGB", include_paths=True)
    words = images.map_batches(
        PicturesToWords, fn_constructor_kwargs={"model": "model"}, batch_size=64, concurrency=2, num_cpus=1
    )
    words.write_parquet("words/")

`jobs.tokenize_shards` promises more (each sample once, dead letters, reruns, bytes that never change) and needs less
memory for a million shards; this goes wherever Ray Data goes.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.tokens.actors import load_for_actor
from spae.evaluation.pictures import encode_in_batches
from spae.model import SPAE
from spae.pyramid import check_layers

Columns = dict[str, NDArray[Any]]


class PicturesToWords:
    """A class for `map_batches`; each actor holds the model.

    Args:
        model: folder, URL, hub id, or the name of one that comes with spae; of pictures.
        layers: first ones to search, all by default.
        image: column of the pictures, uint8 (n, H, W, 3) of the model's input size; it is left out of what comes out.
        batch: pictures of every pass of the model.
        device: of torch.

    Raises:
        ValueError: there is no such model or layer, or the model takes clips.
    """

    def __init__(
        self, model: str, layers: int | None = None, image: str = "image", batch: int = 64, device: str = "cpu"
    ) -> None:
        self._model: SPAE = load_for_actor(model, None, device)
        self._image, self._batch, self._layers = image, batch, check_layers(layers, self._model.depth)
        if len(self._model.config.input_size) != 2:
            raise ValueError(f"{model} takes clips of {self._model.config.input_size}; give a model of pictures")

    def __call__(self, batch: Columns) -> Columns:
        """All other columns, and `layer_1` to `layer_N`, int32 (n, words) in raster order.

        ValueError for pictures of another size or kind.
        """
        pixels = batch[self._image]
        wanted = (*self._model.config.input_size, 3)
        if pixels.dtype != np.uint8 or pixels.shape[1:] != wanted:
            raise ValueError(
                f"column {self._image!r} holds {pixels.dtype} of {pixels.shape[1:]}, and the model takes uint8 of "
                f"{wanted}: read_images(..., size={wanted[:2]}, mode='RGB')"
            )
        pyramid = encode_in_batches(self._model, pixels, self._batch, self._layers)
        columns = {name: values for name, values in batch.items() if name != self._image}
        for number, ids in enumerate(pyramid.to_arrays(), 1):
            columns[f"layer_{number}"] = ids.reshape(len(ids), math.prod(ids.shape[1:]))
        return columns
