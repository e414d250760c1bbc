"""SPAE: images and videos as pyramids of words from a frozen language model's vocabulary (arXiv 2306.17842).

The public names are resolved on first use, so that `import spae` costs nothing and a worker that only writes shards
never loads torch.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spae.config import SPAEConfig as SPAEConfig
    from spae.model import SPAE as SPAE
    from spae.presets import PRESETS as PRESETS
    from spae.pyramid import TokenPyramid as TokenPyramid
    from spae.vocabulary import Vocabulary as Vocabulary

_HOMES = {
    "PRESETS": "spae.presets",
    "SPAE": "spae.model",
    "SPAEConfig": "spae.config",
    "TokenPyramid": "spae.pyramid",
    "Vocabulary": "spae.vocabulary",
}
__all__ = ["PRESETS", "SPAE", "SPAEConfig", "TokenPyramid", "Vocabulary"]


def __getattr__(name: str) -> object:
    """Import the module that holds a public name (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'spae' has no attribute {name!r}; it has {', '.join(sorted(_HOMES))}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
