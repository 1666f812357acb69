"""Weights -> text: what may be picked, the generator, and the stream of text."""
