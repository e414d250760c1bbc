"""The convolutional halves around the quantizer and their opponent, for images and clips from one definition."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
