"""SPAE: images and videos as pyramids of words from a frozen language model's vocabulary (arXiv 2306.17842).

The public names of each room stand in its `__init__.pyi` and are resolved on first use, so that `import spae` costs
nothing and a worker that only writes shards never loads torch.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
