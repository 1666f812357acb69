"""From batches to weights: the loop, the optimizers, and the processes that share a training."""
