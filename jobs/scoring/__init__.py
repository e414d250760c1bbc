"""Scoring a split: statistics a shard as files, known statistics of originals, tables and pictures of the figures."""
