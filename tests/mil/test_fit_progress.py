"""What a fit shows while it runs."""

import io
import sys

import pytest

from mil import progress
from mil.training.fit_progress import fit_progress, told

FIGURES = {"epoch": 0, "epochs": 4, "pseudo_loss": 0.51234, "bag_loss": 0.7, "share_positive": 0.123}


def test_losses_and_the_guard_are_told_in_words():
    assert told(FIGURES) == "pseudo loss 0.512, bag loss 0.7, 12.3% positive"


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when the test says so, and a line whenever they do."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress, "_LINE_EVERY_S", 10.0)
    return now


def test_a_log_gets_a_line_now_and_then(capsys, clock):
    with fit_progress("fold 1") as report:
        for epoch in range(4):
            report(FIGURES | {"epoch": epoch})
            clock[0] += 6
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["fold 1: 3/4 epochs, 0.25/s, 4 s left, pseudo loss 0.512, bag loss 0.7, 12.3% positive"]


def test_epochs_of_before_are_done_but_not_in_the_rate(capsys, clock):
    with fit_progress("fold 1") as report:
        for epoch in (2, 3):
            report(FIGURES | {"epoch": epoch})
            clock[0] += 10
    assert capsys.readouterr().err.startswith("fold 1: 4/4 epochs, 0.2/s, 0 s left")


def terminal_of(columns, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    return terminal


def test_a_terminal_gets_a_bar(monkeypatch):
    terminal = terminal_of(140, monkeypatch)
    with fit_progress("fold 1") as report:
        report(FIGURES | {"epoch": 1})
    shown = terminal.getvalue()
    assert "fold 1: before the first epoch" in shown
    assert "fold 1" in shown
    assert "2/4" in shown
    assert "12.3% positive" in shown


def test_on_a_narrow_terminal_a_long_text_leaves_the_rest_as_it_is(monkeypatch):
    terminal = terminal_of(80, monkeypatch)
    with progress.progress("fold 0, all but test", 270, unit="epochs") as advance:
        advance("loss " * 30)
    line = terminal.getvalue().rpartition("fold 0, all but test")[2]
    assert "loss" in line
    assert "1/270" in line
    assert "epochs/s" in line


def test_a_fit_that_reports_nothing_shows_nothing(capsys):
    with fit_progress("fold 1"):
        pass
    assert capsys.readouterr().err == ""
