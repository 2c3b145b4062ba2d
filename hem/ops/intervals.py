"""Intervals for shares."""

import math

Z_95 = 1.959963984540054


def wilson(share: float, count: float, z: float = Z_95) -> tuple[float, float]:
    """Return Wilson's score interval of a share (Wilson 1927).

    Args:
        share: observed, in [0, 1].
        count: observations behind it, > 0; may be fractional (an effective sample size), and infinite
            (then the share is known: both ends are the share).
        z: quantile of the normal distribution; the default gives 95 %.
    """
    if math.isinf(count):
        return share, share
    square = z * z / count
    middle = (share + square / 2) / (1 + square)
    half = z * math.sqrt(share * (1 - share) / count + square / (4 * count)) / (1 + square)
    low = 0.0 if share == 0 else max(0.0, middle - half)
    return low, 1.0 if share == 1 else min(1.0, middle + half)
