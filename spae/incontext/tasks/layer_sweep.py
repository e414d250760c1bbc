"""Settings that are layers: what Fig. 5 compares, of a task on COCO.

The paper shows captions and answers from the first 2, 4 and 6 layers, and from the tokens of a baseline: a model with
the same frozen codebook, trained without semantic guidance and pyramid (`jobs.train` with the ablation row frozen).
"""

from collections.abc import Sequence

from spae.incontext.tasks.released import PictureWords, ReleasedTask

BASELINE = "baseline"
SWEEP = (2, 4, 6)


class LayerSweep(ReleasedTask):
    """A task whose settings are N-layers of the model, and all layers of a baseline."""

    @property
    def settings(self) -> Sequence[str]:
        """The paper's, up to the layers that the model has; the baseline where there is one."""
        sweep = sorted({min(layers, self.data.words.depth) for layers in SWEEP})
        return (*(f"{layers}-layers" for layers in sweep), *([BASELINE] if self.data.baseline else []))

    def words(self, setting: str) -> tuple[PictureWords, int]:
        """The model's and the setting's number of layers, or the baseline's and all; ValueError for what is neither."""
        if setting == BASELINE and self.data.baseline:
            return self.data.baseline, self.data.baseline.depth
        number = setting.removesuffix("-layers")
        if number == setting or number not in map(str, range(1, self.data.words.depth + 1)):
            raise ValueError(
                f"setting {setting!r} is none of 1-layers to {self.data.words.depth}-layers, and {BASELINE}, which "
                "needs --baseline-model"
            )
        return self.data.words, int(number)
