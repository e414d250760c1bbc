"""Measuring what a tokenizer keeps: mergeable metrics and reconstruction scores."""
