"""CLIP, which says what words suit a picture: loading it, features of prompts and pictures, candidate pools."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
