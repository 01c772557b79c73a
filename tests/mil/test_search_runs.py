"""The verb `search` on drawn slides whose tumour is known."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from features import EncoderConfig, load_features
from mil import (
    Cohort,
    ExtractConfig,
    ImageQuery,
    RegionQuery,
    Run,
    SearchConfig,
    TileQuery,
    TrainConfig,
    extract,
    open_index,
    search,
    tile,
    train,
)
from mil.cli import app
from tiling import ConfigError, FormatError, GridConfig, SlidebagError, TissueConfig, load_grid, open_slide

PX, ENCODER = 80, "stain-stats"
COLUMNS = ["rank", "slide_id", "row", "x", "y", "similarity", "patient_id", "label"]


@pytest.fixture(scope="module")
def extracted(phantom_cohort, tmp_path_factory) -> Run:
    run = Run.create(tmp_path_factory.mktemp("run"))
    cohort = Cohort.from_folder(phantom_cohort / "slides", phantom_cohort / "slides.csv")
    tile(cohort, run, GridConfig(tile_px=PX), TissueConfig())
    extract(run, EncoderConfig(encoder="stain-stats"), ExtractConfig())
    return run


@pytest.fixture
def copied(extracted, tmp_path) -> Run:
    shutil.copytree(extracted.root, tmp_path / "run")
    return Run(tmp_path / "run")


@pytest.fixture(scope="module")
def tumour(extracted, phantom_cohort) -> dict[str, np.ndarray]:
    """Share of each tile that is tumour, by slide."""
    shares = {}
    for slide in extracted.cohort().slides:
        mask = cv2.imread(str(phantom_cohort / "truth" / f"{slide.slide_id}.png"), cv2.IMREAD_GRAYSCALE) > 127
        coords = load_grid(extracted.grid_path(slide.slide_id)).coords // 8
        shares[slide.slide_id] = np.array(
            [mask[y : y + PX // 8, x : x + PX // 8].mean() for x, y in coords.tolist()]
        )
    return shares


@pytest.fixture(scope="module")
def in_tumour(extracted, tumour) -> TileQuery:
    """The middle of the tile that holds the most tumour."""
    slide_id = max(tumour, key=lambda s: tumour[s].max())
    x, y = load_grid(extracted.grid_path(slide_id)).coords[tumour[slide_id].argmax()].tolist()
    return TileQuery(slide_id, x + PX // 2, y + PX // 2)


def box_of(grid, rows) -> tuple[int, int, int, int]:
    low, high = grid.coords[rows].min(axis=0), grid.coords[rows].max(axis=0) + PX
    return (*low.tolist(), *(high - low).tolist())


def test_what_is_near_a_tumour_tile_is_tumour(extracted, tumour, in_tumour):
    hits = search(extracted, in_tumour, ENCODER, SearchConfig(exclude_slide=True)).hits
    share = np.concatenate(list(tumour.values()))
    is_tumour = [tumour[r["slide_id"]][r["row"]] > 0.25 for r in hits.to_dict("records")]
    assert (share > 0.25).mean() < 0.2
    assert np.mean(is_tumour) > 3 * (share > 0.25).mean()


def test_the_table_has_the_hits_in_order_and_the_query_is_none_of_them(extracted, in_tumour):
    found = search(extracted, in_tumour, ENCODER, SearchConfig(top=15))
    rows = pd.read_csv(found.table)
    assert rows.columns.tolist() == COLUMNS
    assert rows["rank"].tolist() == list(range(1, 16))
    assert rows.similarity.is_monotonic_decreasing
    assert not rows.duplicated(["slide_id", "row"]).any()
    own = load_grid(extracted.grid_path(in_tumour.slide_id)).coords
    off = np.abs(own + PX / 2 - (in_tumour.x, in_tumour.y)).max(axis=1)
    assert not ((rows.slide_id == in_tumour.slide_id) & (rows.row == off.argmin())).any()
    slides = extracted.slides().set_index("slide_id")
    for row in rows.itertuples():
        grid = load_grid(extracted.grid_path(row.slide_id))
        assert grid.coords[row.row].tolist() == [row.x, row.y]
        assert (row.patient_id, row.label) == tuple(slides.loc[row.slide_id, ["patient_id", "label"]])


def test_similarity_is_the_cosine_of_the_stored_features(extracted, in_tumour):
    found = search(extracted, in_tumour, ENCODER, SearchConfig(top=3))
    bags = {i: load_features(extracted.features_path(ENCODER, i)) for i in found.index.slide_ids}
    grid = load_grid(extracted.grid_path(in_tumour.slide_id))
    row = np.flatnonzero((grid.coords == (in_tumour.x - PX // 2, in_tumour.y - PX // 2)).all(axis=1))[0]
    query = bags[in_tumour.slide_id].features[row].astype(float)
    for hit in found.hits.to_dict("records"):
        other = bags[hit["slide_id"]].features[hit["row"]].astype(float)
        cosine = query @ other / np.linalg.norm(query) / np.linalg.norm(other)
        assert hit["similarity"] == pytest.approx(cosine, abs=1e-5)


def test_own_slide_and_own_patient_are_left_out_where_asked(extracted):
    slides = extracted.slides()
    twice = slides.patient_id[slides.patient_id.duplicated()].iloc[0]
    own = slides.slide_id[slides.patient_id == twice].tolist()
    x, y = load_grid(extracted.grid_path(own[0])).coords[0].tolist()
    query, most = TileQuery(own[0], x + 1, y + 1), 10_000
    plain, no_slide, no_patient = (
        search(extracted, query, ENCODER, SearchConfig(top=most, **excluded)).hits.slide_id
        for excluded in ({}, {"exclude_slide": True}, {"exclude_patient": True})
    )
    everyone = set(slides.slide_id)
    assert set(plain) == everyone
    assert set(no_slide) == everyone - {own[0]}
    assert set(no_patient) == everyone - set(own)
    n_tiles = slides.set_index("slide_id").n_tiles.astype(int)
    assert (len(plain), len(no_slide)) == (n_tiles.sum() - 1, n_tiles.sum() - n_tiles[own[0]])


@pytest.mark.parametrize("match", ["mean", "best"])
def test_a_region_is_the_mean_of_its_tiles_or_the_best_of_each(extracted, in_tumour, match):
    grid = load_grid(extracted.grid_path(in_tumour.slide_id))
    near = np.abs(grid.coords + PX / 2 - (in_tumour.x, in_tumour.y)).max(axis=1) < 1.2 * PX
    query = RegionQuery(in_tumour.slide_id, box_of(grid, near))
    found = search(extracted, query, ENCODER, SearchConfig(match=match, top=30))
    index = found.index
    own = index.positions_of(in_tumour.slide_id, np.flatnonzero(near))
    rows = index.vectors(np.arange(len(index)))
    if match == "mean":
        mean = rows[own].mean(axis=0)
        cosine = rows @ mean / np.linalg.norm(mean)
    else:
        cosine = (rows @ rows[own].T).max(axis=1)
    cosine[own] = -2
    assert np.allclose(found.hits.similarity, -np.sort(-cosine)[:30], atol=1e-5)
    assert not found.hits.duplicated(["slide_id", "row"]).any()


def test_a_drawn_region_means_the_tiles_whose_centres_it_holds(extracted, in_tumour, tmp_path):
    grid = load_grid(extracted.grid_path(in_tumour.slide_id))
    x, y, width, height = box = box_of(grid, slice(0, 12))
    ring = [[x, y], [x + width, y], [x + width, y + height], [x, y + height], [x, y]]
    drawn = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": {}}
    path = tmp_path / "gland.geojson"
    path.write_text(json.dumps(drawn))
    by_file, by_box = (
        search(extracted, RegionQuery(in_tumour.slide_id, region), ENCODER) for region in (path, box)
    )
    pd.testing.assert_frame_equal(by_file.hits, by_box.hits)
    assert by_file.table.name == "gland.csv"


def test_a_picture_finds_the_tile_that_it_is_of(extracted, in_tumour, tmp_path):
    grid = load_grid(extracted.grid_path(in_tumour.slide_id))
    slide = next(s for s in extracted.cohort().slides if s.slide_id == in_tumour.slide_id)
    x, y = in_tumour.x - PX // 2, in_tumour.y - PX // 2
    with open_slide(slide.path, mpp=grid.mpp) as opened:
        pixels = opened.read(x, y, 0, (PX, PX))
        around = opened.read(x - PX // 2, y - PX // 2, 0, (2 * PX, 2 * PX))
    Image.fromarray(pixels).save(tmp_path / "patch.png")
    first = search(extracted, ImageQuery(tmp_path / "patch.png"), ENCODER).hits.iloc[0]
    assert (first.slide_id, first.x, first.y) == (in_tumour.slide_id, x, y)
    assert first.similarity > 0.9999
    fine = cv2.resize(around, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    Image.fromarray(fine).save(tmp_path / "around.png")
    first = search(extracted, ImageQuery(tmp_path / "around.png", mpp=0.25), ENCODER).hits.iloc[0]
    assert (first.slide_id, first.x, first.y) == (in_tumour.slide_id, x, y)


def test_slides_of_one_stain_are_not_mixed_with_others_nor_asked_by_a_picture(copied, tmp_path):
    one = copied.cohort().slides[0].slide_id
    path = copied.features_path(ENCODER, one)
    shutil.copy2(path, tmp_path / "plain.h5")
    extract(copied, EncoderConfig(encoder="stain-stats", stain="reinhard"), ExtractConfig())
    Image.fromarray(np.full((PX, PX, 3), 200, np.uint8)).save(tmp_path / "patch.png")
    with pytest.raises(ConfigError, match=r"brought to one stain.*extract without --stain"):
        search(copied, ImageQuery(tmp_path / "patch.png"), ENCODER)
    shutil.copy2(tmp_path / "plain.h5", path)  # as where extraction was stopped half way
    with pytest.raises(SlidebagError, match=r"of other weights, precision or stain"):
        search(copied, ImageQuery(tmp_path / "patch.png"), ENCODER)
    with pytest.raises(SlidebagError, match=r"of other weights, precision or stain"):
        train(copied, ENCODER, TrainConfig(learner="mix", folds=3))


def test_the_index_is_kept_and_follows_the_bags(copied, in_tumour):
    search(copied, in_tumour, ENCODER)
    told = copied.search_folder(ENCODER) / "index.json"
    before = told.stat().st_mtime_ns
    search(copied, in_tumour, ENCODER, SearchConfig(top=3, match="best"))
    assert told.stat().st_mtime_ns == before
    other = next(i for i in copied.slides().slide_id if i != in_tumour.slide_id)
    with h5py.File(copied.features_path(ENCODER, other), "r+") as file:
        file["unreadable"][:5] = True
        file.attrs["n_unreadable"], file.attrs["fingerprint"] = 5, "other"
    n_before = json.loads(told.read_text())["n_tiles"]
    index = open_index(copied, ENCODER)
    assert len(index) == n_before - 5
    assert index.tiles[index.of_slides({other}), 1].min() == 5


def test_the_sheet_shows_the_query_first_and_then_the_hits(extracted, in_tumour):
    found = search(extracted, in_tumour, ENCODER, SearchConfig(top=7))
    with Image.open(found.picture) as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
    query = (pixels == (0, 114, 178)).all(axis=2)
    rows, columns = np.nonzero(query)
    assert columns.max() < pixels.shape[1] / 4
    assert rows.max() < pixels.shape[0] / 1.5
    assert not list(found.picture.parent.glob("*.partial"))


def test_a_slide_that_is_gone_costs_its_pictures_alone(copied, in_tumour, tmp_path):
    rows = copied.slides()
    rows["path"] = [str(tmp_path / Path(p).name) for p in rows.path]
    copied.write_table("slides.csv", rows)
    found = search(copied, in_tumour, ENCODER)
    assert len(found.hits) == 20
    assert found.picture.is_file()


def test_what_cannot_be_asked_is_told_with_a_way_out(copied, in_tumour, tmp_path):
    slide_id = in_tumour.slide_id
    wrong = tmp_path / "wrong.png"
    Image.new("RGB", (PX + 1, PX)).save(wrong)
    (tmp_path / "torn.png").write_bytes(wrong.read_bytes()[:20])
    corner = load_grid(copied.grid_path(slide_id)).size_level0_px
    cases = [
        (TileQuery("nobody", 1, 1), "slide 'nobody' has no features"),
        (TileQuery(slide_id, 1, 1), "no tile holds the point 1,1; the nearest tile is at"),
        (RegionQuery(slide_id, (0, 0, 5, 5)), "no tile's centre lies in the region"),
        (RegionQuery(slide_id, tmp_path / "gone.geojson"), "no such file"),
        (ImageQuery(wrong), f"{PX + 1} × {PX} px, the run's patches are {PX} × {PX}.*--image-mpp"),
        (ImageQuery(wrong, mpp=0.25), "40 µm or more"),
        (ImageQuery(wrong, mpp=1), "no coarser than 0.5"),
        (ImageQuery(wrong, mpp=0), "image_mpp is 0"),
        (ImageQuery(tmp_path / "torn.png"), "cannot be read"),
    ]
    assert corner > (5, 5)
    for query, told in cases:
        with pytest.raises(SlidebagError, match=told):
            search(copied, query, ENCODER)
    with pytest.raises(FormatError, match=r"no slide has features of 'dino-vits16'.*slidebag extract"):
        search(copied, in_tumour, "dino-vits16")
    Image.new("RGB", (PX, PX)).save(wrong)
    with pytest.raises(ConfigError, match="device 'warp' is not there"):
        search(copied, ImageQuery(wrong, device="warp"), ENCODER)
    with pytest.raises(ConfigError, match="is of no slide"):
        search(copied, ImageQuery(wrong), ENCODER, SearchConfig(exclude_slide=True))
    for told in ({"top": 0}, {"match": "worst"}):
        with pytest.raises(ConfigError, match=next(iter(told))):
            SearchConfig(**told)


def test_features_of_other_weights_are_told(copied, tmp_path):
    for path in (copied.root / "features" / ENCODER).glob("*.h5"):
        with h5py.File(path, "r+") as file:
            file.attrs["encoder_fingerprint"] = file.attrs["fingerprint"] = "others"
    Image.new("RGB", (PX, PX)).save(tmp_path / "patch.png")
    with pytest.raises(ConfigError, match=r"the run's features are of others; .*--weights"):
        search(copied, ImageQuery(tmp_path / "patch.png"), ENCODER)


def test_tiles_cut_anew_are_told(copied, phantom_cohort, in_tumour):
    open_index(copied, ENCODER)
    tile(Cohort.from_folder(phantom_cohort / "slides"), copied, GridConfig(tile_px=64), TissueConfig())
    with pytest.raises(FormatError, match="tiled anew"):
        search(copied, in_tumour, ENCODER)


def test_stored_patches_are_shown_where_there_are_some(phantom_cohort, tmp_path):
    run = Run.create(tmp_path / "run")
    cohort = Cohort.from_folder(phantom_cohort / "slides")
    tile(replace(cohort, slides=cohort.slides[:1]), run, GridConfig(tile_px=PX, max_tiles=6), TissueConfig())
    extract(run, EncoderConfig(encoder="stain-stats"), ExtractConfig(save_patches=True))
    rows = run.slides()
    rows["path"] = str(tmp_path / "gone.svs")
    run.write_table("slides.csv", rows)
    slide_id = rows.slide_id[0]
    x, y = load_grid(run.grid_path(slide_id)).coords[0].tolist()
    found = search(run, TileQuery(slide_id, x, y), ENCODER)
    assert len(found.hits) == 5
    with Image.open(found.picture) as sheet:
        pixels = np.asarray(sheet.convert("RGB")).reshape(-1, 3)
    assert (pixels == (190, 190, 194)).all(axis=1).sum() < 50  # no grey card for want of a picture


def test_the_command_prints_the_hits_and_where_they_are(extracted, in_tumour):
    place = f"{in_tumour.x},{in_tumour.y}"
    arguments = ["search", str(extracted.root), "--slide", in_tumour.slide_id, "--at", place, "--top", "4"]
    arguments += ["--encoder", ENCODER]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.exception
    assert "4 nearest tiles" in done.output
    assert "all compared" in done.output
    assert f"{in_tumour.slide_id}/{place.replace(',', '-')}.png" in done.output
