"""What the demos have of their own: a small CLIP, and stages on digits."""
