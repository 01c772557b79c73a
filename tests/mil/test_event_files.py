"""What a fit tells of itself: a row an epoch, and the same as events that TensorBoard reads."""

import pandas as pd
import pytest
from bags_with_tumour import fold_models

from mil import Cohort, FitConfig, Plan, Run, run_all
from mil.calibration import HeldOut, slide_figures
from mil.training.event_files import check_tensorboard, write_events
from tiling import ConfigError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # tensorboard's own


def events(folder):
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = reading.EventAccumulator(str(folder))
    found.Reload()
    return {name: [(e.step, e.value) for e in found.Scalars(name)] for name in found.Tags()["scalars"]}


def test_events_are_what_metrics_csv_has_and_what_was_held_out(tmp_path):
    models = fold_models(tmp_path, how=FitConfig(tensorboard=True))
    models.fitted()
    told = tmp_path / "tensorboard"
    each = [f"fold-{k}{more}" for k in range(3) for more in ("", "-all-but-test")]
    assert sorted(path.name for path in told.iterdir()) == sorted([*each, "final-model"])
    rows = pd.read_csv(tmp_path / "metrics.csv")
    found = events(told / "final-model")
    assert list(found) == ["loss"]
    assert [step for step, _ in found["loss"]] == list(range(5))
    assert [value for _, value in found["loss"]] == pytest.approx(rows.loss.tolist())
    held_out = HeldOut.load(tmp_path / "folds" / "1")
    expected = slide_figures(held_out.margins, held_out.labels, models.classes)
    found = events(told / "fold-1")
    assert set(found) == {"loss", "held_out/log_loss", "held_out/slide_auc"}
    assert {name: found[f"held_out/{name}"] for name in expected} == {
        name: [(0, pytest.approx(value))] for name, value in expected.items()
    }


def test_events_of_an_earlier_fit_go(tmp_path):
    for loss in (3.0, 2.0):
        write_events(tmp_path, [{"epoch": 0, "loss": loss}, {"epoch": 1, "loss": loss / 2}])
    assert events(tmp_path) == {"loss": [(0, 2.0), (1, 1.0)]}


def test_no_events_unless_asked_for(tmp_path):
    fold_models(tmp_path).fitted()
    assert not (tmp_path / "tensorboard").exists()


def test_without_tensorboard_the_way_out_is_told(monkeypatch):
    monkeypatch.setattr("mil.training.event_files.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="tensorboard, which is not installed") as told:
        check_tensorboard()
    assert 'pip install "slidebag[tensorboard]"' in told.value.hint


def test_run_tells_it_before_anything_is_tiled(tmp_path, monkeypatch):
    monkeypatch.setattr("mil.training.event_files.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="tensorboard, which is not installed"):
        run_all(Cohort(()), Run.create(tmp_path), Plan(fit=FitConfig(tensorboard=True)))
