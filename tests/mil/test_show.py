from typer.testing import CliRunner

from features import ENCODERS
from mil import show
from mil.cli import app


def test_encoders_are_listed_one_a_line_with_what_one_must_know():
    result = CliRunner().invoke(app, ["encoders"])
    assert result.exit_code == 0
    lines = {line.split()[0]: line for line in result.stdout.splitlines() if line.strip()}
    for name in ENCODERS:
        card = ENCODERS[name].card
        told = [str(card.dim), card.pooling, card.licence, card.source]
        assert all(part in lines[name] for part in [*told, "ask" if card.is_gated else "no"])
        assert lines[name].split()[2] == ("any" if card.resizes else str(card.input_px))
    for prefix in ("timm:<name>", "torchscript:<path>", "onnx:<path>"):
        assert prefix in lines
    assert "runs the code in it" in lines["torchscript:<path>"]


def test_on_a_narrow_terminal_the_last_column_gives_way(monkeypatch, capsys):
    monkeypatch.setattr(show, "_console", lambda: show.Console(width=100, highlight=False))
    cards = [ENCODERS[name].card for name in ENCODERS]
    show.encoders(cards)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    end = len(lines) - len(show._FAMILIES)
    assert [line.split()[0] for line in lines[end - len(cards) : end]] == [card.name for card in cards]
    for card in cards:
        line = next(line for line in lines if line.startswith(f"{card.name} "))
        assert all(part in line for part in (str(card.dim), card.pooling, card.licence))
