"""The ablation table in Markdown."""
