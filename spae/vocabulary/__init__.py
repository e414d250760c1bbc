"""A language model's words on disk: folder, record, embeddings and their transform, text round trip."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
