"""Some pictures of a split with their words and what every number of layers rebuilds."""

from spae.data.records import SplitIndex, load_class_names
from spae.evaluation.pictures import channels_first, encode_in_batches, read_pictures
from spae.figures import png_bytes, pyramid_examples, pyramid_figure, word_colours
from spae.model import SPAE


def draw_examples(model: SPAE, index: SplitIndex, count: int, batch: int) -> bytes:
    """The first pictures of the first shard that holds any, as a PNG; ValueError where none can be decoded."""
    for shard in index.shards:
        for pictures in read_pictures(shard, model.config.input_size, count):
            if pictures.keys:
                pyramid = encode_in_batches(model, pictures.pixels, batch)
                names = load_class_names(shard.url.rsplit("/", 1)[0])
                titles = [
                    key if label is None else names.get(label, key)
                    for key, label in zip(pictures.keys, pictures.labels, strict=True)
                ]
                drawn = pyramid_examples(model, channels_first(pictures.pixels), pyramid, titles)
                colours = word_colours(model.vocabulary.embeddings)
                return png_bytes(pyramid_figure(drawn, model.vocabulary.word_list, colours))
    raise ValueError(f"no picture of {index.name} can be decoded")
