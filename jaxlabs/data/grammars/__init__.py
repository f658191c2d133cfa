"""Synthetic languages with known optimal metrics."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def choose(rng: np.random.Generator, choices: Sequence[Any]) -> Any:
    """Returns one of equally likely choices."""
    return choices[int(rng.random() * len(choices))]
