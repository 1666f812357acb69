"""How well guessed classes agree with the true ones.

F1 of each class, averaged (van Rijsbergen 1979); Matthews' correlation for any number of classes (Gorodkin 2004,
doi:10.1016/j.compbiolchem.2004.09.006); Wilson's interval for a share (1927, doi:10.1080/01621459.1927.10502953).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Z = 1.959964  # standard deviations on both sides of the mean that hold 95 % of a normal distribution


class Agreement(NamedTuple):
    """From 0 to 1, but `mcc` from -1 to 1, where 0 is what chance reaches."""

    macro_f1: float  # of the classes that are true or guessed somewhere
    mcc: float
    majority: float  # accuracy of always guessing the commonest of the true classes
    low: float  # the 95 % interval of the accuracy
    high: float


def confusion(true: NDArray[np.int64], guessed: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """(K, K) how many texts of each true class, a row, were taken for each class, a column."""
    return np.bincount(true * classes + guessed, minlength=classes**2).reshape(classes, classes)


def agreement(counts: NDArray[np.int64]) -> Agreement:
    """What a `confusion` (K, K) of at least one text comes to."""
    total, right = int(counts.sum()), int(np.trace(counts))
    true, guessed = counts.sum(1).astype(float), counts.sum(0).astype(float)
    seen = true + guessed > 0
    f1 = 2 * np.diag(counts)[seen] / (true + guessed)[seen]
    spread = math.sqrt((total**2 - guessed @ guessed) * (total**2 - true @ true))
    mcc = (right * total - true @ guessed) / spread if spread else 0.0
    return Agreement(float(f1.mean()), float(mcc), float(true.max() / total), *wilson(right, total))


def wilson(right: int, total: int) -> tuple[float, float]:
    """The interval of a share that was seen as `right` of `total`."""
    share, z2 = right / total, Z**2 / total
    middle = (share + z2 / 2) / (1 + z2)
    width = Z * math.sqrt(share * (1 - share) / total + z2 / (4 * total)) / (1 + z2)
    return max(0.0, middle - width), min(1.0, middle + width)
