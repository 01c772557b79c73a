"""A fit that was stopped goes on from its checkpoint, and from no other; nothing of it stays."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from features import Checkpoint
from mil import LEARNERS, Bag, Classes, course
from mil.course import Course
from mil.instance import learner as slidebag
from tiling import FormatError

BINARY = Classes(("normal", "tumour"), has_negative=True)
LABELS = [0, 1] * 16
QUICK = {"members": 2, "witness_epochs": 2, "epochs": 2, "steps_per_epoch": 3, "instances_per_step": 64}


class Stopped(Exception):
    """What a test ends a fit with."""


@pytest.fixture(autouse=True)
def _every_epoch(monkeypatch):
    monkeypatch.setattr(course, "EVERY_S", 0)


@pytest.fixture
def bags():
    draw = np.random.default_rng(0)
    features = draw.normal(size=(len(LABELS), 12, 4)).astype(np.float32)
    features[1::2, :4] += 2
    return [Bag(f"bag {i}", each) for i, each in enumerate(features)]


def new(name="mix", **options):
    kind = LEARNERS[name].config_class
    return LEARNERS[name](kind(**(QUICK if name == "slidebag" else {"epochs": 4}) | options))


def stop_in(learner, bags, path, epoch=2, labels=LABELS, seed=0):
    def report(figures):
        if figures["epoch"] == epoch:
            raise Stopped

    with pytest.raises(Stopped):
        learner.fit(bags, labels, BINARY, seed=seed, report=report, checkpoint=path)
    assert path.is_file()


def epochs_left(learner, bags, path, labels=LABELS, seed=0) -> int:
    told = []
    learner.fit(bags, labels, BINARY, seed=seed, report=told.append, checkpoint=path)
    return len(told)


def test_the_same_fit_goes_on(bags, tmp_path):
    stop_in(new(), bags, tmp_path / "c")
    assert epochs_left(new(), bags, tmp_path / "c") == 2


@pytest.mark.parametrize(
    "what", ["features", "order", "labels", "seed", "option", "learner", "patient", "candidates"]
)
def test_another_fit_begins_anew(bags, tmp_path, what):
    stop_in(new(), bags, tmp_path / "c")
    learner, labels, seed = new(), list(LABELS), 0
    if what == "features":
        bags[3].features[5, 1] += 1e-6
    elif what == "order":
        bags[3] = replace(bags[3], features=bags[3].features[::-1])
    elif what == "labels":
        labels[0] = 1
    elif what == "seed":
        seed = 1
    elif what == "patient":
        bags[3] = replace(bags[3], patient="another")
    elif what == "option":
        learner = new(learning_rate=1e-3)
    elif what == "learner":
        learner = new("max")
    else:
        bags[3] = replace(bags[3], candidates=np.ones((12, 2), bool))
    assert epochs_left(learner, bags, tmp_path / "c", labels, seed) == 4
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("damage", ["cut", "emptied", "overwritten"])
def test_a_damaged_checkpoint_is_named_and_not_used(bags, tmp_path, damage):
    path = tmp_path / "c.safetensors"
    stop_in(new(), bags, path)
    content = path.read_bytes()
    path.write_bytes({"cut": content[:-9], "emptied": b"", "overwritten": b"\0" * len(content)}[damage])
    learner, whole = new(), new()
    assert epochs_left(learner, bags, path) == 4
    assert len(learner.warnings) == 1
    assert learner.warnings[0].startswith(f"{path}: damaged checkpoint")
    whole.fit(bags, LABELS, BINARY, seed=0)
    assert np.array_equal(learner.predict(bags[1]).tile_probability, whole.predict(bags[1]).tile_probability)
    assert list(tmp_path.iterdir()) == []


def test_the_kinds_of_witnesses_are_chosen_once(bags, tmp_path, monkeypatch):
    chosen = []
    choose = slidebag.choose_kinds
    monkeypatch.setattr(slidebag, "choose_kinds", lambda *given: chosen.append(choose(*given)) or chosen[-1])
    rehearsed = 3 * 3 * QUICK["witness_epochs"]  # three kinds on three folds
    of_members = QUICK["members"] * (QUICK["witness_epochs"] + QUICK["epochs"])
    stop_in(new("slidebag"), bags, tmp_path / "c", epoch=rehearsed + 5)
    again = new("slidebag")
    assert epochs_left(again, bags, tmp_path / "c") == of_members - 5
    assert len(chosen) == 1
    assert getattr(again, "_kinds") == chosen[0]  # noqa: B009  of this learner alone


@pytest.mark.parametrize(
    "options", [{"refine": 0.1, "optimizer": "sgd"}, {"witnesses": "none"}, {"witnesses": "context"}]
)
def test_each_way_of_the_instance_learner_goes_on_bit_for_bit(bags, tmp_path, options):
    whole, again = new("slidebag", **options), new("slidebag", **options)
    whole.fit(bags, LABELS, BINARY, seed=0)
    stop_in(new("slidebag", **options), bags, tmp_path / "c", epoch=len(whole.history) - 1)
    epochs_left(again, bags, tmp_path / "c")
    assert again.history == whole.history
    assert all(np.array_equal(value, again._state()[key]) for key, value in whole._state().items())


def test_a_checkpoint_is_not_written_for_every_short_epoch(bags, tmp_path, monkeypatch):
    monkeypatch.setattr(course, "EVERY_S", 30)
    with pytest.raises(AssertionError, match="is_file"):
        stop_in(new(), bags, tmp_path / "c")


def test_state_comes_back_as_it_was(tmp_path):
    """Numbers as keys, numbers that JSON has no word for, and what the generator draws next."""

    class Plain:
        def __init__(self):
            self.by_class = {1: torch.tensor([1.5, 2]), 2: torch.zeros(0)}
            self.loss, self.nothing, self.several = float("inf"), None, [1, torch.tensor(True)]

    told, generator, tensor = Plain(), torch.Generator().manual_seed(3), torch.arange(4)
    net = torch.nn.Linear(2, 1)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
    net(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    carried = {"told": told, "generator": generator, "tensor": tensor, "net": net, "optimizer": optimizer}
    checkpoint = Checkpoint(tmp_path / "c", "a fit")
    checkpoint.write(7, [{"loss": 0.1}], {"kind": "linear"}, carried)
    drawn, before = torch.rand(3, generator=generator), net.weight.detach().clone()
    told.by_class, told.loss = {}, 0.0
    tensor.zero_()
    optimizer.step()
    found = checkpoint.read()
    assert found is not None
    found.restore(carried)
    assert (found.epoch, found.history, found.results) == (7, [{"loss": 0.1}], {"kind": "linear"})
    assert told.by_class[1].tolist() == [1.5, 2]
    assert len(told.by_class[2]) == 0
    assert (told.loss, told.nothing, told.several[0]) == (float("inf"), None, 1)
    assert tensor.tolist() == [0, 1, 2, 3]
    assert torch.equal(torch.rand(3, generator=generator), drawn)
    assert torch.equal(net.weight, before)
    assert optimizer.state_dict()["state"][0]["step"] == 1
    assert Checkpoint(tmp_path / "c", "another fit").read() is None
    assert Checkpoint(tmp_path / "none", "a fit").read() is None


def test_a_damaged_file_is_an_error_that_says_what_to_do(tmp_path):
    (tmp_path / "c").write_bytes(b"not this")
    with pytest.raises(FormatError, match=r"c: damaged checkpoint.*remove it"):
        Checkpoint(tmp_path / "c", "a fit").read()


def test_work_that_was_done_is_not_done_again(tmp_path, bags):
    def begin():
        fit = Course()
        assert fit.resume(tmp_path / "c", ["a fit"], bags) == []
        return fit

    fit, done = begin(), []
    fit.once("first", lambda: done.append("first") or 5)
    for epoch in fit.stage().epochs(3):
        fit.stage().report({"epoch": epoch})
        if epoch == 2:
            break
    again = begin()
    assert again.once("first", lambda: done.append("again")) == 5
    assert done == ["first"]
    assert list(again.stage().epochs(3)) == [2]
    assert list(again.stage(3).epochs(2)) == [0, 1]
    again.finish()
    assert not (tmp_path / "c").exists()


def test_what_was_read_does_not_change_with_the_file(tmp_path):
    checkpoint = Checkpoint(tmp_path / "c", "a fit")
    checkpoint.write(1, [], {}, {"tensor": torch.arange(3000)})
    found = checkpoint.read()
    assert found is not None
    with checkpoint.path.open("r+b") as file:
        file.write(b"\0" * checkpoint.path.stat().st_size)
    assert torch.equal(found.state["tensor"], torch.arange(3000))


def test_a_model_that_could_not_be_kept_is_not_fitted_again(bags, tmp_path):
    path, whole, again = tmp_path / "c", new(), new()

    def fail():
        assert path.is_file()
        raise Stopped

    with pytest.raises(Stopped):
        whole.fit(bags, LABELS, BINARY, seed=0, checkpoint=path, keep=fail)
    assert epochs_left(again, bags, path) == 0
    assert all(np.array_equal(value, again._state()[key]) for key, value in whole._state().items())
    assert list(tmp_path.iterdir()) == []


def test_with_a_checkpoint_goes_what_a_kill_left_half_written_beside_it(bags, tmp_path):
    path, other = tmp_path / "c.safetensors", tmp_path / ".other.safetensors.abc.partial"
    (tmp_path / ".c.safetensors.abc.partial").write_bytes(b"half")
    other.write_bytes(b"half")
    new().fit(bags, LABELS, BINARY, seed=0, checkpoint=path)
    assert list(tmp_path.iterdir()) == [other]
