import pytest
from typer.testing import CliRunner

from features import ENCODERS
from mil import show
from mil.cli import app
from mil.predictions import write_predictions
from mil.run_folder import Run


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


@pytest.mark.parametrize("width", [80, 100])
def test_on_a_narrow_terminal_names_and_numbers_stay_whole_and_the_rest_folds(monkeypatch, capsys, width):
    monkeypatch.setattr(show, "_console", lambda: show.Console(width=width, highlight=False))
    cards = [ENCODERS[name].card for name in ENCODERS]
    show.encoders(cards)
    lines = capsys.readouterr().out.partition("timm:<name>")[0].splitlines()
    assert max(map(len, lines)) <= width
    assert not any("…" in line for line in lines)
    start = next(number for number, line in enumerate(lines) if line.startswith("name"))
    source, dim = (max(line.find(word) for line in lines[: start + 1]) for word in ("weights", "dim"))
    told = [line.split()[:4] for line in lines[start + 1 :] if line[:dim].strip()]
    for (name, size, px, mpp), card in zip(told, cards, strict=True):
        assert (name, size) == (card.name, str(card.dim))
        assert px == ("any" if card.resizes else str(card.input_px))
        assert mpp == ("any" if card.mpp is None else f"{card.mpp:g}")
    sources = "".join(line[source:] for line in lines[start + 1 :])
    assert sources.replace(" ", "") == "".join(card.source for card in cards).replace(" ", "")


@pytest.mark.parametrize("classes", [["normal", "tumour"], ["normal", "a", "b", "mucinous carcinoma", "e"]])
def test_on_a_narrow_terminal_each_probability_is_whole(monkeypatch, capsys, tmp_path, classes):
    monkeypatch.setattr(show, "_console", lambda: show.Console(width=80, highlight=False))
    run, slide_id = Run.create(tmp_path / "run"), "TCGA-AA-3000-01Z-00-DX1." + "8a3c7f0e" * 4
    row = {f"p({name})": f"0.{place}53160345" for place, name in enumerate(classes)}
    told = {"prediction": classes[1], "set": "|".join(classes[:2]), "novelty": "-1.12072", "flags": ""}
    left = {"threshold": "0.343913078", "max_logit": "0.243911", "prototype_distance": ""}
    write_predictions(run, [{"slide_id": slide_id, "label": "", **row, **told, **left}])
    show.predictions(run)
    shown = capsys.readouterr().out
    for place, name in enumerate(classes):
        assert f"0.{place}53 {name}" in shown
    for text in (f"{classes[0]}, {classes[1]}", "-1.121", str(run.root / "predictions.csv")):
        assert text in shown
    for text in ("max_logit", "prototype_distance", "flags", "…"):
        assert text not in shown


def test_figures_of_tiles_are_called_so():
    assert not [told for told in show._NAMES.values() if "patch" in told]
