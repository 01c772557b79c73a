"""Witnesses: what they learn from bag labels, that they speak on one scale, which kind is believed."""

import numpy as np
import pytest
import torch

from mil.bag_term import Balance
from mil.classes import Classes
from mil.course import Course, Stage
from mil.instance import InstanceConfig
from mil.instance.config import KINDS
from mil.instance.hearing import hear
from mil.instance.material import Material
from mil.instance.reading import Reading, squared_errors, standard_errors_worse
from mil.instance.rehearsal import choose_kinds, shared_seats
from mil.instance.witness import WITNESSES, Witnesses
from mil.learner import Bag
from mil.metrics import instance_auc
from mil.packed import PackedBags, Standardiser

BINARY = Classes(("negative", "tumour"), has_negative=True)
BRIEF = InstanceConfig(witness_epochs=8, steps_per_epoch=20, bags_per_step=16)


def material_of(bags, seed=0, classes=BINARY, labels=None, patients=None):
    """Every other bag is positive, and each of a patient of its own, unless it is told otherwise."""
    labels = [i % 2 for i in range(len(bags))] if labels is None else labels
    patients = [None] * len(bags) if patients is None else patients
    named = [Bag(str(i), bags[i].astype(np.float32), patient=patient) for i, patient in enumerate(patients)]
    return Material(
        PackedBags.of(named, labels),
        Standardiser.of(named),
        classes,
        Balance.of(labels, len(classes.names)),
        torch.Generator().manual_seed(seed),
    )


def normal_bags(n_bags=20, n=50, dim=6, seed=0):
    draw = np.random.default_rng(seed)
    return [draw.normal(size=(n, dim)) for _ in range(n_bags)]


def with_direction(n_bags=20):
    """Five positives of fifty, four standard deviations along one axis."""
    bags = normal_bags(n_bags)
    for bag in bags[1::2]:
        bag[:5, 0] += 4
    return bags


def with_shell(n_bags=60):
    """Positives lie in the middle of two far groups that all bags have: no line tells them from the rest."""
    bags = normal_bags(n_bags, n=20, dim=3)
    for number, bag in enumerate(bags):
        bag[:, 0] = bag[:, 0] / 2
        bag[4:12, 0] += np.repeat([-8, 8], 4)
        if number % 2:
            bag[:4, 0] += np.array([-4, -4, 4, 4])
    return bags


def with_company(n_bags=120):
    """Another tissue is in most positive and few negative bags; it is not what makes them positive."""
    draw = np.random.default_rng(3)
    bags = normal_bags(n_bags, n=20, dim=3, seed=3)
    for number, bag in enumerate(bags):
        if number % 2:
            bag[:2, 0] += 3
        if draw.random() < (0.85 if number % 2 else 0.15):
            bag[10:, 1] += 3
    return bags


def fitted(kind, material, config=BRIEF):
    witnesses = Witnesses(material.packed.features.dim, 1, kind, 16, config.tiles_per_bag, material.generator)
    hear(witnesses, material, config, Stage(Course()), torch.arange(len(material.packed.counts)))
    witnesses.settle(material)
    return witnesses


def chosen(material, config=BRIEF):
    reading = Reading(len(WITNESSES), 1)
    return choose_kinds(reading, material.packed.features.dim, material, config, Course())


@pytest.mark.parametrize("kind", ["linear", "hidden", "context"])
def test_each_learns_the_instances_from_bag_labels(kind):
    material = material_of(with_direction())
    packed, witnesses = material.packed, fitted(kind, material)
    truth = (torch.arange(1000) % 50 < 5) & (packed.bag_of % 2 == 1)
    margins = witnesses(material.rows(torch.arange(1000))).detach()
    for each in margins[..., 0]:
        assert each[truth].median() > each[~truth].quantile(0.98)
    known = witnesses.evidence(margins)[~material.candidates[:, 1]]
    assert abs(float(known.mean())) < 1e-5
    told = witnesses.read_each(margins, packed.counts, material.summaries).detach()[..., 0]
    read = told.mean(0)
    assert read[1::2].min() > read[0::2].max()


def test_lines_have_no_seat_where_they_fail_on_bags_left_out_and_all_have_one_on_noise():
    assert "linear" not in chosen(material_of(with_shell()))
    assert chosen(material_of(normal_bags(n_bags=60))) == list(KINDS)


def test_of_few_bags_nothing_can_be_told_and_a_wish_is_followed():
    assert chosen(material_of(with_shell(n_bags=12))) == ["linear"] * 3
    for n_bags in (3, 12, 40):
        wish = InstanceConfig(witnesses="context", members=2, witness_epochs=1, steps_per_epoch=1)
        assert chosen(material_of(with_shell(n_bags)), wish) == ["context"] * 2


def test_seats_go_by_weight_and_where_it_is_the_same_the_first_comes_first():
    assert shared_seats(np.array([0.25, 0.45, 0.3]), 3) == [1, 1, 1]
    assert shared_seats(np.array([0.08, 0.17, 0.75]), 3) == [0, 1, 2]
    assert shared_seats(np.array([0.0, 1.0, 0.0]), 3) == [0, 3, 0]
    assert shared_seats(np.array([1.0, 1.0, 1.0]), 1) == [1, 0, 0]
    assert shared_seats(np.array([0.3, 0.4, 0.3]), 1) == [0, 1, 0]


def test_what_a_bag_has_in_common_is_left_to_the_context():
    material = material_of(with_company())
    truth = np.concatenate([(np.arange(20) < 2) & (i % 2 == 1) for i in range(120)])
    inside = np.repeat(np.arange(120) % 2 == 1, 20)
    found = {}
    for kind in ("hidden", "context"):
        witnesses = fitted(kind, material, InstanceConfig(witness_epochs=15, bags_per_step=32))
        with torch.no_grad():
            evidence = witnesses.evidence(witnesses(material.rows(torch.arange(2400))))[:, 0].numpy()
        found[kind] = instance_auc(evidence[inside], truth[inside])
    assert found["context"] > found["hidden"] + 0.015
    assert found["context"] > 0.8


def test_a_bag_is_not_positive_for_its_size():
    draw = np.random.default_rng(5)
    bags = normal_bags(n_bags=16, n=400, dim=6)
    for bag in bags[1::2]:
        bag[:40, 0] += 4
    witnesses = fitted("linear", material := material_of(bags))
    told = []
    for n in (200, 20_000):
        features = material.standardise(torch.from_numpy(draw.normal(size=(n, 6)).astype(np.float32)))
        with torch.no_grad():
            each = witnesses.read_each(witnesses(features), torch.tensor([n]), torch.zeros(1, 12))
        told.append(each.sigmoid()[:, 0, 0])
    assert float((told[0] - told[1]).abs().max()) < 0.15
    assert float(told[1].max()) < 0.5


def test_errors_ask_for_order_not_for_certainty():
    truth = np.eye(2, dtype=bool)[np.arange(40) % 2]
    margins = np.random.default_rng(0).normal(size=(40, 1)) + truth[:, 1:]
    one, other = (squared_errors(each, truth) for each in (margins, 50 * margins + 300))
    np.testing.assert_allclose(one, other, rtol=1e-5)
    assert squared_errors(margins + 3 * truth[:, 1:], truth).mean() < one.mean()


def test_a_reading_that_knows_nothing_is_the_mean_of_the_kinds_that_it_trusts():
    one, other = torch.randn(2, 4, 7, 2, generator=torch.Generator().manual_seed(0))
    reading = Reading(4, 2)
    reading.trust(["hidden"])
    torch.testing.assert_close(reading({"hidden": one}), one.mean(0))
    reading.trust(["linear", "hidden"])
    torch.testing.assert_close(reading({"hidden": one, "linear": other}), (one.mean(0) + other.mean(0)) / 2)


def test_witnesses_weigh_by_what_they_told_of_held_out_bags():
    generator = torch.Generator().manual_seed(0)
    truth = np.eye(2, dtype=bool)[np.arange(200) % 2]
    signal = torch.from_numpy(truth[:, 1:]) * 2.0
    noise = torch.randn(4, 200, 1, generator=generator)
    margins = noise + torch.stack([signal, signal, signal * 0.1, -signal * 0])
    loud = margins * torch.tensor([1.0, 50.0, 1.0, 1.0])[:, None, None]
    reading = Reading(2, 1)
    # kinds and poolings all together
    reading.weigh({"hidden": loud[:2], "context": loud[2:]}, truth, np.arange(200))
    assert reading.weight[1].min() > 0.15  # whatever its scale
    assert reading.weight[2].max() < 0.01
    assert not reading.weight[0].any()
    assert reading.weight.sum() == pytest.approx(1)
    told = reading({"hidden": loud[:2], "context": loud[2:]})[:, 0]
    assert instance_auc(told.numpy(), truth[:, 1]) > instance_auc(margins[0, :, 0].numpy(), truth[:, 1])


def test_a_reading_of_witnesses_who_know_nothing_is_finite():
    reading = Reading(4, 1)
    reading.weigh({"linear": torch.zeros(4, 30, 1)}, np.eye(2, dtype=bool)[np.arange(30) % 2], np.arange(30))
    assert reading.weight[0].tolist() == pytest.approx([0.25] * 4)
    assert torch.isfinite(reading({"linear": torch.ones(4, 3, 1)})).all()


@pytest.mark.parametrize(("bags", "most"), [(with_direction(60), 0.15), (normal_bags(60, dim=40), 0.265)])
def test_of_few_bags_too_a_slide_is_as_sure_as_it_may_be(bags, most):
    dim, reading = bags[0].shape[1], Reading(4, 1)
    material, others = material_of(bags[:20]), material_of(bags[20:])
    kind = choose_kinds(reading, dim, material, BRIEF, Course())[0]
    witnesses = fitted(kind, material)
    margins = witnesses(others.rows(torch.arange(40 * 50))).detach()
    each = witnesses.read_each(margins, others.packed.counts, others.summaries)
    told = reading({kind: each})[:, 0].sigmoid()
    assert (told - others.packed.labels).square().mean() < most  # 0.25 is to know nothing
    assert reading.weight[0].tolist() == [0.25] * 4


@pytest.mark.parametrize(("n_bags", "has_line"), [(5, False), (7, True)])
def test_of_a_handful_of_bags_the_reading_stays_the_mean(n_bags, has_line):
    reading, mean = Reading(4, 1), Reading(4, 1)
    mean.trust(["linear"])
    material = material_of(normal_bags(n_bags), labels=[1] + [0] * (n_bags - 1))
    choose_kinds(reading, 6, material, BRIEF, Course())
    assert all(each.isfinite().all() for each in reading.buffers())
    is_mean = all(torch.equal(a, b) for a, b in zip(reading.buffers(), mean.buffers(), strict=True))
    assert is_mean != has_line


def read_held_out(strength, n_bags=400):
    """Return margins of bags by four witnesses, far too loud and too high, and what they are of."""
    generator = torch.Generator().manual_seed(1)
    material = material_of(normal_bags(n_bags, n=1, dim=3, seed=5))
    signal = (torch.arange(n_bags) % 2 - 0.5)[None, :, None] * strength
    return 10 * (signal + torch.randn(4, n_bags, 1, generator=generator)) + 30, material


def test_a_reading_is_as_sure_as_held_out_bags_allow():
    margins, material = read_held_out(strength=1.0)
    reading = Reading(4, 1)
    reading.weigh({"linear": margins}, np.eye(2, dtype=bool)[np.arange(400) % 2], np.arange(400))
    reading.calibrate({"linear": margins}, material)
    found = reading({"linear": margins})[:, 0].sigmoid()
    for low, high in ((0.0, 0.3), (0.3, 0.7), (0.7, 1.0)):
        own = (found >= low) & (found < high)
        assert own.sum() > 20
        assert abs(float((material.packed.labels[own] == 1).float().mean() - found[own].mean())) < 0.08


def test_a_reading_of_what_misleads_keeps_its_order_and_is_sure_of_nothing():
    margins, material = read_held_out(strength=-1.0)
    reading = Reading(4, 1)
    reading.weigh({"context": margins}, np.eye(2, dtype=bool)[np.arange(400) % 2], np.arange(400))
    reading.calibrate({"context": margins}, material)
    read = reading({"context": margins})[:, 0]
    weighed = torch.einsum("w,wb->b", reading.weight[2] / reading.spread[2, :, 0], margins[..., 0])
    torch.testing.assert_close(read.argsort(), weighed.argsort())
    assert float((read.sigmoid() - 0.5).abs().max()) < 0.12


SINGLE, SEVERAL = [i % 2 for i in range(60)], [[False, True, i % 2 == 0, False] for i in range(60)]


@pytest.mark.parametrize(
    ("classes", "labels", "held"),
    [
        (Classes(("negative", "a", "b"), has_negative=True), SINGLE, [0, -1]),
        (Classes(("a", "b", "c"), has_negative=False), SINGLE, [0, 0, -1]),
        (Classes(("negative", "a", "b", "c"), has_negative=True, is_exclusive=False), SEVERAL, [1, 0, -1]),
    ],
)
def test_of_a_class_that_no_held_out_bag_is_of_or_each_a_reading_is_as_sure_as_so_many_allow(
    classes, labels, held
):
    material = material_of(normal_bags(60, n=1, dim=3), classes=classes, labels=labels)
    margins = torch.randn(4, 60, len(held), generator=torch.Generator().manual_seed(2))
    reading = Reading(4, len(held))
    reading.trust(["linear"])
    reading.calibrate({"linear": margins}, material)
    for offset, side in zip(reading.offset.tolist(), held, strict=True):
        if side:
            assert offset == pytest.approx(side * np.log(120))
        else:
            assert abs(offset) < 1


def test_where_the_mean_tells_the_label_a_slide_is_read_by_it():
    draw = np.random.default_rng(1)
    bags = [draw.normal(size=(40, 6)).astype(np.float32) for _ in range(60)]
    for bag in bags[1::2]:
        bag[:, 0] += 0.5  # of all tiles, none of which stands out
    reading = Reading(len(WITNESSES), 1)
    choose_kinds(reading, 6, material_of(bags), BRIEF, Course())
    assert reading.weight.sum(0).argmax() == WITNESSES.index("mean")
    assert reading.weight.sum(0).max() > 0.4


def of_patients(n_patients, seed):
    """Three bags a patient, which are alike and of one label; nothing else goes with the labels."""
    draw = np.random.default_rng(seed)
    own, labels = 2 * draw.normal(size=(n_patients, 1, 1, 8)), draw.permutation(n_patients) % 2
    bags = (own + draw.normal(size=(n_patients, 3, 10, 8))).reshape(-1, 10, 8)
    return [*bags], np.repeat(labels, 3).tolist(), np.repeat(np.arange(n_patients), 3).astype(str).tolist()


def test_bags_of_one_patient_are_held_out_together():
    """Else a patient known again passes for knowledge, and slides of others are told as surely."""
    bags, labels, patients = of_patients(32, seed=0)
    gain = {}
    for known, names in (("patients", patients), ("bags", None)):
        reading = Reading(4, 1)
        choose_kinds(reading, 8, material_of(bags, labels=labels, patients=names), BRIEF, Course())
        gain[known] = float(reading.gain)
    assert gain["patients"] < 0.2 < 0.8 < gain["bags"]


def test_many_bags_of_a_patient_are_no_more_evidence_than_one():
    draw = np.random.default_rng(0)
    errors = draw.random((4, 40))
    patients = np.repeat(np.arange(40), 5)
    once = standard_errors_worse(errors, np.arange(40))
    assert standard_errors_worse(errors.repeat(5, axis=1), patients) == pytest.approx(once)
    assert standard_errors_worse(errors.repeat(5, axis=1), np.arange(200)).max() > 2 * once.max()
