"""The cohort that is drawn: Gaussian instances of which few, some or most are positive.

It shows a collapse. Whatever the share of positive instances, one Gaussian is all that makes a bag
positive, and whoever knows it tells instances apart by `Task.oracle_auc`.
"""

import numpy as np
from cohorts import Task
from scipy.special import logsumexp

from mil.learner import Bag
from mil.metrics import instance_auc

RATES = (0.005, 0.02, 0.1, 0.3, 0.7)
DIM, BAG_SIZE, TRAIN_BAGS, TEST_BAGS = 32, 200, 100, 100
TISSUES, TISSUE_SPREAD, SHIFT = 4, 0.5, 2.5


def synthetic(rates: tuple[float, ...], seed: int) -> list[Task]:
    """Return one task a share of positive instances in positive bags, which are every other bag.

    Negative instances are unit Gaussians around four centres, which each bag mixes in its own way;
    positive ones lie around a centre `SHIFT` from one of the four.
    """
    return [_task(rate, np.random.default_rng([seed, round(1e6 * rate)])) for rate in rates]


def _task(rate: float, draw: np.random.Generator) -> Task:
    centres = TISSUE_SPREAD * draw.normal(size=(TISSUES, DIM))
    way = draw.normal(size=DIM)
    positive = centres[0] + SHIFT * way / np.linalg.norm(way)
    n_positive = max(1, round(rate * BAG_SIZE))
    bags, truth, evidence = [], [], []
    for i in range(TRAIN_BAGS + TEST_BAGS):
        mixture = draw.dirichlet(np.ones(TISSUES))
        means = centres[draw.choice(TISSUES, BAG_SIZE, p=mixture)]
        told = np.zeros(BAG_SIZE, np.int8)
        if i % 2:
            told[:n_positive] = 1
            means[:n_positive] = positive
        features = means + draw.normal(size=(BAG_SIZE, DIM))
        bags.append(Bag(str(i), features.astype(np.float32)))
        truth.append(told)
        evidence.append(_log_ratio(features, positive, centres))
    test = np.arange(len(bags)) >= TRAIN_BAGS
    oracle = instance_auc(np.concatenate(evidence[TRAIN_BAGS:]), np.concatenate(truth[TRAIN_BAGS:]))
    labels = np.arange(len(bags)) % 2 == 1
    return Task(f"rate {rate:g}", bags, labels, np.arange(len(bags)), truth, test=test, oracle_auc=oracle)


def _log_ratio(features: np.ndarray, positive: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return the log-likelihood ratio of each instance, (N,), tissues being equally likely."""
    others = -((features[:, None] - centres) ** 2).sum(-1) / 2
    return -((features - positive) ** 2).sum(-1) / 2 - logsumexp(others, axis=1)
