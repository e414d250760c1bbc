"""Episodes as task folders of other people's evaluation harnesses."""
