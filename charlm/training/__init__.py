"""Batches and logits -> weights: the loop, its optimizers, and the exact evaluation."""
