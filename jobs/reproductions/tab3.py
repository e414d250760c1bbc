"""Tab. 3: questions about pictures, Real-Fast-VQA (section 4.2)."""

from jobs.reproductions.understanding import UnderstandingTable
from spae.incontext.published import TABLE_3

TABLE = UnderstandingTable(
    title="Tab. 3: Real-Fast-VQA by a frozen language model",
    settings=tuple(TABLE_3[0].percents),
    layers=(2, 3),
    released_task="real-fast-vqa",
    labelled_task=None,
    published=[row for row in TABLE_3 if row.system.startswith("SPAE")],
    pictures="two ImageNet classes and a Visual Genome picture of both, in the episodes that Frozen released",
    task="questions about classes that were introduced by their own names",
    prompt="C: words, Q: question, A: answer",
    questions="all released",
    notes=(*UnderstandingTable.notes, "Our copy of the paper does not say how many layers it took here."),
)
