"""The verb `probe` on drawn tiles whose colour tells the class, the site, or nothing."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from features import ENCODERS, Encoder, EncoderCard, EncoderConfig, EncoderEntry, TileFolder
from mil import ProbeConfig, probe
from mil.cli import app
from mil.probe.tiles import load_tiles
from mil.probe.vectors import seen_px
from tiling import ConfigError, FormatError, SlidebagError

CLASSES = ("benign", "tumour")
SIDE_PX, MPP = 24, 2.0


def draw(
    folder: Path, colour_of: str, *, n_patients: int = 6, n_each: int = 6, side_px: int = SIDE_PX
) -> Path:
    """Noisy tiles of patients of three sites; `colour_of` "class" or "site" decides the colour. A table."""
    rng = np.random.default_rng(0)
    rows = []
    for patient in range(n_patients):
        for k in range(n_each):
            label, site = CLASSES[k % 2], f"site {patient % 3}"
            number = {"class": k % 2, "site": patient % 3, "": 1}[colour_of]
            base = np.array([210, 160, 190]) - number * np.array([40, 40, 5]) + rng.normal(0, 2, 3)
            pixels = np.clip(rng.normal(base, 12, (side_px, side_px, 3)), 0, 255).astype(np.uint8)
            name = f"{label}/p{patient}-{k}.png"
            (folder / label).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / name)
            rows.append((name, label, f"p{patient}", site))
    table = folder / "tiles.csv"
    pd.DataFrame(rows, columns=["file", "label", "patient", "site"]).to_csv(table, index=False)
    return table


def values(figures: pd.DataFrame, column: str = "value") -> dict[tuple[str, str], float]:
    return dict(zip(zip(figures["method"], figures["figure"], strict=True), figures[column], strict=True))


class MeanColour(Encoder):
    """The mean colour; with `spoil` as the first number."""

    def __init__(self, card: EncoderCard, spoil: float | None = None) -> None:
        self.card, self.fingerprint, self.spoil, self.n_seen = card, f"{card.name}-0", spoil, 0

    def encode(self, patches: np.ndarray) -> np.ndarray:
        assert patches.shape[1:] == (self.card.input_px, self.card.input_px, 3)
        self.n_seen += len(patches)
        vectors = patches.mean(axis=(1, 2), dtype=np.float32)
        if self.spoil is not None:
            vectors[0, 0] = self.spoil
        return vectors


@pytest.fixture
def registered(monkeypatch):
    """Add encoders that want 16 px at 1 µm/px: `mean-colour`, `sick` and `gone`."""
    monkeypatch.setattr(ENCODERS, "_items", {name: ENCODERS[name] for name in ENCODERS})
    made: dict[str, MeanColour] = {}

    def load(card, config, device):
        if card.name == "gone":
            raise SlidebagError("gone: the weights cannot be had", hint="ask for them")
        return made.setdefault(card.name, MeanColour(card, np.nan if card.name == "sick" else None))

    for name in ("mean-colour", "sick", "gone"):
        card = EncoderCard(name=name, dim=3, input_px=16, mpp=1.0, licence="none", source="tests")
        ENCODERS.register(name)(EncoderEntry(card, load))
    return made


def run(tiles: Path, out: Path, *names: str, **told):
    encoders = [EncoderConfig(encoder=name) for name in names or ("stain-stats",)]
    return probe(tiles, out, encoders, ProbeConfig(device="cpu", **{"folds": 3} | told))


def test_colour_that_tells_the_class_is_seen_and_written(tmp_path):
    found = run(draw(tmp_path / "tiles", "class"), tmp_path / "out", folds=5)
    told = values(found.figures)
    assert told["knn", "balanced_accuracy"] == told["linear", "auc"] == 1
    assert told["few_shot_10", "balanced_accuracy"] > 0.95
    assert told["neighbours", "same_class"] > 0.95
    assert ("few_shot_25", "balanced_accuracy") not in told
    assert found.warnings == ("no few-shot figure of 25 tiles a class: the rarest class has too few",)
    table, record, picture = found.files
    pd.testing.assert_frame_equal(pd.read_csv(table), found.figures, atol=1e-6)
    whole = json.loads(record.read_text())
    assert whole["format"] == "slidebag.probe"
    assert (whole["n_tiles"], whole["classes"]) == (36, {"benign": 18, "tumour": 18})
    assert (whole["n_groups"], whole["n_folds"]) == (6, 5)
    assert whole["batches"] == {"site 0": 12, "site 1": 12, "site 2": 12}
    assert whole["encoders"]["stain-stats"]["seen_px"] == SIDE_PX
    assert len(whole["figures"]) == len(found.figures)
    with Image.open(picture) as image:
        colours = np.asarray(image.convert("RGB")).reshape(-1, 3)
    assert {(0x00, 0x72, 0xB2), (255, 255, 255)} <= {tuple(c) for c in np.unique(colours, axis=0).tolist()}


def test_colour_of_the_site_alone_is_told_as_a_batch_effect(tmp_path):
    figures = run(draw(tmp_path / "tiles", "site", n_patients=9), tmp_path / "out", neighbours=5).figures
    told, chance = values(figures), values(figures, "chance")
    assert told["neighbours", "same_batch"] > 0.85 > 0.5 > chance["neighbours", "same_batch"]
    assert told["neighbours", "same_class"] == pytest.approx(chance["neighbours", "same_class"], abs=0.15)
    assert told["neighbours", "robustness"] < 0.1
    for name in ("knn", "linear"):
        assert values(figures, "low")[name, "auc"] < 0.5 < values(figures, "high")[name, "auc"]


def test_the_same_tiles_give_the_same_in_any_order_and_are_encoded_once(tmp_path, registered):
    table = draw(tmp_path / "tiles", "")
    first = run(table, tmp_path / "out", "mean-colour", mpp=1.0)
    assert registered["mean-colour"].n_seen == 36
    pd.read_csv(table).sample(frac=1, random_state=1).to_csv(table, index=False)
    again = run(table, tmp_path / "out", "mean-colour", mpp=1.0)
    assert registered["mean-colour"].n_seen == 36
    pd.testing.assert_frame_equal(first.figures, again.figures, check_exact=True)
    (kept,) = (tmp_path / "out/vectors").iterdir()
    kept.write_bytes(kept.read_bytes()[:200])
    other = run(table, tmp_path / "out", "mean-colour", mpp=1.0, seed=1)
    assert registered["mean-colour"].n_seen == 72
    assert values(other.figures) != values(first.figures)


def test_a_changed_picture_alone_is_encoded_again(tmp_path, registered):
    table = draw(tmp_path / "tiles", "class")
    run(table, tmp_path / "out", "mean-colour")
    Image.new("RGB", (SIDE_PX, SIDE_PX), (200, 150, 180)).save(tmp_path / "tiles/benign/p0-0.png")
    run(table, tmp_path / "out", "mean-colour")
    assert registered["mean-colour"].n_seen == 37


def test_what_was_encoded_before_a_stop_is_kept(tmp_path, registered):
    table = draw(tmp_path / "tiles", "class")
    encoder = registered["mean-colour"] = MeanColour(ENCODERS["mean-colour"].card)
    encoder.batch, plain = 10, encoder.encode

    def stopped(patches):
        if encoder.n_seen == 20:
            raise KeyboardInterrupt
        return plain(patches)

    encoder.encode = stopped
    with pytest.raises(KeyboardInterrupt):
        run(table, tmp_path / "out", "mean-colour")
    encoder.encode = plain
    run(table, tmp_path / "out", "mean-colour")
    assert encoder.n_seen == 36


def test_folders_are_classes_and_that_patients_are_unknown_is_told(tmp_path):
    draw(tmp_path, "class")
    known = load_tiles(TileFolder.open(tmp_path), ProbeConfig())
    assert known.warnings[0].startswith("each picture is its own group: tiles of one patient")
    assert known.told()["classes"] == {"benign": 18, "tumour": 18}
    assert (known.told()["n_groups"], known.told()["groups"]) == (36, "each picture its own")
    assert known.known.batches is None


def test_copies_do_not_flatter_unsaid(tmp_path):
    table = draw(tmp_path, "")
    for k in (0, 2):  # two tiles of patient 0 are patient 1's too
        (tmp_path / f"benign/p1-{k}.png").write_bytes((tmp_path / f"benign/p0-{k}.png").read_bytes())
    told = load_tiles(TileFolder.open(table), ProbeConfig()).warnings
    assert "4 pictures are copies of ones in another group, which flatters all figures" in told
    alone = load_tiles(TileFolder.open(tmp_path), ProbeConfig())
    assert alone.told()["n_groups"] == 34
    for learned, held in alone.folds:
        digests = np.array(alone.checked.digests)
        assert not set(digests[learned]) & set(digests[held])


def test_broken_pictures_are_left_out_and_named(tmp_path):
    table = draw(tmp_path / "tiles", "class")
    (tmp_path / "tiles/benign/p0-0.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with table.open("a") as file:
        file.write(
            "gone.png,tumour,p9,site 1\nbenign/p0-2.png,,p0,site 0\n".replace("benign/p0-2.png", "x.png")
        )
    found = run(table, tmp_path / "out")
    assert found.warnings[0].startswith("left out 2 broken pictures: benign/p0-0.png (")
    assert "left out 1 picture without a label" in found.warnings
    told = json.loads(found.files[1].read_text())
    assert list(told["broken"]) == ["benign/p0-0.png", "gone.png"]
    assert (told["n_tiles"], told["n_unlabelled"]) == (35, 1)


@pytest.mark.parametrize(
    ("mpp", "told"),
    [
        (2.0, ["mean-colour sees the pictures at 1.5 µm/px, it was trained at 1"]),
        (1 / 0.75, []),
        (None, ["mean-colour was trained at 1 µm/px; say by --mpp what the pictures have"]),
    ],
)
def test_how_an_encoder_sees_the_tiles_is_told(tmp_path, registered, mpp, told):
    known = load_tiles(TileFolder.open(draw(tmp_path, "class", side_px=12)), ProbeConfig())
    card = ENCODERS["mean-colour"].card
    side_px = seen_px(card, known.checked)
    assert side_px == 16
    enlarged = "mean-colour sees pictures of 12 px enlarged to 16 px"
    assert known.misfits("mean-colour", card, side_px, mpp) == [enlarged, *told]


def test_what_an_encoder_saw_is_in_the_record(tmp_path, registered):
    found = run(draw(tmp_path / "tiles", "class"), tmp_path / "out", "mean-colour", mpp=2.0)
    assert found.warnings[-1] == "mean-colour sees the pictures at 3 µm/px, it was trained at 1"
    told = json.loads(found.files[1].read_text())["encoders"]["mean-colour"]
    assert (told["seen_px"], told["seen_mpp"], told["trained_mpp"], told["n_encoded"]) == (16, 3.0, 1.0, 36)
    assert len(told["linear_C"]) == 3


def test_an_encoder_that_cannot_be_used_leaves_the_others(tmp_path, registered):
    table = draw(tmp_path / "tiles", "class")
    found = run(table, tmp_path / "out", "gone", "mean-colour", "sick")
    assert list(found.failed) == ["gone", "sick"]
    assert set(found.figures["encoder"]) == {"mean-colour"}
    assert "yields NaN or infinity" in json.loads(found.files[1].read_text())["failed"]["sick"]
    with pytest.raises(SlidebagError, match=r"cannot be had; ask for them; encoder sick yields NaN"):
        run(table, tmp_path / "out", "gone", "sick")


@pytest.mark.parametrize(
    ("keep", "why"),
    [
        (lambda rows: rows[rows["label"] == "benign"], "1 class of tiles, 2 or more are wanted"),
        (lambda rows: rows.assign(label=""), "0 classes of tiles, 2 or more are wanted; give a folder"),
        (lambda rows: rows.iloc[:13], "class 'benign' has 7 tiles, 10 or more are wanted"),
        (
            lambda rows: rows.assign(patient=np.where(rows["label"] == "benign", "p0", rows["patient"])),
            "class 'benign' is in 1 group, 3 or more are wanted; give tiles of more patients",
        ),
    ],
)
def test_too_few_are_told_with_how_many_are_wanted(tmp_path, keep, why):
    table = draw(tmp_path / "tiles", "class")
    keep(pd.read_csv(table)).to_csv(table, index=False)
    with pytest.raises(ConfigError, match=why):
        run(table, tmp_path / "out")


def test_what_does_not_fit_is_refused_before_anything_is_read(tmp_path):
    table = draw(tmp_path / "tiles", "class")
    with pytest.raises(ConfigError, match="lies in the folder of the tiles"):
        run(table.parent, table.parent / "out")
    with pytest.raises(ConfigError, match=r"stain-stats .* is named twice"):
        run(table, tmp_path / "out", "stain-stats", "stain-stats")
    with pytest.raises(ConfigError, match="leave out --stain and --token-side"):
        probe(table, tmp_path / "out", EncoderConfig(stain="macenko"))
    with pytest.raises(FormatError, match="cannot be read as CSV"):
        run(tmp_path / "nowhere", tmp_path / "out")
    for told in ({"mpp": -1}, {"folds": 1}, {"neighbours": 0}, {"seed": -1}):
        with pytest.raises(ConfigError, match=r"is -?[01]"):
            ProbeConfig(**told)
    assert not (tmp_path / "out").exists()


def test_the_command_prints_tables_and_ends_with_1_where_an_encoder_failed(tmp_path, registered):
    table, out = draw(tmp_path / "tiles", "class"), tmp_path / "out"
    (tmp_path / "tiles/benign/p0-0.png").write_bytes(b"")
    asked = ["probe", str(table), str(out), "--encoder", "stain-stats", "--device", "cpu"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.exception
    for word in (
        "balanced accuracy",
        "1 a class",
        "linear",
        "same batch",
        "robustness",
        "chance",
        "probe.png",
    ):
        assert word in done.stdout
    assert "left out 1 broken picture: benign/p0-0.png" in done.stderr
    assert CliRunner().invoke(app, [*asked, "--encoder", "gone"]).exit_code == 1
    shown = CliRunner().invoke(app, [*asked, "--folds", "3", "--print-config"])
    assert json.loads(shown.stdout)["folds"] == 3


@pytest.mark.data
def test_real_tumour_is_told_from_healthy_mucosa(tmp_path, data_dir):
    with zipfile.ZipFile(data_dir / "tiles/crc.zip") as archive:
        for label in ("H", "AC"):
            names = [name for name in archive.namelist() if name.startswith(f"crc/{label}/")]
            archive.extractall(tmp_path, sorted(name for name in names if not name.endswith("/"))[:20])
    found = run(tmp_path / "crc", tmp_path / "out")
    told = values(found.figures)
    assert told["linear", "auc"] > 0.8
    assert told["neighbours", "same_class"] > 0.5
