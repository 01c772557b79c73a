"""One resolution for both directions: pixels that are not square have none."""

_MAX_ANISOTROPY = 0.02


def mean_mpp(x: float, y: float) -> float | None:
    """Return the mean of µm/px across and down; None where they disagree by more than 2 %, or x is 0."""
    if not x or abs(x - y) > _MAX_ANISOTROPY * x:
        return None
    return (x + y) / 2
