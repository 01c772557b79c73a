"""What every registered learner must do, checked on bags whose truth is known."""

import inspect
import json
from dataclasses import dataclass, field, fields

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch.utils._python_dispatch import TorchDispatchMode

from mil import LEARNERS, Bag, Classes, course, load_learner
from mil.learner import MODEL_FORMAT_VERSION, DivergedError
from mil.metrics import instance_auc, slide_auc
from tiling import FormatError, SlidebagError

DIM = 8
BINARY = Classes(("negative", "tumour"), has_negative=True)
THREE = Classes(("normal", "a", "b"), has_negative=True)
SUBTYPES = Classes(("a", "b"), has_negative=False)
# these say where a network looks, which is less than what is there
BY_ATTENTION = ("abmil", "gated_abmil", "clam_sb", "clam_mb", "transmil")
# the others are quick as they are
QUICK = {
    "transmil": {"epochs": 8, "hidden": 32, "landmarks": 16, "learning_rate": 2e-3},
    "slidebag": {
        "members": 2,
        "witness_epochs": 15,
        "epochs": 8,
        "steps_per_epoch": 10,
        "instances_per_step": 64,
        "queue": 128,
    },
}

FEW = {"epochs": 3, "witness_epochs": 3}  # where nothing has to be learned

pytestmark = pytest.mark.parametrize("name", list(LEARNERS))


@dataclass(frozen=True)
class Toy:
    """Bags with labels, and the class of each instance, which no learner is handed."""

    bags: list[Bag]
    labels: list[int]
    truth: list[np.ndarray]


def toy(classes=BINARY, seed=0, n_bags=24, n_tiles=25, share=0.3, dim=DIM, shift=4.0) -> Toy:
    """Gaussian instances; those of tile class c > 0 are moved along axis c."""
    draw = np.random.default_rng(seed)
    bags, labels, truth = [], [], []
    for i in range(n_bags):
        label = i % len(classes.names)
        tile_class = label if classes.has_negative else label + 1
        found = np.zeros(n_tiles, int)
        if tile_class:
            found[: max(1, round(share * n_tiles))] = tile_class
        features = draw.normal(size=(n_tiles, dim))
        features[found > 0, tile_class] += shift
        order = draw.permutation(n_tiles)
        bags.append(Bag(f"bag {i}", features[order].astype(np.float32)))
        labels.append(label)
        truth.append(found[order])
    return Toy(bags, labels, truth)


def new(name, **options):
    kind = LEARNERS[name].config_class
    known = {f.name for f in fields(kind)}
    wanted = QUICK.get(name, {}) | options
    return LEARNERS[name](kind(**{k: v for k, v in wanted.items() if k in known}))


def fitted(name, classes=BINARY, seed=0, data=None, **options):
    learner = new(name, **options)
    data = data or toy(classes)
    learner.fit(data.bags, data.labels, classes, seed=seed)
    return learner


_kept: dict = {}


@pytest.fixture
def learner(name):
    """Return one learner fitted on two classes; it is only ever asked, so all tests share it."""
    if name not in _kept:
        _kept[name] = fitted(name)
    return _kept[name]


def assert_same(first, second):
    assert np.array_equal(first.probability, second.probability)
    assert np.array_equal(first.tile_probability, second.tile_probability)
    assert np.array_equal(first.prototype, second.prototype)
    distances = first.prototype_distance, second.prototype_distance
    assert np.array_equal(*distances) if distances[0] is not None else distances[1] is None


def scores(learner, data):
    predictions = [learner.predict(bag) for bag in data.bags]
    return np.stack([p.probability for p in predictions]), [p.tile_probability for p in predictions]


def test_shapes_types_and_sums(learner):
    for n_tiles in (1, 25):
        found = learner.predict(Bag("x", toy(seed=1).bags[1].features[:n_tiles]))
        assert found.probability.shape == (2,)
        assert found.tile_probability.shape == (n_tiles, 2)
        assert found.prototype.shape == (n_tiles,)
        assert found.probability.dtype == found.tile_probability.dtype == np.float32
        assert found.prototype.dtype == np.int16
        if learner.n_prototypes:
            assert found.prototype_distance is not None
            assert found.prototype_distance.dtype == np.float32
            assert ((found.prototype_distance >= -1e-6) & (found.prototype_distance <= 2)).all()
            assert ((found.prototype >= 0) & (found.prototype < 2 * learner.n_prototypes)).all()
        else:
            assert found.prototype_distance is None
            assert (found.prototype == -1).all()
        assert found.probability.sum() == pytest.approx(1, abs=1e-5)
        np.testing.assert_allclose(found.tile_probability.sum(1), 1, atol=1e-5)
        assert found.flags == ()


def test_a_bag_among_others_equals_the_bag_alone(learner):
    bags = toy(seed=1).bags
    among = [learner.predict(bag) for bag in bags][3]
    assert_same(among, learner.predict(bags[3]))


def test_order_of_instances_does_not_matter(learner):
    if learner.heeds_order:
        pytest.skip("puts the tiles on a square in their order, as published")
    bag = toy(seed=1).bags[1]
    order = np.random.default_rng(0).permutation(len(bag))
    straight, mixed = learner.predict(bag), learner.predict(Bag("mixed", bag.features[order]))
    np.testing.assert_allclose(mixed.probability, straight.probability, atol=1e-5)
    np.testing.assert_allclose(mixed.tile_probability, straight.tile_probability[order], atol=1e-5)
    assert np.array_equal(mixed.prototype, straight.prototype[order])


def test_float16_features_are_taken(learner):
    bag = toy(seed=1).bags[1]
    half = learner.predict(Bag("half", bag.features.astype(np.float16)))
    np.testing.assert_allclose(half.probability, learner.predict(bag).probability, atol=0.05)


def test_a_huge_bag_is_predicted_as_its_tiles_are(learner):
    if learner.heeds_order:
        pytest.skip("a tile is read by its place among the others")
    few = toy(seed=1).bags[1].features
    many = np.tile(few, (2000, 1))  # 50,000 tiles: several chunks
    found = learner.predict(Bag("huge", many)).tile_probability
    alone = learner.predict(Bag("few", few)).tile_probability
    np.testing.assert_allclose(found[-len(few) :], alone, atol=1e-4)


class Largest(TorchDispatchMode):
    """How many values the largest tensor has that is made meanwhile."""

    n_values = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for each in made if isinstance(made, tuple | list) else [made]:
            if isinstance(each, torch.Tensor):
                self.n_values = max(self.n_values, each.untyped_storage().nbytes() // each.element_size())
        return made


def test_memory_grows_with_the_tiles_and_not_with_their_square(learner):
    n_tiles = 100_000
    bag = Bag("huge", np.random.default_rng(0).normal(size=(n_tiles, DIM)).astype(np.float32))
    with Largest() as largest:
        found = learner.predict(bag)
    assert n_tiles <= largest.n_values <= 256 * n_tiles  # 0.1 GB
    assert found.tile_probability.shape == (n_tiles, 2)
    np.testing.assert_allclose(found.tile_probability.sum(1), 1, atol=1e-5)


def test_an_empty_bag_is_as_negative_as_can_be(learner):
    found = learner.predict(Bag("empty", np.zeros((0, DIM), np.float32)))
    assert found.probability.tolist() == [1, 0]
    assert found.tile_probability.shape == (0, 2)
    assert found.prototype.shape == (0,)
    assert found.flags == ("no tissue",)


def test_empty_training_bags_are_left_out_and_named(name):
    data = toy()
    empty = Bag("bare", np.zeros((0, DIM), np.float32))
    learner = new(name, **FEW)
    learner.fit([*data.bags, empty], [*data.labels, 1], BINARY, seed=0)
    assert_same(learner.predict(data.bags[1]), fitted(name, **FEW).predict(data.bags[1]))
    assert any("bare" in warning for warning in learner.warnings)


def test_save_and_load_bit_for_bit(name, learner, tmp_path):
    learner.save(tmp_path / "model")
    again = load_learner(tmp_path / "model")
    assert type(again) is LEARNERS[name]
    assert (again.config, again.classes, again.dim) == (learner.config, learner.classes, learner.dim)
    for bag in toy(seed=1).bags[:3]:
        assert_same(again.predict(bag), learner.predict(bag))
    again.save(tmp_path / "again")
    for file in ("config.json", "weights.safetensors"):
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "model" / file).read_bytes()


def test_the_model_tells_no_import_path(learner, tmp_path):
    learner.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "weights.safetensors"]
    assert "mil." not in (tmp_path / "config.json").read_text()


@pytest.mark.parametrize("version", [None, 99])
def test_a_missing_or_newer_format_version_is_refused(learner, tmp_path, version):
    learner.save(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": version}))
    with pytest.raises(FormatError, match=f"version {version}.*up to {MODEL_FORMAT_VERSION}"):
        load_learner(tmp_path)


def test_damaged_weights_are_refused(learner, tmp_path):
    learner.save(tmp_path)
    path = tmp_path / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FormatError, match="weights"):
        load_learner(tmp_path)


def test_the_seed_decides_and_nothing_else(name):
    torch.manual_seed(1)
    first = fitted(name, seed=3, **FEW)
    torch.manual_seed(2)
    again, other = fitted(name, seed=3, **FEW), fitted(name, seed=4, **FEW)
    bag = toy(seed=1).bags[1]
    assert_same(first.predict(bag), again.predict(bag))
    assert not np.array_equal(first.predict(bag).tile_probability, other.predict(bag).tile_probability)


def test_global_randomness_is_left_alone(name):
    torch.manual_seed(0)
    before, before_numpy = torch.get_rng_state(), np.random.get_state()[1].copy()
    fitted(name, **FEW)
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], before_numpy)


def test_gradient_reaches_every_parameter(name, tmp_path):
    """What one more epoch leaves as it was has no gradient: AdamW skips it."""
    # of fewer than six patients no witnesses are rehearsed, whose draws would change all that follows
    data = toy(THREE, n_bags=5)
    told = {"epochs": 1, "witness_epochs": 1, "weight_decay": 0.0, "witnesses": "context"}
    found = {}
    for longer in ("neither", "epochs", "witness_epochs"):
        fitted(name, THREE, data=data, **told | ({} if longer == "neither" else {longer: 2})).save(tmp_path)
        found[longer] = load_file(tmp_path / "weights.safetensors")
    # scales are measured, not taught, and so is how witnesses are read
    measured = (".reading.", ".centre", ".spread")
    learned = [
        key for key in found["neither"] if key.startswith("net.") and not any(m in key for m in measured)
    ]
    assert len(learned) >= 4
    for key in learned:
        longer = found["witness_epochs" if ".witnesses." in key else "epochs"]
        assert not np.array_equal(found["neither"][key], longer[key]), key


def test_what_a_sweep_moves_changes_what_slides_are_told_to_be(name):
    """Slides alone judge a sweep: by what no slide depends on it would choose by chance."""
    data = toy(n_bags=32, n_tiles=6, share=0.5, shift=1.0)
    moved = {
        f.name: f.metadata["sweep"] for f in fields(LEARNERS[name].config_class) if "sweep" in f.metadata
    }
    for option, (low, high, *_) in moved.items():
        told = FEW | {"steps_per_epoch": 1, "members": 1, "witnesses": "hidden"}
        ends = [fitted(name, data=data, **told | {option: value}) for value in (low, high)]
        at_low, at_high = (scores(learner, data)[0] for learner in ends)
        assert np.abs(at_low - at_high).max() > 1e-4, option


def test_a_fit_that_comes_to_no_number_is_an_error(name):
    with pytest.raises(DivergedError, match=f"{name}.*came to no number in"):
        fitted(name, learning_rate=1e30, optimizer="sgd", **FEW)


def test_a_fit_that_was_stopped_is_no_model(name, tmp_path):
    learner, data = fitted(name, **FEW), toy()

    def report(figures):
        raise Stopped

    with pytest.raises(Stopped):
        learner.fit(data.bags, data.labels, BINARY, seed=1, report=report)
    with pytest.raises(SlidebagError, match="has not been fitted"):
        learner.predict(data.bags[0])
    with pytest.raises(SlidebagError, match="has not been fitted"):
        learner.save(tmp_path)


def test_it_learns_slides_and_tiles(name, learner):
    data = toy(seed=1)
    slides, tiles = scores(learner, data)
    by_attention = name in BY_ATTENTION
    assert slide_auc(slides, np.array(data.labels)) > (0.9 if by_attention else 0.95)
    found = instance_auc(np.concatenate(tiles)[:, 1], np.concatenate(data.truth) > 0)
    assert found > (0.7 if by_attention else 0.95)


@pytest.mark.slow
@pytest.mark.parametrize("classes", [THREE, SUBTYPES], ids=["three classes", "subtyping"])
def test_it_learns_more_classes_and_subtypes(name, classes):
    learner = fitted(name, classes, data=toy(classes, n_bags=36), steps_per_epoch=25)
    data = toy(classes, seed=1, n_bags=36)
    slides, tiles = scores(learner, data)
    assert slides.shape[1] == len(classes.names)
    assert tiles[0].shape[1] == len(classes.tile_names)
    assert slide_auc(slides, np.array(data.labels)) > 0.95
    score, truth = np.concatenate(tiles), np.concatenate(data.truth)
    for c in range(1, len(classes.tile_names)):
        assert instance_auc(score[:, c], truth == c) > (0.7 if name in BY_ATTENTION else 0.9)


@pytest.mark.slow
@pytest.mark.parametrize("has_negative", [True, False])
def test_it_learns_classes_that_do_not_exclude_each_other(name, has_negative):
    if name in BY_ATTENTION and name != "clam_mb":
        pytest.skip("has one attention, which cannot look for two classes at once")
    names = ("normal", "a", "b") if has_negative else ("a", "b")
    classes = Classes(names, has_negative=has_negative, is_exclusive=False)
    learner = fitted(name, classes, data=several(classes), steps_per_epoch=25)
    data = several(classes, seed=1)
    slides, tiles = scores(learner, data)
    both = np.all(data.labels, axis=1) if not has_negative else np.all(np.array(data.labels)[:, 1:], axis=1)
    labels = np.array(data.labels)
    assert slides[both].sum(1).mean() > 1.5  # each class is told for itself
    for c in range(len(names)):
        assert instance_auc(slides[:, c], labels[:, c]) > 0.95
    score, truth = np.concatenate(tiles), np.concatenate(data.truth)
    for c in (1, 2):
        assert instance_auc(score[:, c], truth == c) > 0.9


def several(classes: Classes, seed=0, n_bags=36, n_tiles=30) -> Toy:
    """Bags of nothing (of a negative class), of a, of b, and of both: a tile in five is of each class."""
    draw = np.random.default_rng(seed)
    kinds = [(), (1,), (2,), (1, 2)][0 if classes.has_negative else 1 :]
    bags, labels, truth = [], [], []
    for i in range(n_bags):
        found = np.zeros(n_tiles, int)
        for c in kinds[i % len(kinds)]:
            found[6 * c : 6 * c + 6] = c
        features = draw.normal(size=(n_tiles, DIM))
        features[found > 0, found[found > 0]] += 4
        bags.append(Bag(f"bag {i}", features.astype(np.float32)))
        is_of = [c in kinds[i % len(kinds)] for c in (1, 2)]
        labels.append(([not any(is_of)] if classes.has_negative else []) + is_of)
        truth.append(found)
    return Toy(bags, labels, truth)


def test_an_empty_bag_without_a_negative_class_is_undecided(name):
    learner = fitted(name, SUBTYPES, **FEW)
    found = learner.predict(Bag("empty", np.zeros((0, DIM), np.float32)))
    assert found.probability.tolist() == [0.5, 0.5]
    assert found.tile_probability.shape == (0, 3)


def test_rare_bags_are_not_drowned(name):
    data = toy(n_bags=40)
    kept = [i for i, label in enumerate(data.labels) if label or i % 10 == 0]  # 4 negative, 20 positive
    rare = Toy([data.bags[i] for i in kept], [data.labels[i] for i in kept], [])
    slides, _ = scores(fitted(name, data=rare), toy(seed=1))
    assert slide_auc(slides, np.array(toy(seed=1).labels)) > 0.9


@dataclass(frozen=True)
class ToldBag(Bag):
    """A bag that hides the truth of its instances where a learner could look for it."""

    truth: np.ndarray = field(default_factory=lambda: np.zeros(0))


def test_no_instance_label_reaches_a_learner(name):
    data = toy()
    shuffled = np.random.default_rng(0)

    def predict(truths):
        bags = [ToldBag(b.id, b.features, truth=t) for b, t in zip(data.bags, truths, strict=True)]
        learner = fitted(name, data=Toy(bags, data.labels, []), **FEW)
        return learner.predict(data.bags[1])

    assert_same(predict(data.truth), predict([shuffled.permutation(1 - t) for t in data.truth]))


def test_there_is_no_way_to_hand_over_an_instance_label(name):
    # candidates are a user's training annotations: part of what is learned from, as labels are; views are
    # features too, and a patient is a name
    assert [f.name for f in fields(Bag)] == ["id", "features", "candidates", "views", "patient"]
    asked = list(inspect.signature(LEARNERS[name].fit).parameters)
    asked_of_all = ["self", "bags", "labels", "classes", "seed", "report", "checkpoint", "validation", "keep"]
    assert asked == asked_of_all


def test_progress_is_reported_every_epoch(name):
    told: list[dict] = []
    learner, data = new(name, **FEW), toy()
    learner.fit(data.bags, data.labels, BINARY, seed=0, report=lambda figures: told.append(dict(figures)))
    assert [figures["epoch"] for figures in told] == list(range(told[-1]["epochs"]))
    assert all(np.isfinite(list(figures.values())).all() for figures in told)


class Stopped(Exception):
    """What a test ends a fit with."""


def fit_until(learner, data, stop: int, path):
    """Fit, but stop when epoch `stop` is done and not yet written down."""

    def report(figures):
        if figures["epoch"] == stop:
            raise Stopped

    with pytest.raises(Stopped):
        learner.fit(data.bags, data.labels, BINARY, seed=0, report=report, checkpoint=path)


_whole: dict = {}


@pytest.mark.parametrize("share", [0.1, 0.4, 0.5, 0.6, 0.95])
def test_a_stopped_fit_goes_on_bit_for_bit(name, tmp_path, monkeypatch, share):
    monkeypatch.setattr(course, "EVERY_S", 0)
    data = toy(n_bags=32, n_tiles=12)  # of fewer than 30 no reading of slides is learned
    again, told = new(name, **FEW), []
    if name not in _whole:
        _whole[name] = fitted(name, data=data, **FEW)
    whole = _whole[name]
    stop = int(share * len(whole.history))
    path = tmp_path / "here" / "checkpoint.safetensors"
    fit_until(new(name, **FEW), data, stop, path)
    assert path.is_file() == (stop > 0)
    torch.manual_seed(1)  # what was drawn elsewhere meanwhile changes nothing
    again.fit(data.bags, data.labels, BINARY, seed=0, report=told.append, checkpoint=path)
    whole.save(tmp_path / "whole")
    again.save(tmp_path / "again")
    files = [tmp_path / each / "weights.safetensors" for each in ("whole", "again")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert (again.history, again.warnings) == (whole.history, whole.warnings)
    assert [figures["epoch"] for figures in told] == list(range(stop, len(whole.history)))
    assert list(path.parent.iterdir()) == []


def test_features_of_another_dim_are_refused(learner):
    with pytest.raises(SlidebagError, match=r"other: features have dim 5, wanted 8.*encoder"):
        learner.predict(Bag("other", np.zeros((3, 5), np.float32)))


def test_training_bags_of_two_dims_are_refused(name):
    data = toy()
    odd = Bag("odd", np.zeros((3, 5), np.float32))
    with pytest.raises(SlidebagError, match=r"odd: features have dim 5, wanted 8"):
        new(name).fit([*data.bags, odd], [*data.labels, 1], BINARY, seed=0)


def test_features_that_are_not_finite_are_refused(name, learner):
    data = toy()
    spoilt = data.bags[5].features.copy()
    spoilt[2, 1] = np.nan
    with pytest.raises(SlidebagError, match="spoilt: features are not finite in 1 of 25"):
        new(name).fit([*data.bags, Bag("spoilt", spoilt)], [*data.labels, 1], BINARY, seed=0)
    with pytest.raises(SlidebagError, match="spoilt"):
        learner.predict(Bag("spoilt", spoilt))


def test_one_class_only_is_refused(name):
    data = toy()
    with pytest.raises(SlidebagError, match=r"1 class \(tumour\), wanted 2"):
        new(name).fit(data.bags, [1] * len(data.bags), BINARY, seed=0)


def test_labels_outside_the_classes_are_refused(name):
    data = toy()
    with pytest.raises(SlidebagError, match=r"labels \[2\]"):
        new(name).fit(data.bags, [2, *data.labels[1:]], BINARY, seed=0)


def test_a_negative_class_needs_negative_bags(name):
    data = toy(THREE)
    kept = [i for i, label in enumerate(data.labels) if label]
    with pytest.raises(SlidebagError, match="'normal', the negative class"):
        new(name).fit([data.bags[i] for i in kept], [data.labels[i] for i in kept], THREE, seed=0)


def test_an_unfitted_learner_says_so(name, tmp_path):
    with pytest.raises(SlidebagError, match="has not been fitted"):
        new(name).predict(toy().bags[0])
    with pytest.raises(SlidebagError, match="has not been fitted"):
        new(name).save(tmp_path)


def test_every_option_has_help_and_is_fixed(name):
    for option in fields(LEARNERS[name].config_class):
        assert option.metadata["help"]
    with pytest.raises(AttributeError):
        new(name).config.epochs = 1
