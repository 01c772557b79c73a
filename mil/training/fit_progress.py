"""What a fit shows while it runs: a bar with epochs, losses and guards, or now and then a line in a log."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from rich.console import Console

from mil.course import Report
from mil.progress import progress


@contextmanager
def fit_progress(title: str) -> Iterator[Report]:
    """Yield what a learner is to report to; the first report says how many epochs there are."""
    with ExitStack() as stack:
        if sys.stderr.isatty():
            stack.enter_context(Console(stderr=True).status(f"{title}: before the first epoch"))
        advance = None

        def report(figures: Mapping[str, float]) -> None:
            nonlocal advance
            if advance is None:
                stack.close()
                # a fit that goes on from a checkpoint has some behind it
                total, done = int(figures["epochs"]), int(figures["epoch"])
                advance = stack.enter_context(progress(title, total, unit="epochs", done=done))
            advance(told(figures))

        yield report


def told(figures: Mapping[str, float]) -> str:
    """Return losses, and the share of tiles of positive slides that count as positive, in words."""
    parts = [
        f"{name.replace('_', ' ')} {value:.3g}" for name, value in figures.items() if name.endswith("loss")
    ]
    if "share_positive" in figures:
        parts.append(f"{figures['share_positive']:.1%} positive")
    return ", ".join(parts)
