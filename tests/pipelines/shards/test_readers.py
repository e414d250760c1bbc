"""What others wrote reads our tars: every sample exactly once."""

import argparse
import functools
import itertools
import json

import open_clip
import open_clip_train.data
import pytest
import webdataset
import wids
from torchvision.transforms.functional import to_tensor

from spae.data.media import decode_image
from spae.data.records import load_class_names, load_index
from tests.pipelines.folders import digits


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    """270 digits in nine shards."""
    output = tmp_path_factory.mktemp("shards")
    assert digits(output, "--samples-per-shard", "30") == 0
    return output / "val"


def urls(split):
    return [shard.url for shard in load_index(str(split)).shards]


@pytest.mark.parametrize(("nodes", "workers"), [(1, 1), (2, 2), (3, 3), (4, 1)])
def test_nodes_and_workers_of_webdataset_share_the_samples(split, nodes, workers, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", str(nodes))
    monkeypatch.setenv("NUM_WORKERS", str(workers))
    keys = []
    for node, worker in itertools.product(range(nodes), range(workers)):
        monkeypatch.setenv("RANK", str(node))
        monkeypatch.setenv("WORKER", str(worker))
        data = webdataset.WebDataset(urls(split), nodesplitter=webdataset.split_by_node, shardshuffle=False)
        own = [sample["__key__"] for sample in data]
        assert own
        keys += own
    assert len(keys) == len(set(keys)) == 270


@pytest.mark.parametrize("nodes", [1, 2])
def test_worker_processes_of_webdataset_share_the_samples(split, nodes, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", str(nodes))
    keys = []
    for node in range(nodes):
        monkeypatch.setenv("RANK", str(node))
        data = webdataset.WebDataset(urls(split), nodesplitter=webdataset.split_by_node, shardshuffle=False)
        loader = webdataset.WebLoader(data, batch_size=None, num_workers=2)
        keys += [sample["__key__"] for sample in loader]
    assert len(keys) == len(set(keys)) == 270


@pytest.mark.parametrize("training", [False, True])
def test_open_clip_trains_on_and_evaluates_what_was_written(split, training, monkeypatch):
    # open_clip 3.3 was written for webdataset 0.2, which marked no tar's end
    expander = functools.partial(open_clip_train.data.tar_file_expander, eof_value=None)
    monkeypatch.setattr(open_clip_train.data, "tar_file_expander", expander)
    pattern = str(split / "val-{000000..000008}.tar")
    flags = {"train_num_samples": None, "val_num_samples": None, "train_data_upsampling_factors": None, "seed": 0}
    flags |= {"dataset_resampled": False, "batch_size": 27, "workers": 0, "world_size": 1}
    options = argparse.Namespace(train_data=pattern, val_data=pattern, **flags)
    loader = open_clip_train.data.get_wds_dataset(
        options, to_tensor, is_train=training, tokenizer=open_clip.tokenize
    ).dataloader
    batches = list(loader)
    assert (len(batches), loader.num_samples) == (10, 270 if training else 0)
    assert {tuple(images.shape) for images, _ in batches} == {(27, 3, 32, 32)}
    names = set(load_class_names(str(split)).values())
    known = {tuple(open_clip.tokenize(name)[0].tolist()) for name in names}
    texts = [tuple(text.tolist()) for _, batch in batches for text in batch]
    assert len(texts) == 270
    assert set(texts) == known


def test_wids_reads_the_index(split, tmp_path):
    data = wids.ShardListDataset(str(split / "index.json"), cache_dir=str(tmp_path), transformations=[])
    assert len(data) == 270
    names = load_class_names(str(split))
    keys = set()
    for number in range(270):
        sample = data[number]
        keys.add(sample["__key__"])
        label = int(sample[".cls"].read())
        assert sample[".txt"].read().decode() == names[label] == json.load(sample[".json"])["label_name"]
        assert decode_image(sample[".png"].read()).shape == (32, 32, 3)
    assert len(keys) == 270
