"""Small data folders in the layouts that others released, of real handwritten digits and real photographs."""

import functools
import json
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from spae.data.media import encode_jpeg, encode_png, fit_image
from spae.incontext.prompts import SETTINGS
from tests.photographs import photographs

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SUBJECTS = ("temple", "flower", "portrait")


def save_inner_shots(folder: Path, name: str, shots: int, ways: int, questions: int = 6, **changes) -> list[dict]:
    """A file of Frozen's layout about digits, the first shots of each class its examples; `changes` in each item."""
    generator, digits = np.random.default_rng(0), _digits()
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    items = []
    for _ in range(questions):
        classes = generator.permutation(10)[:ways].tolist()
        rows = [generator.permutation(np.flatnonzero(digits.target == label))[: shots + 1] for label in classes]
        shown = [(classes[way], rows[way][shot]) for shot in range(shots) for way in range(ways)]
        asked = int(generator.integers(ways))
        item = {"question": "What is this?", "answer": NAMES[classes[asked]]}
        for place, (label, row) in enumerate(shown, 1):
            item[f"image_{place}"] = save_digit(folder, int(row))
            item[f"caption_{place}"] = f"This is a {NAMES[label]}"
        item["question_image"] = save_digit(folder, int(rows[asked][shots]))
        items.append(item | changes)
    (folder / f"{name}_shots_{shots}_ways_{ways}_all_questions.json").write_text(json.dumps(items))
    return items


def save_tab_1(folder: Path, name: str) -> None:
    """The files of all fourteen settings."""
    for shots, ways in {(setting.shots, setting.ways) for setting in SETTINGS.values()}:
        save_inner_shots(folder, name, shots, ways)


def save_digit(folder: Path, row: int) -> str:
    """One of sklearn's digits as a picture; its path below the folder."""
    path = f"pictures/{row}.png"
    pixels = (_digits().images[row] * 15).astype(np.uint8).repeat(4, 0).repeat(4, 1)
    (folder / path).write_bytes(encode_png(pixels))
    return path


def digit_name(row: int) -> str:
    """What one of sklearn's digits shows."""
    return NAMES[_digits().target[row]]


_digits = functools.cache(load_digits)


def save_coco_qa(folder: Path, answers: int = 12) -> None:
    """Tiles of the photographs: three questions an answer to train, one to test."""
    for part, split, each in (("train", "train2014", 3), ("test", "val2014", 1)):
        lines = [(row, answer) for row in range(each) for answer in range(answers)]
        numbers = [100 * row + answer for row, answer in lines]
        save_coco_pictures(folder, split, numbers)
        (folder / part).mkdir(parents=True)
        columns = {
            "img_ids": numbers,
            "questions": [f"what is shown in place {row} ?" for row, _ in lines],
            "answers": [f"thing{answer}" for _, answer in lines],
            "types": [0 for _ in lines],
        }
        for name, column in columns.items():
            (folder / part / f"{name}.txt").write_text("".join(f"{value}\n" for value in column))


def save_captions(folder: Path, train: int = 12, val: int = 5) -> None:
    """COCO's annotations of tiles of the photographs, two captions each."""
    (folder / "annotations").mkdir(parents=True)
    for split, count in (("train2014", train), ("val2014", val)):
        save_coco_pictures(folder, split, list(range(count)))
        images = [{"id": number, "file_name": coco_name(split, number)} for number in range(count)]
        annotations = [
            {"id": 2 * number + more, "image_id": number, "caption": f"A {word} of the {SUBJECTS[number % 3]}.\n"}
            for number in range(count)
            for more, word in enumerate(("photograph", "picture"))
        ]
        document = {"images": images, "annotations": annotations}
        (folder / "annotations" / f"captions_{split}.json").write_text(json.dumps(document))


def coco_name(split: str, number: int) -> str:
    """As COCO calls its pictures."""
    return f"COCO_{split}_{number:012d}.jpg"


def save_coco_pictures(folder: Path, split: str, numbers: list[int]) -> None:
    """Of each number a tile of one of the three photographs."""
    (folder / split).mkdir(parents=True, exist_ok=True)
    pictures = photographs()
    for number in numbers:
        left = 2 * (number % 50)
        tile = fit_image(pictures[number % 3][:, left : left + 300], (48, 48))
        (folder / split / coco_name(split, number)).write_bytes(encode_jpeg(tile, 90))
