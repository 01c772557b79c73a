"""What the command line costs before it does anything."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SLOW = {
    "torch",
    "torchvision",
    "timm",
    "sklearn",
    "faiss",
    "joblib",
    "optuna",
    "tensorboard",
    "matplotlib",
    "jinja2",
}
# the encoders' own imports are the business of `features`
START = "import sys, types; sys.modules['features.timm_encoder'] = types.ModuleType('timm_encoder')"


def imported(statement):
    told = f"{START}; {statement}; print(*sorted({{m.partition('.')[0] for m in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", told], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    return set(done.stdout.split())


def test_nothing_slow_is_imported_before_a_verb_needs_it():
    assert not SLOW & imported("import mil.cli")


def test_learners_are_listed_without_them_and_imported_when_asked_for():
    listed = "from mil import LEARNERS; assert {'slidebag', 'mean', 'max', 'mix'} <= set(LEARNERS)"
    assert not SLOW & imported(listed)
    assert {"torch"} <= imported(f"{listed}; LEARNERS['mix']")
