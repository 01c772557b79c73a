"""The instance losses against numbers worked out by hand, and what must not change them."""

import math

import pytest
import torch

from mil.instance.losses import classification_losses, contrastive_losses, warm_up_losses

QUERIES = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
KEYS = torch.tensor([[0.8, 0.6], [0.6, 0.8]])
QUEUE = torch.tensor([[math.sqrt(0.5), math.sqrt(0.5)], [-1.0, 0.0]])
CLASSES = torch.tensor([0, 1])
QUEUE_CLASSES = torch.tensor([1, 0])


def contrast(queue=QUEUE, queue_classes=QUEUE_CLASSES):
    return contrastive_losses(QUERIES, KEYS, queue, CLASSES, queue_classes, temperature=0.07)


def test_contrastive_loss_of_each_anchor():
    assert contrast().tolist() == pytest.approx([13.136821, 0.943208], abs=2e-6)
    assert float(contrast().mean()) == pytest.approx(7.040015, abs=2e-6)


def test_warm_up_loss():
    assert float(warm_up_losses(QUERIES, KEYS, QUEUE, 0.07).mean()) == pytest.approx(0.235282, abs=1e-6)


def test_contrast_does_not_depend_on_the_order_of_the_queue():
    torch.testing.assert_close(contrast(QUEUE.flip(0), QUEUE_CLASSES.flip(0)), contrast())


def test_queued_keys_of_no_class_are_negative_to_all():
    ours = contrast(queue_classes=torch.tensor([-1, -1]))
    other_class = contrast(queue_classes=torch.tensor([7, 7]))
    torch.testing.assert_close(ours, other_class)


def test_an_anchor_is_not_compared_with_itself():
    # alone with its own key, nothing is left to tell it from
    losses = contrastive_losses(
        QUERIES[:1], KEYS[:1], torch.zeros(0, 2), CLASSES[:1], torch.zeros(0, dtype=torch.int64), 0.07
    )
    assert losses.tolist() == pytest.approx([0.0], abs=1e-5)


def test_classification_loss_is_cross_entropy_with_the_first_logit_at_zero():
    margins = torch.tensor([[0.0], [2.0]])
    soft = torch.tensor([[1.0, 0.0], [0.25, 0.75]])
    wanted = [math.log(2), 0.25 * math.log(1 + math.exp(2)) + 0.75 * math.log(1 + math.exp(-2))]
    assert classification_losses(margins, soft).tolist() == pytest.approx(wanted)


def test_the_gradient_reaches_the_queries_only():
    queries = QUERIES.clone().requires_grad_()
    contrastive_losses(queries, KEYS, QUEUE, CLASSES, QUEUE_CLASSES, 0.07).mean().backward()
    assert queries.grad is not None
    assert queries.grad.abs().sum() > 0


def test_values_and_gradient_are_those_of_the_loss_written_out():
    generator = torch.Generator().manual_seed(0)
    queries, keys, queue = (
        torch.nn.functional.normalize(torch.randn(n, 5, generator=generator, dtype=torch.float64), dim=1)
        for n in (6, 6, 9)
    )
    classes, queue_classes = torch.tensor([0, 2, 2, 0, 2, 3]), torch.tensor([-1, 0, 2, 3, 3, -1, 0, 1, 2])
    weight = torch.rand(6, generator=generator, dtype=torch.float64)
    found = []
    for losses in (contrastive_losses, written_out):
        own = queries.clone().requires_grad_()
        each = losses(own, keys, queue, classes, queue_classes, 0.2)
        (weight * each).sum().backward()
        found.append((each.detach(), own.grad))
    torch.testing.assert_close(*found)


def written_out(queries, keys, queue, classes, queue_classes, temperature):
    entries, of_entries = torch.cat([queries, keys, queue]), torch.cat([classes, classes, queue_classes])
    losses = []
    for i, query in enumerate(queries):
        others = torch.arange(len(entries)) != i
        log_share = torch.log_softmax(entries[others] @ query / temperature, dim=0)
        losses.append(-log_share[of_entries[others] == classes[i]].mean())
    return torch.stack(losses)
