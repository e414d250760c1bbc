"""Fig. 7 and Fig. 2: damaged pictures that a frozen language model mends, at several strides (section 4.3)."""

from dataclasses import replace

from jobs.reproductions.drawings import RIGHT, DrawingsFigure, strides

FIGURE = DrawingsFigure(
    title="Fig. 7: conditional denoising, and strides of decoding",
    task="denoise",
    settings=tuple(f"{one}-same-picture" for one in ("outpainting", "deblurring", "inpainting", "shift", "rotation")),
    variants=strides(0, 16, 4),
    measure=RIGHT,
    paper={
        "pictures": "ImageNet, examples too",
        "tokenizer": "trained on ImageNet",
        "language model": "PaLM 2",
        "examples": "10, their words exchanged at random from 50% down to 20%",
        "answers": "progressive (equation 11); of infinite stride the paper says that it fails",
    },
)
EXAMPLE = replace(FIGURE, title="Fig. 2: one picture mended", settings=FIGURE.settings[:1], variants=strides(4))
