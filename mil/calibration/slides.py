"""Slides: temperature and offset by the labels of held-out bags, held near the learner's own scale."""

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax

from .lines import Lines

SLOPE_DOUBT, OFFSET_DOUBT = 0.5, 1.0  # standard deviations of log slope and offsets before any bag is seen


def slide_lines(margins: np.ndarray, labels: np.ndarray) -> Lines:
    """Return one temperature for all margins and an offset for each, the most probable ones.

    Platt scaling (Platt 1999; temperature: Guo et al., arXiv 1706.04599) with a prior that holds them at
    the identity: two bags move them little, a hundred decide. `margins` (B, C - 1) against the first
    class, `labels` int (B,). Where classes do not exclude each other, `labels` are bool (B, C) and
    `margins` (B, C) of each class by itself, which then has a temperature and an offset of its own.
    """
    if labels.ndim == 2:
        alone = [slide_lines(margins[:, [c]], labels[:, c].astype(int)) for c in range(labels.shape[1])]
        slopes, offsets = (tuple(getattr(line, of)[0] for line in alone) for of in ("slopes", "offsets"))
        return Lines(slopes, offsets, is_exclusive=False)
    n_margins = margins.shape[1]

    def loss(told: np.ndarray) -> float:
        logits = np.pad(np.exp(told[0]) * margins + told[1:], ((0, 0), (1, 0)))
        doubt = (told[0] / SLOPE_DOUBT) ** 2 + np.square(told[1:] / OFFSET_DOUBT).sum()
        return float(doubt / 2 - log_softmax(logits, axis=1)[np.arange(len(labels)), labels].sum())

    found = minimize(loss, np.zeros(1 + n_margins), method="L-BFGS-B").x
    return Lines((float(np.exp(found[0])),) * n_margins, tuple(found[1:].tolist()))
