"""Views of tiles: every learner is trained on them, none reads them in a prediction."""

import shutil
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mil import LEARNERS, Bag, Classes
from mil.learner import check_features
from mil.metrics import instance_auc
from mil.packed import PackedBags
from mil.training import new_learner
from tiling import SlidebagError

BINARY = Classes(("negative", "tumour"), has_negative=True)
BRIEF = {"epochs": 2, "members": 1, "witness_epochs": 2, "steps_per_epoch": 3, "instances_per_step": 64}


def with_views(*n_views):
    """Return bags of two and three tiles in turn, numbered by tile, and after the point by view."""
    bags, tile = [], 0
    for number, n in enumerate(n_views):
        tiles = np.arange(tile, tile + 2 + number % 2, dtype=np.float32)[:, None]
        tile += len(tiles)
        views = tiles[:, None] + 0.1 * np.arange(1, n + 1, dtype=np.float32)[:, None] if n else None
        bags.append(Bag(str(number), tiles, views=views))
    return bags


def test_a_draw_is_the_tile_itself_or_one_of_its_own_views_all_as_often():
    packed = PackedBags.of(with_views(0, 3, 2, 0, 1), [0, 1, 0, 1, 0])
    generator, rows = torch.Generator().manual_seed(0), torch.arange(12).flip(0)
    times = 6000
    drawn = torch.stack([packed.draw(rows, generator)[:, 0] for _ in range(times)]).flip(1)
    views = ((drawn - torch.arange(12)) / 0.1).round().long()
    for n_views, own in zip((0, 3, 2, 0, 1), views.split([2, 3, 2, 3, 2], dim=1), strict=True):
        for tile in own.T:
            counts = tile.bincount()
            assert len(counts) == n_views + 1
            assert counts.float() / times == pytest.approx(1 / (n_views + 1), abs=0.03)  # 5 s.e.
    assert torch.equal(packed.take(rows)[:, 0], rows.float())


def test_where_no_bag_has_views_nothing_is_drawn():
    packed = PackedBags.of(with_views(0, 0), [0, 1])
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert torch.equal(packed.draw(torch.arange(5), generator), packed.take(torch.arange(5)))
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("shape", [(3, 2), (2, 4, 5), (3, 4, 6), (3, 0, 5)])
def test_views_that_are_not_of_the_tiles_are_refused(shape):
    with pytest.raises(SlidebagError, match=r"b: views are float32 of shape .* float32 of \(3, 5\)"):
        Bag("b", np.zeros((3, 5), np.float32), views=np.zeros(shape, np.float32))


def test_views_in_another_type_than_the_features_are_refused():
    with pytest.raises(SlidebagError, match=r"b: views are float32 .* features float16"):
        Bag("b", np.zeros((3, 5), np.float16), views=np.zeros((3, 2, 5), np.float32))


def test_views_that_are_no_numbers_are_told_by_name():
    views = np.zeros((3, 2, 5), np.float16)
    views[1, 1, 4] = np.nan
    with pytest.raises(SlidebagError, match="b: views are not finite in 1 of 3 instances"):
        check_features(Bag("b", np.zeros((3, 5), np.float16), views=views), 5, "as before")


def small(name):
    kind = LEARNERS[name].config_class
    known = {f.name for f in fields(kind)}
    return LEARNERS[name](kind(**{key: value for key, value in BRIEF.items() if key in known}))


def turned(n_bags=12, n_tiles=20, n_views=4, seed=0):
    """Bags of tiles that differ in one number by their class, in the others by how they lie.

    Views of a tile lie otherwise: they have the one number of the tile, and of the others new ones.
    """
    draw = np.random.default_rng(seed)
    bags, truth = [], []
    for number in range(n_bags):
        positive = np.arange(n_tiles) < 5 * (number % 2)
        features = draw.normal(size=(n_tiles, 1 + n_views, 40)).astype(np.float32)
        features[:, :, 0] = (3 * positive + draw.normal(size=n_tiles))[:, None]
        bags.append(Bag(f"bag {number}", features[:, 0], views=features[:, 1:]))
        truth.append(positive.astype(np.int8))
    return bags, [number % 2 for number in range(n_bags)], truth


@pytest.mark.parametrize("name", list(LEARNERS))
def test_every_learner_is_trained_on_views_and_none_reads_them_in_a_prediction(name, tmp_path):
    bags, labels, _ = turned()
    plain = [replace(bag, views=None) for bag in bags]
    found = []
    for given in (bags, plain, bags):
        learner = small(name)
        learner.fit(given, labels, BINARY, seed=0)
        found.append([learner.predict(bag).tile_probability for bag in given])
        learner.save(tmp_path / str(len(found)))
    asked = small(name)
    asked.fit(bags, labels, BINARY, seed=0)
    for bag, bare, told in zip(bags, plain, found[0], strict=True):
        np.testing.assert_array_equal(told, asked.predict(bare).tile_probability)
        np.testing.assert_array_equal(told, asked.predict(bag).tile_probability)
    with_them, without, again = (Path(tmp_path, n, "weights.safetensors").read_bytes() for n in "123")
    assert with_them == again != without


class Counted:
    """Says how often rows were drawn, and hands on."""

    def __init__(self, packed):
        self.packed, self.n = packed, 0

    def __getattr__(self, name):
        return getattr(self.packed, name)

    def draw(self, rows, generator):
        self.n += 1
        return self.packed.draw(rows, generator)


def test_every_term_of_the_instance_learner_draws(monkeypatch):
    """Witnesses and the net's bag term once a step, annotations once, the instance terms twice."""
    bags, labels, _ = turned()
    known = np.ones((len(bags[1]), 2), bool)
    known[:3, 0] = False
    bags[1] = replace(bags[1], candidates=known)
    counted, of = [], PackedBags.of
    monkeypatch.setattr(PackedBags, "of", lambda *given: counted.append(Counted(of(*given))) or counted[0])
    draws = []
    for bag_weight in ("0", "0.1"):
        counted.clear()
        told = {
            "members": "1",
            "witness_epochs": "1",
            "epochs": "1",
            "steps_per_epoch": "5",
            "witnesses": "linear",
        }
        new_learner("slidebag", told | {"bag_weight": bag_weight}).fit(bags, labels, BINARY, seed=0)
        draws.append(counted[0].n)
    # each of four teachings of witnesses has two terms, but that without the annotated bag has one
    rehearsals_and_witnesses = 5 * (2 * 4 - 1)
    assert draws == [rehearsals_and_witnesses + 5 * 2, rehearsals_and_witnesses + 5 * 3]


def test_a_fit_goes_on_from_its_checkpoint_with_the_same_views_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("mil.course.EVERY_S", 0.0)
    bags, labels, _ = turned()
    whole = small("mix")
    whole.fit(bags, labels, BINARY, seed=0)
    other = [replace(bag, views=bag.views + 1) for bag in bags]

    def stop(figures):
        if figures["epoch"] == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small("mix").fit(bags, labels, BINARY, seed=0, report=stop, checkpoint=tmp_path / "fit")
    for given, n_epochs in ((other, 2), (bags, 1)):
        again, seen = small("mix"), []
        shutil.copy(tmp_path / "fit", tmp_path / "copy")
        again.fit(given, labels, BINARY, seed=0, report=seen.append, checkpoint=tmp_path / "copy")
        assert len(seen) == n_epochs
        same = [
            np.array_equal(again.predict(bag).tile_probability, whole.predict(bag).tile_probability)
            for bag in bags
        ]
        assert all(same) if given is bags else not any(same)


def test_that_some_bags_have_no_views_is_told():
    bags, labels, _ = turned()
    learner = small("mix")
    learner.fit([*bags[:9], *(replace(bag, views=None) for bag in bags[9:])], labels, BINARY, seed=0)
    assert any("9 of 12 bags have views" in warning for warning in learner.warnings)


@pytest.mark.parametrize(
    ("name", "settings"), [("mix", {}), ("slidebag", {"members": "1", "witnesses": "linear"})]
)
def test_what_views_differ_in_is_learned_to_be_nothing(name, settings):
    """With views the nuisance is seen to be one: tiles of new bags are told better."""
    bags, labels, _ = turned()
    new, _, truth = turned(n_bags=30, seed=1)
    auc = []
    for given in ([replace(bag, views=None) for bag in bags], bags):
        learner = new_learner(name, settings)
        learner.fit(given, labels, BINARY, seed=0)
        told = np.concatenate([learner.predict(bag).tile_probability[:, 1] for bag in new])
        auc.append(instance_auc(told, np.concatenate(truth)))
    assert auc[0] < auc[1] > 0.95
