"""Comparing architectures: the same text in the same order, the same budget, the same bytes to be scored on."""
