"""A frozen language model reads the words: models that answer prompts, here, behind an address, or without weights."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
