"""Adapters of a language model that learn the words of pictures."""
