"""Scores and vocabularies as pages and text."""
