"""What the viewer answers about a run: its tables, its slides and scores, its report, each in its place."""

import json
import os
import re
import shutil
import urllib.parse
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import simplejpeg
from viewed_run import HOSTILE, HOSTILE_LABEL, LIKELY, TILE_THRESHOLD, UNLIKELY
from viewer_client import KNOWN, ask, ask_json, copied, serving

from mil import Run, report
from mil.view import ViewServer
from mil.view.cohort_table import cohort_rows, key_of
from mil.view.routes import Routes
from mil.view.slide_data import SlideData
from tiling import FormatError, exact_corners, load_grid, open_slide, paint


@pytest.fixture
def run(viewed_run) -> Run:
    return viewed_run


@pytest.fixture
def server(viewer) -> ViewServer:
    return viewer


def test_the_cohort_is_told_with_what_went_wrong(server, run):
    told = ask_json(server, "/api/cohort")
    assert told["run"] == "run"
    rows = {row["slide_id"]: row for row in told["slides"]}
    assert list(rows) == run.slides()["slide_id"].tolist()
    assert rows["known"]["is_wrong"] is False
    assert rows["known"]["probability"] == pytest.approx({"normal": 0.02, "tumour": 0.98})
    assert rows["wrong"]["is_wrong"] is True
    assert rows["gone"]["is_wrong"] is None  # it has no label
    assert rows[HOSTILE]["label"] == HOSTILE_LABEL
    assert "unlike training" in rows[HOSTILE]["flags"]
    damaged = rows["damaged"]
    assert (damaged["status"], damaged["prediction"]) == ("failed", "")
    assert damaged["problems"][0]["step"] == "tile"
    assert damaged["problems"][0]["hint"]


def test_what_a_patient_is_called_is_compared_with_the_patients_label(tmp_path):
    told = {"slide_id": ["first", "second"], "path": "/nowhere.svs", "patient_id": "P1", "label": ["a", "b"],
            "mpp": "", "split": "", "n_tiles": "9", "status": "extracted", "message": ""}  # fmt: skip
    run = Run.create(tmp_path / "run")
    run.write_table("slides.csv", pd.DataFrame(told))
    row = {"patient_id": ["P1"], "slide_ids": "first|second", "label": "a;b", "prediction": "b;a"}
    row |= {"p(none)": "0.1", "p(a)": "0.9", "p(b)": "0.8", "threshold": "0.5;0.5", "tile_threshold": "0.5"}
    run.write_table("predictions.csv", pd.DataFrame(row))
    with serving(run) as server:
        rows = ask_json(server, "/api/cohort")["slides"]
    assert [row["label"] for row in rows] == ["a", "b"]
    assert [(row["truth"], row["is_wrong"], row["is_of_patient"]) for row in rows] == [
        ("a;b", False, True)
    ] * 2


@pytest.mark.parametrize("square", ["0/1/2", "1/1/1", "2/0/0", "0/8/6", "2/2/1", "3/1/0"])
def test_squares_show_the_slide_at_their_place(server, run, square):
    """Also those at the border, which are cut there."""
    halvings, column, row = map(int, square.split("/"))
    status, _, body = ask(server, f"{KNOWN}/squares/{square}")
    assert status == 200
    found = simplejpeg.decode_jpeg(body).astype(float)
    side, (width, height) = 256 * 2**halvings, (2100, 1603)
    size = [min(side, full - at * side) for full, at in ((width, column), (height, row))]
    with open_slide(run.cohort().slides[0].path) as slide:
        full = slide.read(column * side, row * side, 0, (size[0], size[1])).astype(float)
    step = 2**halvings
    assert found.shape[:2] == (-(-size[1] // step), -(-size[0] // step))
    whole = full[: size[1] // step * step, : size[0] // step * step]
    means = whole.reshape(size[1] // step, step, size[0] // step, step, 3).mean(axis=(1, 3))
    found = found[: means.shape[0], : means.shape[1]]
    assert np.abs(found - means).mean() < 4
    if means.std() > 10:  # not glass alone
        assert np.corrcoef(means.ravel(), found.ravel())[0, 1] > 0.98


def test_tiles_and_raster_are_those_of_the_run(server, run):
    told = ask_json(server, KNOWN)
    grid, scored = load_grid(run.grid_path("known")), told["scored"]
    assert told["tile_threshold"] == TILE_THRESHOLD
    assert scored["size_px"] == [2100, 1603]
    assert scored["classes"] == ["normal", "tumour"]
    n = scored["n_tiles"]
    body = ask(server, f"{KNOWN}/tiles")[2]
    corners = np.frombuffer(body[: 16 * n], "<f8").reshape(n, 2)
    probability = np.frombuffer(body[16 * n :], "<f4").reshape(n, 2)
    np.testing.assert_array_equal(corners, exact_corners(grid))
    assert scored["tile_px"] == pytest.approx(64 * 1.1)
    assert np.isnan(probability[0]).all()
    assert set(np.unique(probability[1:, 1])) == {np.float32(LIKELY), np.float32(UNLIKELY)}
    raster = scored["raster"]
    cells = np.frombuffer(ask(server, f"{KNOWN}/rasters/1")[2], "<f4").reshape(
        raster["height"], raster["width"]
    )
    assert raster["is_exact"]
    assert raster["cell_px"] == pytest.approx(scored["tile_px"])
    expected = paint(grid, probability[:, 1], px_level0=raster["cell_px"]).values
    assert expected.shape == (raster["height"], raster["width"])
    np.testing.assert_array_equal(cells, expected)
    assert np.isfinite(cells).sum() == n - 1


def test_regions_are_of_the_likeliest_class_where_all_positive_ones_together_are_likely(run):
    data = SlideData.load(run, "known")
    assert data.scores is not None
    draw = np.random.default_rng(0).dirichlet((1, 1, 1), len(data.grid)).astype(np.float32)
    scores = replace(data.scores, classes=("normal", "lobular", "ductal"), probability=draw)
    data = SlideData(data.grid, scores)
    together, hot = data.raster(3), [data.hot(n) for n in range(4)]
    np.testing.assert_array_equal(hot[3], together)
    assert np.isnan(hot[0]).all()
    is_scored = ~np.isnan(together)
    np.testing.assert_array_equal(~np.isnan(hot[1]), is_scored & (data.raster(1) >= data.raster(2)))
    np.testing.assert_array_equal(~np.isnan(hot[2]), is_scored & (data.raster(1) < data.raster(2)))
    np.testing.assert_allclose(np.nansum(hot[1:3], axis=0)[is_scored], together[is_scored])
    with pytest.raises(LookupError, match="no scores of class 4"):
        data.raster(4)


def test_tiles_that_lie_anyhow_are_told_one_by_one(server, run):
    key = key_of("wrong")
    scored = ask_json(server, f"/api/slides/{key}")["scored"]
    assert not scored["raster"]["is_exact"]
    assert scored["raster"]["cell_px"] <= scored["tile_px"] / 32 + 1e-9
    body = ask(server, f"/api/slides/{key}/tiles")[2]
    corners = np.frombuffer(body[: 16 * scored["n_tiles"]], "<f8").reshape(-1, 2)
    np.testing.assert_array_equal(corners, load_grid(run.grid_path("wrong")).coords)


def test_a_slide_that_is_gone_is_told_and_its_scores_are_still_there(server):
    key = key_of("gone")
    told = ask_json(server, f"/api/slides/{key}")
    assert told["picture"] is None
    assert "no such file" in told["problems"][0]["error"]
    assert told["scored"]["n_tiles"] > 0
    status, _, body = ask(server, f"/api/slides/{key}/squares/0/0/0")
    assert (status, json.loads(body)["hint"]) == (422, "check the path in the slide table")


def test_an_id_that_leads_out_of_the_run_opens_nothing(server, run, tmp_path):
    other = Run.create(tmp_path / "run")
    rows = run.slides()
    rows.loc[0, "slide_id"] = "../../viewed/run/tiles/known"
    other.write_table("slides.csv", rows)
    with serving(other) as hostile:
        told = ask_json(hostile, f"/api/slides/{key_of('../../viewed/run/tiles/known')}")
    assert told["scored"] is None
    assert "outside the run" in told["problems"][0]["error"]


def test_another_file_in_the_slides_place_gets_no_heatmap(server, run, tmp_path):
    other = Run.create(tmp_path / "run")
    rows = run.slides()
    rows.loc[rows.slide_id == "known", "path"] = rows.loc[rows.slide_id == "wrong", "path"].item()
    other.write_table("slides.csv", rows)
    for path in (run.grid_path("known"), run.scores_path("known")):
        target = other.root / path.relative_to(run.root)
        target.parent.mkdir(parents=True)
        target.write_bytes(path.read_bytes())
    with serving(other) as changed:
        told = ask_json(changed, KNOWN)
    assert told["scored"] is None
    assert "800 × 600 px, its tiles are of one of 2100 × 1603 px" in told["problems"][0]["error"]


def test_a_file_that_has_changed_since_it_was_tiled_is_told(run, tmp_path):
    other = copied(run, tmp_path)
    rows = other.slides()
    moved = shutil.copy2(rows.loc[rows.slide_id == "known", "path"].item(), tmp_path)
    rows.loc[rows.slide_id == "known", "path"] = moved
    other.write_table("slides.csv", rows)
    with serving(other) as server:
        assert ask_json(server, KNOWN)["problems"] == []  # a copy with all that is known of the file
    os.utime(moved, (0, 0))
    with serving(other) as server:
        told = ask_json(server, KNOWN)
    assert told["scored"]["n_tiles"]
    assert [p["error"] for p in told["problems"]] == ["the file has changed since it was tiled"]
    assert "check that it is the same slide" in told["problems"][0]["hint"]


@pytest.mark.parametrize("table", ["failures.csv", "predictions.csv", "qc.csv"])
@pytest.mark.parametrize("damage", [b"", b"a,b\n1,2\n", b"a\n1,2\n3,4,5\n", b"\xff\xfe\x00"])
def test_a_damaged_table_is_told_and_the_slides_are_still_there(run, tmp_path, table, damage):
    other = Run.create(tmp_path / "run")
    other.write_table("slides.csv", run.slides())
    (other.root / table).write_bytes(damage)
    routes = Routes(other)
    for path in ("/api/cohort", KNOWN):
        answer = routes.answer(path)
        told = json.loads(answer.body)
        assert (answer.status, len(told["slides"])) == (200, 5)
        assert told["problems"][0]["step"] == table
        assert table in told["problems"][0]["error"]
        assert told["problems"][0]["hint"]
    routes.close()


@pytest.fixture(scope="module")
def reported(viewed_run, tmp_path_factory) -> Run:
    run = copied(viewed_run, tmp_path_factory.mktemp("reported"))
    report(run)
    return run


def test_the_report_is_served_when_it_is_written_and_runs_nothing(server, reported):
    assert ask_json(server, "/api/cohort")["has_report"] is False
    assert ask(server, "/report/")[0] == 404
    (reported.root / "report" / "tables" / "outside.csv").symlink_to(reported.root / "slides.csv")
    (reported.root / "report" / "notes.txt").write_text("of no kind that is known")
    (reported.root / "report" / "tables" / "notes.csv").symlink_to(reported.root / "report" / "notes.txt")
    with serving(reported) as server:
        assert ask_json(server, "/api/cohort")["has_report"] is True
        status, headers, body = ask(server, "/report/")
        assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert headers["Content-Security-Policy"].startswith(
            "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
        )
        page = body.decode()
        links = set(re.findall(r'href="([^"#]+)"', page))
        in_viewer = {link for link in links if link.startswith("../slides/")}
        assert in_viewer == {f"../slides/{key_of('wrong')}"}  # the only mistake
        for link in in_viewer | {"tables/mistakes.csv", "figures/confusion.svg", "report.json", "../"}:
            assert link in links
            assert ask(server, urllib.parse.urljoin("/report/", link))[0] == 200, link
        assert ask(server, "/report/tables/notes.csv")[1]["Content-Type"] == "text/csv; charset=utf-8"
        for path in (
            "/report",
            "/report/index.html",
            "/report/tables/",
            "/report/tables/outside.csv",
            "/report/tables/none.csv",
            "/report/../slides.csv",
            "/report/tables/../../slides.csv",
        ):
            assert ask(server, path)[0] == 404, path


def test_a_report_that_lies_elsewhere_is_not_offered(reported, tmp_path):
    run = copied(reported, tmp_path / "run")
    (run.root / "report").rename(tmp_path / "elsewhere")
    (run.root / "report").symlink_to(tmp_path / "elsewhere")
    with serving(run) as server:
        assert ask_json(server, "/api/cohort")["has_report"] is False
        assert ask(server, "/report/")[0] == 404


def test_a_report_from_disk_names_the_viewer_and_links_to_nothing_that_is_not_there(reported):
    page = (reported.root / "report" / "index.html").read_text(encoding="utf-8")
    assert '<html lang="en">' in page  # by which the viewer knows it
    assert ":root:not(.in-viewer) .of-viewer, .in-viewer .of-disk { display: none; }" in page
    assert "<code>slidebag view run</code>" in page
    for link in re.findall(
        r'<a class="of-viewer"[^>]*|<span class="of-viewer">.*?</span>|<p class="of-viewer">.*?</p>', page
    ):
        page = page.replace(link, "")
    assert 'href="../' not in page


def test_a_table_of_slides_without_its_columns_is_told_before_anything_is_served(run, tmp_path):
    other = Run.create(tmp_path / "run")
    other.write_table("slides.csv", run.slides()[["slide_id", "label"]])
    with pytest.raises(
        FormatError, match=r"slides\.csv has no column path, .*columns are slide_id, label"
    ) as told:
        ViewServer(other)
    assert "slidebag tile" in told.value.hint
    other.write_table("slides.csv", run.slides())
    routes = Routes(other)
    other.write_table("slides.csv", run.slides()[["slide_id"]])
    assert routes.answer("/api/cohort").status == 422
    routes.close()


def test_a_slide_that_has_left_the_run_is_not_there(run, tmp_path):
    other = Run.create(tmp_path / "run")
    other.write_table("slides.csv", run.slides())
    routes = Routes(other)
    other.write_table("slides.csv", run.slides().tail(1))
    assert routes.answer(KNOWN).status == 404
    routes.close()


def test_each_flag_is_told_by_itself(run, tmp_path):
    other = Run.create(tmp_path / "run")
    other.write_table("slides.csv", run.slides())
    rows = run.read_table("predictions.csv").assign(flags="unlike_training few_tiles")
    other.write_table("predictions.csv", rows)
    assert cohort_rows(other, [])[0]["flags"] == ["unlike training", "few tiles"]


def test_a_run_that_goes_on_is_read_anew(run, tmp_path):
    other = Run.create(tmp_path / "run")
    other.write_table("slides.csv", run.slides().head(1))
    with serving(other) as server:
        assert len(ask_json(server, "/api/cohort")["slides"]) == 1
        other.write_table("slides.csv", run.slides())
        assert ask(server, f"/slides/{key_of('wrong')}")[0] == 200
        assert len(ask_json(server, "/api/cohort")["slides"]) == 5
