"""The words' embeddings in memory: exact nearest word, word cross-entropy, trainable variants, how words are used."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
