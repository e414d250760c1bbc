"""CLIP's text features of words: encoder, part files, Beam, and what it will cost."""
