"""Raw media, shards on disk, their order, and batches of them. All but the batches works without torch."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
