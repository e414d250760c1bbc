"""The words of a language model: its tokens as text, an embedding for each, and the choice among them."""
