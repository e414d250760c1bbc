import dataclasses
import hashlib
import json

import open_clip
import pytest
from safetensors.torch import load_file, save_file

from spae.clip import (
    golden_cosine,
    load_clip,
    require_same_clip,
    semantics_record,
)
from tests.tiny_models import CAUSAL_TEXT, VISION, causal_clip, hugging_face_clip, save_bert, save_clip

TEMPLATES = ("a {}.", "a photo of the {}, a dog", "{}")


def test_a_record_knows_its_clip_again(causal, hugging_face):
    record = semantics_record(causal, "three", TEMPLATES)
    require_same_clip(causal, record)
    assert record.templates == TEMPLATES
    assert record.golden_cosine == pytest.approx(golden_cosine(causal), abs=1e-6)
    with pytest.raises(ValueError, match="architecture_sha256"):
        require_same_clip(hugging_face, record)
    with pytest.raises(ValueError, match="weights_sha256"):
        require_same_clip(causal, dataclasses.replace(record, weights_sha256="0" * 64))
    with pytest.raises(ValueError, match="fixed picture and sentence"):
        require_same_clip(causal, dataclasses.replace(record, golden_cosine=record.golden_cosine + 0.1))


def test_the_same_weights_have_one_checksum_wherever_they_lie(tmp_path):
    names = [causal_clip(tmp_path / folder) for folder in ("here", "there")]
    first, second = (load_clip(name) for name in names)
    assert first.weights_sha256 == second.weights_sha256
    assert first.architecture_sha256 == second.architecture_sha256
    assert load_clip(causal_clip(tmp_path / "other", seed=1)).weights_sha256 != first.weights_sha256


def test_a_hugging_face_folder_may_be_moved_after_it_was_written(tmp_path):
    bert = save_bert(tmp_path / "bert")
    before = load_clip(hugging_face_clip(tmp_path / "clip", bert))
    for file in bert.iterdir():
        file.unlink()
    (tmp_path / "clip").rename(tmp_path / "moved")
    after = load_clip(f"local-dir:{tmp_path / 'moved'}")
    assert after.weights_sha256 == before.weights_sha256
    assert after.architecture_sha256 == before.architecture_sha256


@pytest.fixture(scope="module")
def small_vit(tmp_path_factory):
    """open_clip's model configurations are a registry: two small ones that differ in their activation alone."""
    folder = tmp_path_factory.mktemp("registry")
    config = json.loads((folder_of(causal_clip(folder / "model")) / "open_clip_config.json").read_text())["model_cfg"]
    for name, quick in (("tiny-vit", False), ("tiny-vit-quickgelu", True)):
        (folder / f"{name}.json").write_text(json.dumps({**config, "quick_gelu": quick}))
        open_clip.add_model_config(folder / f"{name}.json")
    return folder / "model" / "open_clip_model.safetensors"


def folder_of(name):
    from pathlib import Path

    return Path(name.removeprefix("local-dir:"))


def test_a_plain_name_takes_a_weights_file(small_vit):
    guide = load_clip("tiny-vit", str(small_vit))
    assert guide.weights == "open_clip_model.safetensors"
    assert guide.activation == "gelu"
    quick = load_clip("tiny-vit-quickgelu", str(small_vit))
    assert quick.activation == "quick_gelu"
    assert quick.weights_sha256 == guide.weights_sha256
    assert quick.architecture_sha256 != guide.architecture_sha256, "the activation decides what the weights mean"


def test_weights_trained_with_the_other_activation_are_refused(small_vit, tmp_path, monkeypatch):
    for name, tag, twin in (
        ("ViT-L-14", "openai", "ViT-L-14-quickgelu"),
        ("ViT-B-32", "openai", "ViT-B-32-quickgelu"),
    ):
        with pytest.raises(ValueError, match=f"other activation .* use {twin}"):
            load_clip(name, tag)
    checksum = hashlib.sha256(small_vit.read_bytes()).hexdigest()
    tags = {"openai": {"url": f"https://example.org/{checksum}/ViT.pt", "quick_gelu": True}}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny-vit", tags)
    with pytest.raises(ValueError, match=r"other activation .* use tiny-vit-quickgelu"):
        load_clip("tiny-vit", str(small_vit))
    tags["openai"]["url"] = ""
    assert load_clip("tiny-vit", str(small_vit)).activation == "gelu", "nothing is known of this file"
    (tmp_path / "models--tiny.openai").mkdir()
    renamed = tmp_path / "models--tiny.openai" / "model.safetensors"
    renamed.write_bytes(small_vit.read_bytes())
    with pytest.raises(ValueError, match="other activation"):
        load_clip("tiny-vit", str(renamed))


def test_what_cannot_be_loaded_is_one_clear_error(small_vit, tmp_path):
    tensors = load_file(small_vit)
    save_file(
        {name: tensor for name, tensor in tensors.items() if name != "ln_final.weight"}, tmp_path / "part.safetensors"
    )
    (tmp_path / "cut.safetensors").write_bytes(small_vit.read_bytes()[:1000])
    (tmp_path / "pickle.pt").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    (tmp_path / "empty").mkdir()
    for name, weights, reason in (
        ("tiny-vit", None, "needs weights"),
        (f"local-dir:{tmp_path}", "openai", "give none"),
        ("no-such-model", "openai", "knows no model 'no-such-model'"),
        ("tiny-vit", "no-such-tag", "not a known tag"),
        ("tiny-vit", str(tmp_path / "part.safetensors"), "ln_final.weight"),
        ("tiny-vit", str(tmp_path / "cut.safetensors"), "cannot be loaded"),
        ("tiny-vit", str(tmp_path / "pickle.pt"), "cannot be loaded"),
        (f"local-dir:{tmp_path / 'empty'}", None, "open_clip_config.json"),
        (f"local-dir:{tmp_path / 'absent'}", None, "open_clip_config.json"),
    ):
        with pytest.raises(ValueError, match=f"(?s)CLIP .*{reason}"):
            load_clip(name, weights)


def test_a_clip_of_oblong_pictures_is_refused(tmp_path):
    config = {"embed_dim": 24, "vision_cfg": {**VISION, "image_size": [32, 16]}, "text_cfg": CAUSAL_TEXT}
    with pytest.raises(ValueError, match="only square ones"):
        load_clip(save_clip(tmp_path, config))
