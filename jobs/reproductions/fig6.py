"""Fig. 6: digits that a frozen language model draws, asked by name, by a sum and by what comes before (section 4.3)."""

from jobs.reproductions.drawings import JUDGED, DrawingsFigure, strides

FIGURE = DrawingsFigure(
    title="Fig. 6: drawing what is asked for",
    task="draw-classes",
    settings=("5-shot", "5-shot-sum", "5-shot-successor"),
    variants=strides(4),
    measure=JUDGED,
    paper={
        "pictures": "MNIST, examples too",
        "tokenizer": "trained on MNIST at 32 x 32",
        "language model": "PaLM 2",
        "examples": "50",
        "answers": "progressive (equation 11), their stride not told",
    },
)
