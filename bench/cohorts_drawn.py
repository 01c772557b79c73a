"""The cohorts that are drawn: Gaussian instances of which few, some or most are positive.

One shows a collapse. Whatever the share of positive instances, one Gaussian is all that makes a bag
positive, and whoever knows it tells instances apart by `Task.oracle_auc`. The other has so many kinds of
instances that it takes thousands of bags to learn what the positive ones are.
"""

import numpy as np
from cohorts import Task
from scipy.special import logsumexp

from mil.learner import Bag
from mil.metrics import instance_auc

RATES = (0.005, 0.02, 0.1, 0.3, 0.7)
DIM, BAG_SIZE, TRAIN_BAGS, TEST_BAGS = 32, 200, 100, 100
TISSUES, TISSUE_SPREAD, SHIFT = 4, 0.5, 2.5
MANY_DIM, MANY_BAG_SIZE, MANY_TEST_BAGS = 96, 60, 800
MANY_TISSUES, MANY_SPREAD, MANY_TUMOURS, MANY_SHIFT, MANY_BAG_SPREAD = 40, 0.8, 6, 2.6, 0.3


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


def many(n_train: tuple[int, ...], seed: int) -> list[Task]:
    """Return one task a number of training bags, of which every other one has one or two positive instances.

    Tissues are unit Gaussians around 40 centres, which each bag mixes in its own way and moves by its own
    stain; tumours lie around six centres, each `MANY_SHIFT` from that of a tissue.
    """
    return [_many(n, np.random.default_rng([seed, n])) for n in n_train]


def _many(n_train: int, draw: np.random.Generator) -> Task:
    centres = MANY_SPREAD * draw.normal(size=(MANY_TISSUES, MANY_DIM))
    ways = draw.normal(size=(MANY_TUMOURS, MANY_DIM))
    near = centres[draw.choice(MANY_TISSUES, MANY_TUMOURS, replace=False)]
    tumours = near + MANY_SHIFT * ways / np.linalg.norm(ways, axis=1, keepdims=True)
    bags, truth = [], []
    for i in range(n_train + MANY_TEST_BAGS):
        mixture = draw.dirichlet(np.full(MANY_TISSUES, 0.3))
        means = centres[draw.choice(MANY_TISSUES, MANY_BAG_SIZE, p=mixture)]
        told = np.zeros(MANY_BAG_SIZE, np.int8)
        if i % 2:
            n_positive = draw.integers(1, 3)
            told[:n_positive] = 1
            means[:n_positive] = tumours[draw.integers(MANY_TUMOURS)]
        stain = MANY_BAG_SPREAD * draw.normal(size=MANY_DIM)
        features = means + stain + draw.normal(size=(MANY_BAG_SIZE, MANY_DIM))
        bags.append(Bag(str(i), features.astype(np.float16)))
        truth.append(told)
    numbers = np.arange(len(bags))
    return Task(f"{n_train} bags", bags, numbers % 2 == 1, numbers, truth, test=numbers >= n_train)


def _log_ratio(features: np.ndarray, positive: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return the log-likelihood ratio of each instance, (N,), tissues being equally likely."""
    others = -((features[:, None] - centres) ** 2).sum(-1) / 2
    return -((features - positive) ** 2).sum(-1) / 2 - logsumexp(others, axis=1)
