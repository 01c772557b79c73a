"""Prototypes against numbers worked out by hand."""

import pytest
import torch

from mil.instance.prototypes import Prototypes

QUERIES = torch.tensor([[0.6, 0.8], [0.8, 0.6], [0.0, 1.0]])


def test_update_in_batch_order():
    prototypes = Prototypes(torch.eye(2), momentum=0.9)
    prototypes.update(QUERIES, torch.tensor([0, 0, 1]))
    torch.testing.assert_close(
        prototypes.vectors, torch.tensor([[0.990365, 0.138483], [0.0, 1.0]]), atol=1e-6, rtol=0
    )


def test_vectorised_update_equals_one_by_one():
    generator = torch.Generator().manual_seed(0)
    queries = torch.nn.functional.normalize(torch.randn(40, 8, generator=generator), dim=1)
    classes = torch.randint(3, (40,), generator=generator)
    start = torch.nn.functional.normalize(torch.randn(3, 8, generator=generator), dim=1)
    prototypes = Prototypes(start, momentum=0.95)
    prototypes.update(queries, classes)
    slow = start.clone()
    for query, c in zip(queries, classes.tolist(), strict=True):
        slow[c] = 0.95 * slow[c] + 0.05 * query
    torch.testing.assert_close(prototypes.vectors, torch.nn.functional.normalize(slow, dim=1))


def test_a_class_without_instances_stays():
    prototypes = Prototypes(torch.eye(2), momentum=0.9)
    prototypes.update(QUERIES[:2], torch.tensor([0, 0]))
    assert prototypes.vectors[1].tolist() == [0.0, 1.0]


def test_scores():
    assert Prototypes(torch.eye(2), 0.9).scores(QUERIES[:1])[0].tolist() == pytest.approx(
        [0.450166, 0.549834], abs=1e-6
    )


def test_angle():
    assert Prototypes(torch.eye(2), 0.9).angle_deg() == pytest.approx(90)
    assert Prototypes(torch.ones(2, 2), 0.9).angle_deg() == pytest.approx(0, abs=0.1)
