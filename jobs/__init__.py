"""Ray jobs and commands: train, export, tokenize, evaluate, report, and the demo."""
