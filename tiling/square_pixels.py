"""One resolution for both directions: pixels that are not square have none."""

_MAX_ANISOTROPY = 0.02  # more than so differ


def stated_mpp(x: float, y: float, source: str) -> list[tuple[float, str]]:
    """Return the mean of µm/px across and down, with its source; nothing where they differ, or x is 0."""
    return [] if not x or abs(x - y) > _MAX_ANISOTROPY * x else [((x + y) / 2, source)]
