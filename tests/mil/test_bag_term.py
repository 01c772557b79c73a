"""Poolings; the bag term where classes do not exclude each other, and the frequencies it gives back."""

import math

import pytest
import torch

from mil import Classes
from mil.bag_term import POOLINGS, Balance, bag_loss, slide_log_probability

FINDINGS = Classes(("normal", "a", "b"), has_negative=True, is_exclusive=False)
LABELS = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 1, 1], [1, 0, 0]], dtype=torch.bool)


def test_each_class_is_a_question_of_its_own():
    balance = Balance.of(LABELS.tolist(), 3)
    pooled = torch.tensor([[-2.0, -1.0], [3.0, -1.0], [3.0, 0.5], [-2.0, -1.0]])
    loss = bag_loss(pooled, LABELS, FINDINGS, balance)
    a = torch.nn.functional.softplus(torch.tensor([-2.0, -3.0, -3.0, -2.0])).mean()  # half of the bags are a
    b = torch.nn.functional.softplus(torch.tensor([-1.0, -1.0, -0.5, -1.0]))
    b = (b[[0, 1, 3]].sum() * 0.5 / 0.75 + b[2] * 0.5 / 0.25) / 4  # a quarter is b: both sides weigh the same
    assert float(loss) == pytest.approx(float((a + b) / 2), rel=1e-5)


def test_margins_of_nothing_known_give_the_frequencies_back():
    found = slide_log_probability(torch.zeros(1, 2), FINDINGS, Balance.of(LABELS.tolist(), 3)).exp()[0]
    assert found[1:].tolist() == pytest.approx([0.5, 0.25])
    assert float(found[0]) == pytest.approx(0.5 * 0.75)  # neither the one nor the other


def test_probabilities_of_classes_that_may_both_be_there_need_not_sum_to_one():
    found = slide_log_probability(torch.full((1, 2), 9.0), FINDINGS, Balance.of(LABELS.tolist(), 3)).exp()[0]
    assert float(found[1:].min()) > 0.99
    assert float(found[0]) < 1e-6


def test_without_a_negative_class_there_is_no_probability_of_none():
    classes = Classes(("a", "b"), has_negative=False, is_exclusive=False)
    labels = torch.tensor([[1, 0], [0, 1], [1, 1]], dtype=torch.bool)
    found = slide_log_probability(torch.zeros(1, 2), classes, Balance.of(labels.tolist(), 2)).exp()
    assert found[0].tolist() == pytest.approx([2 / 3, 2 / 3])


def test_a_class_without_bags_keeps_a_prior_and_no_infinite_weight():
    labels = LABELS & torch.tensor([True, True, False])
    balance = Balance.of(labels.tolist(), 3)
    pooled = torch.zeros(4, 2, requires_grad=True)
    bag_loss(pooled, labels, FINDINGS, balance).backward()
    assert bool(torch.isfinite(pooled.grad).all())


def test_poolings_of_one_instance_are_its_margin():
    margins, counts = torch.tensor([[0.7], [-2.0]]), torch.tensor([1, 1])
    for name in POOLINGS:
        torch.testing.assert_close(POOLINGS[name](margins, counts), margins)


def test_poolings_do_not_mix_bags_and_lie_between_mean_and_maximum():
    margins = torch.randn(60, 2, generator=torch.Generator().manual_seed(1))
    counts = torch.tensor([40, 20])
    for name in ("log_mean_exp", "soft_mean"):
        both = POOLINGS[name](margins, counts)
        torch.testing.assert_close(both[1:], POOLINGS[name](margins[40:], counts[1:]))
        assert bool((both[0] <= margins[:40].amax(0)).all())
        assert bool((both[0] >= margins[:40].mean(0)).all())


def test_large_margins_do_not_overflow():
    margins = torch.tensor([[1000.0], [999.0]])
    found = POOLINGS["log_mean_exp"](margins, torch.tensor([2]))
    torch.testing.assert_close(
        found, torch.tensor([[1000 + math.log((1 + math.exp(-1)) / 2)]], dtype=torch.float32)
    )
