import copy
import json
from pathlib import Path

import open_clip
import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer
from torch.nn import functional

from spae.clip import imagenet_templates, load_clip, prompt_features
from spae.clip.text_tower import causal_tower, encode_prompts
from tests.tiny_models import CAUSAL_TEXT, VISION, WORDS, hugging_face_clip, save_bert

END = 49407
FANCY = ("qk_norm", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc")
TEXTS = {  # of each kind: the model's class, then how its text tower differs from CLIP's own
    "CLIP": (open_clip.CLIP, {}),
    "CLIP with a biased projection": (open_clip.CLIP, {"proj_bias": True}),
    "CLIP without a projection": (open_clip.CLIP, {"proj_type": "none"}),
    "CLIP that pools at an id": (open_clip.CLIP, {"pool_type": "eos", "eos_id": END}),
    "CLIP that pools the last": (open_clip.CLIP, {"pool_type": "last"}),
    "CLIP that pools the first": (open_clip.CLIP, {"pool_type": "first"}),
    "custom text": (open_clip.CustomTextCLIP, {}),
    "custom text with layer scale": (open_clip.CustomTextCLIP, {"ls_init_value": 0.5, "layers": 1}),
    "custom text with custom blocks": (open_clip.CustomTextCLIP, dict.fromkeys(FANCY, True)),
    "custom text with a class token": (open_clip.CustomTextCLIP, {"embed_cls": True}),
    "CoCa": (open_clip.CoCa, {"embed_cls": True, "output_tokens": True}),
    "SigLIP": (open_clip.CustomTextCLIP, {"no_causal_mask": True, "pool_type": "last", "proj_bias": True}),
    "MobileCLIP": (open_clip.CustomTextCLIP, {"no_causal_mask": True}),
}
CAUSAL = [kind for kind, (_, text) in TEXTS.items() if "no_causal_mask" not in text]
HARD = [
    "cat",
    "snow leopard",
    "supercalifragilisticexpialidocious",
    "!",  # id 0, which is the padding's
    "a!!!b",
    "...",  # merges with the point that follows
    "dog's",
    "'",
    "1984",
    "日本語",
    "🦄",
    "👩‍🚀",
    "very " * 40,
    "<end_of_text>",
]


def tower(kind, seed=0, **changes):
    """A random model; all its parameters differ from what they are initialized to."""
    model_class, text = TEXTS[kind]
    more = {"multimodal_cfg": {"width": 16, "heads": 2, "layers": 1}} if model_class is open_clip.CoCa else {}
    torch.manual_seed(seed)
    width = 16 if text.get("proj_type") == "none" else 24
    model = model_class(embed_dim=width, vision_cfg=VISION, text_cfg={**CAUSAL_TEXT, **text, **changes}, **more)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def tokenizer():
    return SimpleTokenizer()


@pytest.fixture(scope="module")
def prompts(tokenizer):
    """Ids of every hard word in all of ImageNet's templates, and the numbers of their templates."""
    texts = [template.replace("{}", word) for word in HARD for template in imagenet_templates()]
    return tokenizer(texts), torch.arange(len(texts)) % 80


def assert_equal_to_open_clip(model, ids, templates, batch_size=256):
    with torch.no_grad():
        expected = functional.normalize(model.encode_text(ids), dim=-1)
    features = encode_prompts(model, ids, templates, batch_size)
    assert features.dtype == torch.float32
    assert torch.isfinite(expected).all()
    assert float((features - expected).norm(dim=1).max()) < 1e-5, "relative: the features have unit length"


def embedded_tokens(model, ids, templates, batch_size=256):
    """How many tokens enter the tower."""
    counts = []
    text = model if isinstance(model, open_clip.CLIP) else model.text
    hook = text.token_embedding.register_forward_hook(lambda module, inputs, output: counts.append(inputs[0].numel()))
    encode_prompts(model, ids, templates, batch_size)
    hook.remove()
    return sum(counts)


@pytest.mark.parametrize("kind", TEXTS)
def test_features_are_open_clips_own_for_all_templates(kind, prompts):
    assert_equal_to_open_clip(tower(kind), *prompts)


def test_the_activation_is_the_models():
    model = open_clip.CLIP(24, VISION, CAUSAL_TEXT, quick_gelu=True).eval()
    ids = torch.tensor([[5, 6, END, 0], [5, 7, 8, END]])
    assert_equal_to_open_clip(model, functional.pad(ids, (0, 73)), torch.zeros(2, dtype=torch.int64))


def test_hugging_faces_towers_too(tmp_path):
    guide = load_clip(hugging_face_clip(tmp_path / "clip", save_bert(tmp_path / "bert")))
    texts = [template.replace("{}", word) for word in WORDS[:6] for template in imagenet_templates()]
    assert causal_tower(guide.model) is None
    assert_equal_to_open_clip(guide.model, guide.tokenizer(texts), torch.arange(len(texts)) % 80)


def test_every_text_configuration_that_open_clip_ships():
    torch.manual_seed(0)
    ids = torch.randint(3, 90, (40, 12))
    ids[:, 2:4] = 7
    ends = torch.randint(4, 12, (40, 1))
    columns = torch.arange(12)
    known = {}
    for file in sorted((Path(open_clip.__file__).parent / "model_configs").glob("*.json")):
        config = json.loads(file.read_text())
        text = {**config["text_cfg"], "width": 16, "heads": 2, "layers": 2, "context_length": 12, "vocab_size": 100}
        known[json.dumps([text, bool(config.get("custom_text")), config.get("quick_gelu")], sort_keys=True)] = None
    assert len(known) > 20
    for text, custom, quick in map(json.loads, known):
        if "hf_model_name" in text:
            continue
        model_class = open_clip.CustomTextCLIP if custom or text.get("embed_cls") else open_clip.CLIP
        model = model_class(16, VISION, {**text, "output_tokens": False}, quick_gelu=bool(quick)).eval()
        end = text.get("eos_id", 99)
        padded = torch.where(columns > ends, 0, torch.where(columns == ends, end, ids))
        assert_equal_to_open_clip(model, padded, torch.arange(40) % 3, batch_size=16)
        assert (causal_tower(model) is None) == bool(text.get("no_causal_mask")), text


@pytest.mark.parametrize("kind", ["CLIP", "CoCa", "SigLIP"])
def test_neither_batches_nor_neighbours_matter(kind, prompts):
    model, (ids, templates) = tower(kind), prompts
    ids, templates = ids[::3], templates[::3]
    whole = encode_prompts(model, ids, templates, 256)
    order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(0))
    for rows, kinds, batch_size in (
        (order, templates, 64),
        (order, templates // 7, 256),
        (order[:7], templates, 1),
        (order[:50], torch.zeros_like(templates), 13),
    ):
        features = encode_prompts(model, ids[rows], kinds[rows], batch_size)
        torch.testing.assert_close(features, whole[rows], atol=1e-6, rtol=0)


def test_the_order_of_words_does_not_matter(tokenizer):
    model = tower("custom text")
    features = prompt_features(model, tokenizer, HARD, imagenet_templates()[:9])
    backwards = prompt_features(model, tokenizer, HARD[::-1], imagenet_templates()[:9], batch_size=5)
    torch.testing.assert_close(backwards.flip(0), features, atol=1e-6, rtol=0)


def test_prompts_are_tokenized_whole(tokenizer):
    """A word may merge with what follows it: parts of a prompt tokenized alone would be another prompt."""
    whole = tokenizer.encode("a photo of ....")
    assert whole != [*tokenizer.encode("a photo of"), *tokenizer.encode("..."), *tokenizer.encode(".")]
    model = tower("CLIP")
    features = prompt_features(model, tokenizer, ["cat", "..."], ["a photo of {}."])
    expected = model.encode_text(tokenizer(["a photo of cat.", "a photo of ...."]), normalize=True)
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=0)


def test_padding_is_left_out_and_beginnings_run_once(tokenizer):
    words, templates = ["cat", "dog", "snow leopard"], ["a photo of a {}.", "the {}"]
    ids = tokenizer([template.replace("{}", word) for word in words for template in templates])
    template_of = torch.arange(6) % 2
    beginnings, rests = (1 + 4) + (1 + 1), (3 + 3 + 4) + (2 + 2 + 3)
    assert embedded_tokens(tower("CLIP"), ids, template_of) == beginnings + rests
    assert embedded_tokens(tower("CLIP"), ids, template_of, batch_size=1) == beginnings * 3 + rests
    with_class = tower("custom text with a class token")  # in each prompt the token, and one of padding before it
    assert embedded_tokens(with_class, ids, template_of) == beginnings + rests + 6 * 2
    assert embedded_tokens(tower("SigLIP"), ids, template_of) == ids.numel()


def test_siglips_padding_is_not_cut(tokenizer):
    """Its towers attend to padding, in training too: without it the features are others."""
    model = tower("SigLIP")
    ids = tokenizer(["a photo of a cat.", "a photo of a dog."])
    whole = functional.normalize(model.encode_text(ids), dim=-1)
    cut = functional.normalize(model.encode_text(ids[:, :8]), dim=-1)
    assert float((cut - whole).norm(dim=1).min()) > 1e-2
    ours = encode_prompts(model, ids, torch.zeros(2, dtype=torch.int64), 256)
    torch.testing.assert_close(ours, whole, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", TEXTS)
def test_which_towers_are_known_to_be_causal(kind):
    assert (causal_tower(tower(kind)) is not None) == (kind in CAUSAL)


def test_a_tower_that_attends_in_its_own_way_is_left_alone(prompts):
    class OtherBlock(open_clip.transformer.ResidualAttentionBlock):
        pass

    class OtherText(open_clip.transformer.TextTransformer):
        pass

    ids, templates = (part[:160] for part in prompts)
    base = tower("custom text")
    block, text, mask, prefix, cosine = (copy.deepcopy(base) for _ in range(5))
    block.text.transformer.resblocks[1].__class__ = OtherBlock
    text.text.__class__ = OtherText
    mask.text.attn_mask[3, 5] = 0
    prefix.text.attn_mask[:, :3] = 0  # a prefix language model's
    cosine = tower("custom text", scaled_cosine_attn=True)
    for model in (block, text, mask, prefix, cosine):
        assert causal_tower(model) is None
    for model in (block, text, mask, prefix):
        assert_equal_to_open_clip(model, ids, templates)


def test_coca_with_the_mask_that_its_authors_meant(prompts):
    model = tower("CoCa")
    model.text.correct_cls_mask = True
    assert causal_tower(model) is not None
    assert_equal_to_open_clip(model, *prompts)


def test_coca_in_prompts_that_fill_the_context():
    """The last column is no padding then, and the class token, masked one column late, sees itself."""
    ids = torch.randint(1, 49000, (6, 77), generator=torch.Generator().manual_seed(0))
    ids[:, :3], ids[3:, 70:], ids[1, 10], ids[2, 76] = 9, 0, 0, 0
    assert_equal_to_open_clip(tower("CoCa"), ids, torch.zeros(6, dtype=torch.int64))


@pytest.mark.parametrize("correct", [False, True])
def test_coca_with_padding_inside_of_prompts(correct):
    """The padding's id is that of "!" inside of a word: the same tokens remain, but in other places."""
    model = tower("CoCa")
    model.text.correct_cls_mask = correct
    rows = torch.tensor([[9, 0, 5, 7, 8, 6], [9, 0, 0, 5, 7, 8], [9, 5, 7, 8, 6, 0], [9, 0, 5, 7, 8, 0]])
    assert_equal_to_open_clip(model, functional.pad(rows, (0, 71)), torch.tensor([0, 0, 1, 1]))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", ["CLIP", "CoCa", "SigLIP"])
def test_a_device_gives_the_same(kind, prompts):
    model, (ids, templates) = tower(kind), prompts
    expected = encode_prompts(model, ids, templates, 256)
    features = encode_prompts(model.cuda(), ids, templates, 256)
    assert features.device.type == "cpu"
    torch.testing.assert_close(features, expected, atol=1e-4, rtol=0)
