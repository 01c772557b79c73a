"""Folds side by side: the same models however many are fitted at a time, kept, and named where they fail."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bags_with_tumour import fold_models, loaded_bags

from mil import Bag, FitConfig
from mil.training.overflow import overflow
from mil.training.side_by_side import side_by_side
from tiling import ConfigError, SlidebagError

TWO = FitConfig(jobs=2)
QUICK = {
    "members": "1", "witness_epochs": "2", "epochs": "2", "steps_per_epoch": "3", "instances_per_step": "16",
    "queue": "32", "witnesses": "linear",
}  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def stamps(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("weights.safetensors")}


@pytest.mark.slow
@pytest.mark.parametrize(("learner", "settings"), [("mean", {"epochs": "5"}), ("slidebag", QUICK)])
def test_models_are_bit_equal_however_many_are_fitted_at_a_time(learner, settings, tmp_path):
    one, two = (fold_models(tmp_path / name, learner, settings) for name in ("one", "two"))
    one.fitted()
    replace(two, how=TWO).fitted()
    assert len(list(tmp_path.rglob("weights.safetensors"))) == 2 * (3 + 1)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_model_is_the_same_on_a_machine_of_more_cores(tmp_path):
    import torch

    n_threads = torch.get_num_threads()
    try:
        for name, n in (("one", 1), ("three", 3)):
            torch.set_num_threads(n)
            fold_models(tmp_path / name).fitted()
            assert torch.get_num_threads() == n
    finally:
        torch.set_num_threads(n_threads)
    assert contents(tmp_path / "one") == contents(tmp_path / "three")


def not_finite(number: int) -> list:
    bags = loaded_bags()
    features = bags[number].bag.features.copy()
    features[3, 2] = np.nan
    bags[number] = replace(bags[number], bag=Bag(bags[number].bag.id, features))
    return bags


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_fold_that_fails_names_itself_and_the_others_are_kept(jobs, tmp_path):
    broken = fold_models(tmp_path, bags=not_finite(2), how=FitConfig(jobs=jobs))
    # bags 2 and 3 are of part 1: fitted on by fold 2, asked for validation by fold 0, and tested by fold 1
    whole = replace(broken, folds=broken.folds[1:2])
    side_by_side(whole._fit_fold, whole.folds, 1)
    before = stamps(tmp_path)
    assert len(before) == 1
    with pytest.raises(
        SlidebagError, match=r"fold [02]: slide 2: features are not finite in 1 of 20"
    ) as told:
        broken.fitted()
    assert told.value.hint == "extract them again"
    assert before.items() <= stamps(tmp_path).items()


def test_what_is_there_is_kept_with_its_warnings(tmp_path):
    models = fold_models(tmp_path)
    assert not models.are_there()
    models.bags[0].slides[0].readable[:] = False
    models.bags[0] = replace(models.bags[0], bag=Bag("slide 0", models.bags[0].bag.features[:0]))
    of_folds, final = models.fitted()
    before = stamps(tmp_path)
    assert models.are_there()
    again, final_again = models.fitted()
    assert stamps(tmp_path) == before
    assert [f.fold for f in again] == ["0", "1", "2"]
    assert final_again.learner.warnings == final.learner.warnings
    assert "left out of the training: slide 0" in final.learner.warnings[0]
    assert of_folds[0].learner.warnings == []  # the slide is of its test part
    assert not replace(models, settings={"epochs": "6"}).are_there()


def test_how_folds_are_fitted_is_no_part_of_what_they_are(tmp_path):
    models = fold_models(tmp_path)
    assert {replace(models, how=how).fingerprint(None) for how in (FitConfig(), TWO)} == {
        models.fingerprint(None)
    }
    swept = replace(models, swept={"1": {"learning_rate": "0.005"}})
    changed = [swept.fingerprint(f) != models.fingerprint(f) for f in (*models.folds, None)]
    assert changed == [False, True, False, True]  # the final model is calibrated on what all folds held out


@pytest.mark.slow
def test_a_worker_that_is_killed_is_told_with_the_way_out():
    with pytest.raises(SlidebagError, match="one of 2 processes was killed") as told:
        side_by_side(os._exit, [3, 3], 2)
    assert "--jobs" in told.value.hint
    assert side_by_side(abs, [-1, -2, -3], 2) == [1, 2, 3]  # the next ones are new


def test_where_no_process_can_be_started_the_work_is_done_in_this_one(monkeypatch):
    from joblib._parallel_backends import LokyBackend

    monkeypatch.setattr(LokyBackend, "effective_n_jobs", lambda *_: 1)
    assert side_by_side(abs, [-1, -2, -3], 2) == [1, 2, 3]
    time.sleep(1.5)  # what looks after a worker looks once a second
    assert side_by_side(lambda _: os.getpid(), [0, 0], 2) == [os.getpid()] * 2


class Unreadable:
    """What no worker can read."""

    def __reduce__(self):
        return open, ("/nowhere/at all",)


@pytest.mark.slow
def test_what_a_worker_cannot_read_is_not_told_as_memory():
    with pytest.raises(SlidebagError, match=r"could not read what it was sent: .*/nowhere/at all"):
        side_by_side(id, [Unreadable(), Unreadable()], 2)


@pytest.mark.slow
def test_many_large_bags_that_are_mapped_need_no_open_file_each(tmp_path):
    resource = pytest.importorskip("resource")
    most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with overflow(tmp_path) as to_file:
        bags = [Bag("b", each) for each in to_file([np.zeros((2, 1 << 17))] * 100)]  # 2 MiB each
        resource.setrlimit(resource.RLIMIT_NOFILE, (80, most[1]))
        try:
            assert side_by_side(len, [bags, bags], 2) == [100, 100]
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, most)


@pytest.mark.slow
def test_models_of_bags_in_a_file_are_those_of_bags_in_memory(tmp_path):
    bags = loaded_bags()
    (tmp_path / "run").mkdir()
    with overflow(tmp_path / "run") as to_file:
        parts = zip(bags, to_file([each.bag.features for each in bags]), strict=True)
        mapped = [replace(each, bag=Bag(each.bag.id, part)) for each, part in parts]
        fold_models(tmp_path / "mapped", bags=mapped, how=TWO).fitted()
    fold_models(tmp_path / "memory", bags=bags).fitted()
    assert contents(tmp_path / "mapped") == contents(tmp_path / "memory")


def test_jobs_below_none_are_refused():
    with pytest.raises(ConfigError, match="jobs is -1"):
        FitConfig(jobs=-1)


INTERRUPTED = """
import sys
from pathlib import Path
import mil.cli
from bags_with_tumour import fold_models
from mil import FitConfig
command_line = sys.modules["mil.cli.app"]
models = fold_models(Path(sys.argv[1]), settings={"epochs": "500"}, how=FitConfig(jobs=2))
command_line.app = models.fitted
command_line.main()
"""


def is_running(group: int) -> bool:
    """Whether a process of the group still works, and does not just wait for someone to ask how it ended."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    states = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended just now
            state, _, its_group, *_ = stat.read_text().rpartition(")")[2].split()
            states += [state] * (int(its_group) == group)
    return not states or not set(states) <= {"Z", "X"}


def has_ended(group: int) -> bool:
    deadline = time.monotonic() + 30
    while is_running(group) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not is_running(group)


def stopped_early(tmp_path: Path, stop) -> tuple[subprocess.Popen, str, dict[str, int]]:
    """Fit folds in a process, and stop it when some are done; return it, what it said, and their weights."""
    samples = str(Path(__file__).parents[1] / "samples")
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path.cwd()), samples])},
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    while process.poll() is None and not list(tmp_path.rglob("recipe.json")):
        time.sleep(0.05)
    done = {path.parent.name for path in tmp_path.rglob("recipe.json")}
    before = {k: v for k, v in stamps(tmp_path).items() if Path(k).parent.name in done}
    assert 1 <= len(before) < 3, "it was stopped too early or too late to show anything"
    stop(process)
    _, said = process.communicate(timeout=60)
    return process, said, before


def goes_on(tmp_path: Path, before: dict[str, int]) -> bool:
    fold_models(tmp_path, settings={"epochs": "500"}).fitted()
    return before.items() <= stamps(tmp_path).items() and len(stamps(tmp_path)) == 4


@pytest.mark.slow
def test_ctrl_c_ends_all_workers_and_the_folds_that_are_done_are_kept(tmp_path):
    # as a terminal does: all processes of the group
    process, said, before = stopped_early(tmp_path, lambda p: os.killpg(p.pid, signal.SIGINT))
    assert process.returncode == 130
    assert "the same command again goes on where it was" in said
    assert "Traceback" not in said
    assert has_ended(process.pid)
    assert goes_on(tmp_path, before)


@pytest.mark.slow
def test_workers_end_when_what_started_them_is_killed(tmp_path):
    process, _, before = stopped_early(tmp_path, lambda p: p.kill())
    assert process.returncode == -signal.SIGKILL
    assert has_ended(process.pid)
    assert goes_on(tmp_path, before)
