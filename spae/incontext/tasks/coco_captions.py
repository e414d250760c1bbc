"""Captions of COCO's pictures after ten examples, scored by CIDEr and BLEU over all of them (section 5.3, Fig. 5).

Released as `annotations/captions_train2014.json` and `captions_val2014.json` (any year), with pictures in COCO's own
folders `train2014/` and `val2014/` beside `annotations/`. Examples are of the first file, queries of the second.

CIDEr and BLEU are those of pycocoevalcap, whose numbers the literature prints; its tokenizer alone needs Java, and is
replaced by `caption_words`: lower case, no punctuation. A row's score is the BLEU-1 of its caption alone.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from spae.data.order import random_generator
from spae.data.publishing import join, list_files
from spae.incontext.language_model import AnswerLimits
from spae.incontext.prompts import Example, caption_prompt
from spae.incontext.tasks.layer_sweep import LayerSweep
from spae.incontext.tasks.released import Draw, ReleasedData
from spae.incontext.tasks.released_files import number_of, read_items, text_of
from spae.incontext.text import one_line

SHOTS = 10
_WORD = re.compile(r"'?\w+(?:-\w+)*")


@dataclass(frozen=True)
class _Captioned:
    picture: str
    captions: tuple[str, ...]


class CocoCaptions(LayerSweep):
    """Captions of pictures of the validation part, after examples of the training part."""

    def __init__(self, data: ReleasedData, name: str) -> None:
        super().__init__(data, name)
        corpus_scores([("a", "a")])  # a missing package is told before anything is asked

    def limits(self, setting: str) -> AnswerLimits:
        """Greedy free text, one line of 20 tokens (facts 3)."""
        return AnswerLimits(most_tokens=20)

    def parse(self, answer: str) -> str:
        """The first line."""
        return one_line(answer.split("\n", 1)[0])

    def score(self, parsed: str, target: str) -> float:
        """BLEU-1 of this caption alone, against the lines of the target."""
        return corpus_scores([(parsed, target)])["BLEU-1"]

    def corpus_scores(self, answers: Iterable[tuple[str, str]]) -> Mapping[str, float]:
        """CIDEr (from 0 to 10, word weights from the targets of all answers) and BLEU-1 to 4 (from 0 to 1)."""
        return corpus_scores(answers)

    def draw(self, setting: str, number: int) -> Draw:
        """Picture `number` of the validation part in an order by the seed; the target is its captions, a line each."""
        self.words(setting)
        query = self._val[self.place("coco-captions", number, len(self._val))]
        draw = random_generator(self.data.seed, number, "coco-captions examples")
        shown = [self._train[at] for at in draw.choice(len(self._train), SHOTS, replace=False)]
        told = [one.captions[int(draw.integers(len(one.captions)))] for one in shown]
        return Draw(
            support=tuple(one.picture for one in shown),
            query=query.picture,
            target="\n".join(map(one_line, query.captions)),
            prompt=lambda words, text: caption_prompt(list(map(Example, words, told)), text),
        )

    @cached_property
    def _train(self) -> Sequence[_Captioned]:
        found = list(self._read("train"))
        if len(found) < SHOTS:
            raise ValueError(f"{self.data.folder} has {len(found)} pictures with captions to train; {SHOTS} are needed")
        return found

    @cached_property
    def _val(self) -> Sequence[_Captioned]:
        return list(self._read("val"))

    def _read(self, part: str) -> Iterator[_Captioned]:
        """Pictures that have captions, in the order of the file's images."""
        pattern = re.compile(rf"captions_({part}\d+)\.json")
        names = [name for name in list_files(join(self.data.folder, "annotations")) if pattern.fullmatch(name)]
        if len(names) != 1:
            raise ValueError(
                f"{self.data.folder}/annotations holds {len(names)} files captions_{part}YEAR.json and one is needed; "
                "--data names the folder with COCO's annotations/ and pictures"
            )
        file, folder = f"annotations/{names[0]}", names[0].removeprefix("captions_").removesuffix(".json")
        images, annotations = read_items(self.data.folder, file, "images", "annotations")
        captions = defaultdict[int, list[str]](list)
        for number, item in enumerate(annotations):
            where = f"{self.data.folder}/{file}: annotation {number}"
            captions[number_of(item, "image_id", where)].append(text_of(item, "caption", where))
        for number, item in enumerate(images):
            where = f"{self.data.folder}/{file}: image {number}"
            if told := captions.get(number_of(item, "id", where)):
                yield _Captioned(f"{folder}/{text_of(item, 'file_name', where)}", tuple(told))


def caption_words(caption: str) -> str:
    """The words of a caption as CIDEr and BLEU count them, blanks between."""
    return " ".join(_WORD.findall(caption.lower()))


def corpus_scores(answers: Iterable[tuple[str, str]]) -> dict[str, float]:
    """CIDEr and BLEU-1 to 4 of captions, each with its references, a line each.

    ValueError where the package that measures is missing.
    """
    try:
        from pycocoevalcap.bleu.bleu import Bleu
        from pycocoevalcap.cider.cider import Cider
    except ModuleNotFoundError as error:
        raise ValueError(f"captions are scored by pycocoevalcap: pip install 'spae[captions]' ({error})") from error
    said, right = dict[int, list[str]](), dict[int, list[str]]()
    for number, (caption, lines) in enumerate(answers):
        said[number] = [caption_words(caption)]
        right[number] = [caption_words(line) for line in lines.split("\n")]
    bleu, _ = Bleu(4).compute_score(right, said, verbose=0)
    cider, _ = Cider().compute_score(right, said)
    return {"CIDEr": float(cider), **{f"BLEU-{order}": float(value) for order, value in enumerate(bleu, 1)}}
