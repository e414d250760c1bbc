"""Files of Frozen's authors: some pictures of each class with a caption that names it, then a question.

`{set}_shots_{shots}_ways_{ways}_all_questions.json` is a list of objects with image_1, caption_1, ... image_n,
caption_n (n = ways x shots), question, question_image and answer; pictures lie beside the file.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from spae.incontext.tasks.released import ReleasedData, ReleasedTask
from spae.incontext.tasks.released_files import read_items, text_of
from spae.incontext.text import one_line

_NAMED = re.compile(r"\s*this is (?:an? )?(.+?)\.?\s*", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class InnerShots:
    """A question with its support: n pictures and their classes' names, then the picture that is asked about."""

    pictures: tuple[str, ...]
    names: tuple[str, ...]
    question: str
    question_picture: str
    answer: str


class InnerShotsTask(ReleasedTask):
    """What tasks on such files share; a file is read when the first setting needs it.

    Args:
        data: folder of the set, with its files and pictures.
        name: of the task.
        set_name: as the files begin.
    """

    def __init__(self, data: ReleasedData, name: str, set_name: str) -> None:
        super().__init__(data, name)
        self._set = set_name
        self._read: dict[tuple[int, int], Sequence[InnerShots]] = {}

    def item(self, shots: int, ways: int, number: int) -> InnerShots:
        """Question `number` of a file in an order by the seed; ValueError where there are fewer."""
        if (shots, ways) not in self._read:
            self._read[shots, ways] = read_inner_shots(self.data.folder, self._set, shots, ways)
        items = self._read[shots, ways]
        return items[self.place(f"{self._set} {shots} {ways}", number, len(items))]


def read_inner_shots(folder: str, name: str, shots: int, ways: int) -> Sequence[InnerShots]:
    """The questions of a set; ValueError names the file, and the item and field that are not as released."""
    file = f"{name}_shots_{shots}_ways_{ways}_all_questions.json"
    (items,) = read_items(folder, file)
    found = []
    for number, item in enumerate(items):
        where, places = f"{folder}/{file}: item {number}", range(1, shots * ways + 1)
        found.append(
            InnerShots(
                pictures=tuple(text_of(item, f"image_{place}", where) for place in places),
                names=tuple(name_in(text_of(item, f"caption_{place}", where)) for place in places),
                question=text_of(item, "question", where),
                question_picture=text_of(item, "question_image", where),
                answer=name_in(text_of(item, "answer", where)),
            )
        )
    return found


def name_in(caption: str) -> str:
    """What "This is a lion" calls the picture; a text of another form as it is."""
    named = _NAMED.fullmatch(caption)
    return one_line(named[1] if named else caption)
