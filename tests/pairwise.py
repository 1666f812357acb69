"""Fewer mixtures than there are."""

from collections.abc import Hashable, Iterable
from itertools import combinations, product


def pairwise(*options: Iterable[Hashable]) -> list[tuple[Hashable, ...]]:
    """Mixtures with a value of each option, chosen greedily: any two values of two options meet in one of them."""
    mixtures = {mixture: set(combinations(enumerate(mixture), 2)) for mixture in product(*options)}
    missing, chosen = set().union(*mixtures.values()), []
    while missing:
        chosen.append(max(mixtures, key=lambda mixture: len(mixtures[mixture] & missing)))
        missing -= mixtures[chosen[-1]]
    return chosen
