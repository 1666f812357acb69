"""Weights -> text: settings, filters and noise, generation token by token, beam search, and the stream of text."""
