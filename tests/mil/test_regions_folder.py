"""`tile --regions`: which slides they touch, and when grids are made again."""

import json

import pytest

from mil import Cohort, Run, tile
from tiling import ConfigError, GridConfig, OpenSlideSlide, TissueConfig, load_grid, open_slide


@pytest.fixture
def cohort(phantom_cohort):
    found = Cohort.from_folder(phantom_cohort / "slides")
    return Cohort(found.slides[:3])


def tiled(cohort, run, regions):
    outcome = tile(cohort, run, GridConfig(tile_px=112), TissueConfig(), regions=regions)
    return outcome, dict(outcome.statuses)


def draw(folder, slide, right_px):
    with open_slide(slide.path) as opened:
        height = opened.size_px[1]
    ring = [[0, 0], [right_px, 0], [right_px, height], [0, height], [0, 0]]
    feature = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": {}}
    path = folder / f"{slide.slide_id}.geojson"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(feature))


def test_regions_bound_the_tiles_of_their_slide_and_change_no_other(cohort, tmp_path):
    run, regions = Run.create(tmp_path / "run"), tmp_path / "regions"
    first, second, third = cohort.slides
    tiled(cohort, run, None)
    n_before = len(load_grid(run.grid_path(first.slide_id)))
    draw(regions, first, 600)
    _, statuses = tiled(cohort, run, regions)
    assert [statuses[s.slide_id] for s in (first, second, third)] == ["done", "kept", "kept"]
    grid = load_grid(run.grid_path(first.slide_id))
    assert 0 < len(grid) < n_before
    assert grid.coords[:, 0].max() < 600
    assert tiled(cohort, run, regions)[1][first.slide_id] == "kept"
    draw(regions, first, 800)
    assert tiled(cohort, run, regions)[1][first.slide_id] == "done"
    assert tiled(cohort, run, None)[1][first.slide_id] == "done"
    assert len(load_grid(run.grid_path(first.slide_id))) == n_before


def test_a_broken_file_fails_its_slide_and_the_batch_goes_on(cohort, tmp_path):
    first, second, third = cohort.slides
    draw(tmp_path / "regions", second, 600)
    (tmp_path / "regions" / f"{first.slide_id}.geojson").write_text("{")
    run = Run.create(tmp_path / "run")
    outcome, statuses = tiled(cohort, run, tmp_path / "regions")
    assert [statuses[s.slide_id] for s in (first, second, third)] == ["failed", "done", "done"]
    (failure,) = outcome.failures
    assert f"{first.slide_id}.geojson" in failure.error
    assert failure.hint


def test_regions_for_none_of_the_slides_are_refused(cohort, tmp_path):
    run = Run.create(tmp_path / "run")
    with pytest.raises(ConfigError, match="no such folder"):
        tiled(cohort, run, tmp_path / "nowhere")
    (tmp_path / "other.geojson").write_text("{}")
    with pytest.raises(ConfigError, match="no regions for any of the 3 slides"):
        tiled(cohort, run, tmp_path)


def test_regions_count_from_the_corner_that_qupath_shows(cohort, tmp_path, monkeypatch):
    run, regions, (first, *_) = Run.create(tmp_path / "run"), tmp_path / "regions", cohort.slides
    draw(regions, first, 700)
    tiled(cohort, run, regions)
    whole = load_grid(run.grid_path(first.slide_id)).coords
    monkeypatch.setattr(OpenSlideSlide, "shown_from_px", property(lambda _: (100, 0)))
    draw(regions, first, 600)  # the same place, seen from a corner 100 px further right
    ring = json.loads((regions / f"{first.slide_id}.geojson").read_text())
    ring["geometry"]["coordinates"][0] = [[x or -100, y] for x, y in ring["geometry"]["coordinates"][0]]
    (regions / f"{first.slide_id}.geojson").write_text(json.dumps(ring))
    tiled(cohort, run, regions)
    assert (load_grid(run.grid_path(first.slide_id)).coords == whole).all()
