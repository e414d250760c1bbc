"""Asking a language model: words of labelled pictures, and files of episodes."""
