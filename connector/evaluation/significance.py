"""Whether two systems differ by more than chance, query by query."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Sign flips tried; the smallest p is 1 / 10,001.
RESAMPLES = 10_000


def randomisation_p(differences: Sequence[float], seed: int = 0) -> float:
    """Two-sided p of a mean difference as large, were the systems' names drawn by lot per query.

    Paired (Fisher's) randomisation: the signs of the differences are exchanged in 10,000 random
    ways (Smucker, Allan and Carterette, CIKM 2007).
    """
    # A sign changes nothing of a query without a difference.
    some = np.array([value for value in differences if value])
    if not len(some):
        return 1.0
    generator = np.random.default_rng(seed)
    as_large = 0
    for _ in range(RESAMPLES):
        signs = generator.integers(0, 2, len(some)) * 2 - 1
        as_large += abs(float(signs @ some)) >= abs(some.sum()) - 1e-12
    return (as_large + 1) / (RESAMPLES + 1)
