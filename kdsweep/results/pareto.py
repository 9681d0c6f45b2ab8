"""Which trials no other trial beats in every objective."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kdsweep.results.directions import Direction


def non_dominated(
    values: NDArray[np.float64], directions: Sequence[Direction]
) -> NDArray[np.bool_]:
    """Marks the rows that no other row dominates.

    A row dominates another if it is at least as good in every column and better in one; equal rows
    do not dominate each other. A row with a NaN is never on the front.

    Args:
        values: Rows are trials, columns are objectives.
        directions: The better direction of each column.

    Returns:
        One mark per row.
    """
    signs = np.array([-1.0 if direction == "max" else 1.0 for direction in directions])
    costs = values * signs
    front = ~np.isnan(costs).any(axis=1)
    for row in np.flatnonzero(front):
        others = costs[front]
        no_worse = (others <= costs[row]).all(axis=1)
        better = (others < costs[row]).any(axis=1)
        front[row] = not (no_worse & better).any()
    return front
