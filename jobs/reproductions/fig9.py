"""Fig. 9: the same denoising by words of other tokenizers, VQGAN's and LQAE's (section 4.3)."""

from dataclasses import replace

from jobs.reproductions import fig7
from jobs.reproductions.drawings import strides

FIGURE = replace(
    fig7.FIGURE,
    title="Fig. 9: denoising by the words of other tokenizers",
    settings=fig7.FIGURE.settings[:2],
    variants={name: (*flags, "--unconstrained") for name, flags in strides(4).items()},
    of_baselines=True,
    notes=(
        *fig7.FIGURE.notes,
        "A learned code is given the word of its number (`jobs.export` and `jobs.ablate` do). The paper says that many "
        "words which the language model writes for VQGAN are out of its vocabulary: the invalid share tells how many.",
    ),
)
