"""What the processes of one training do together beside learning: each function is called in all of them.

The first process calls it where it wants to, which announces it; the others are in `follow`.
"""

from __future__ import annotations

from itertools import chain

import torch

from charlm.model import State, map_state
from charlm.training.loop import Trainer
from charlm.training.optim import load_optimizer

SHARE, CARRIED, END = -1.0, -2.0, -3.0  # what is announced; a learning rate, which is no less than 0: a step


def follow(trainer: Trainer) -> None:
    """In all processes but the first: do what that one announces, until it ends."""
    while (announced := trainer.world.agreed(0.0)) != END:
        if announced == SHARE:
            share(trainer)
        elif announced == CARRIED:
            all_carried(trainer)
        else:
            trainer.learn(announced)


def end(trainer: Trainer) -> None:
    """In the first process: let the others end."""
    trainer.world.announce(END)


def all_carried(trainer: Trainer) -> State:
    """What is carried in all rows."""
    trainer.world.announce(CARRIED)
    return map_state(lambda t: trainer.world.all_rows(t, trainer.batches.batch_size), trainer.position.carried)


@torch.no_grad()
def share(trainer: Trainer, carried: State | None = None) -> None:
    """Give the first process's weights, optimizer states and position to all, and what is carried in all rows, if it is
    given there."""
    trainer.world.announce(SHARE)
    position, optimizers = trainer.position, trainer.optimizers
    states = [optimizer.state_dict()["state"] for optimizer in optimizers] if trainer.world.size > 1 else []
    position.step, position.tokens, carried, states = trainer.world.tell(
        (position.step, position.tokens, carried, states)
    )
    trainer.world.share(chain(trainer.model.parameters(), trainer.average.parameters() if trainer.average else ()))
    for optimizer, state in zip(optimizers, states, strict=True) if trainer.world.rank else ():
        load_optimizer(optimizer, state)
    if carried is not None:
        map_state(lambda own, rows: own.copy_(rows[trainer.world.rows]), position.carried, carried)
