"""What a model is worth: metrics that merge, reconstruction, baselines, few-shot classification by words."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
