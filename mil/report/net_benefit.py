"""The decision curve: is acting on the model better than acting on all, or on none?"""

import numpy as np
import pandas as pd

from .intervals import bootstrap, percentiles

THRESHOLDS = np.arange(1, 100) / 100


def net_benefit(
    probability: np.ndarray, truth: np.ndarray, patients: np.ndarray, thresholds: np.ndarray = THRESHOLDS
) -> pd.DataFrame:
    """Return the net benefit of calling rows positive from each threshold t on (Vickers and Elkin 2006).

    That is the share of true calls less the share of false ones times t / (1 - t). `probability` (B,),
    `truth` bool (B,), `patients` (B,). Columns: threshold, model, low, high (by resampled patients), all.
    """
    odds = thresholds / (1 - thresholds)
    called = (np.asarray(probability)[:, None] >= thresholds).astype(np.float64)
    gains = np.where(np.asarray(truth, bool)[:, None], called, -called * odds)  # of each row, (B, T)
    samples = bootstrap(lambda w: w @ gains / w.sum(axis=1, keepdims=True), patients)
    low, high = percentiles(samples)
    share = float(np.mean(truth))
    columns = {"threshold": thresholds, "model": gains.mean(axis=0), "low": low, "high": high}
    return pd.DataFrame(columns | {"all": share - (1 - share) * odds})
