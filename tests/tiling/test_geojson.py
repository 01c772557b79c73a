import json
import uuid

import numpy as np
import pytest

from tiling import GridConfig, TileGrid
from tiling.geojson import geojson_fingerprint, write_geojson

HOSTILE = 'a/"quoted"\\ {} %s \n\u202e žluť 肺 "fingerprint": "no" \udcff'
TISSUE = {
    "type": "MultiPolygon",
    "coordinates": [[[[10, 10], [900, 10], [900, 700], [10, 10]]]],
}


def make_grid(coords, *, size_px=(1000, 800), mpp=0.2628, slide_id="slide", tissue=None):
    coords = np.asarray(coords, dtype=np.int64).reshape(-1, 2)
    side = 100 * 0.5 / mpp
    return TileGrid(
        slide_id=slide_id,
        slide_path="slide.svs",
        slide_fingerprint="0",
        coords=coords,
        tissue_fraction=np.ones(len(coords), np.float32),
        mpp=mpp,
        mpp_source="test",
        size_level0_px=size_px,
        config=GridConfig(tile_px=100, tile_mpp=0.5),
        level=0,
        read_px=round(side),
        tile_px_level0=round(side),
        tissue_polygons=tissue or {"type": "MultiPolygon", "coordinates": []},
    )


def written(path, grid, probability, names=("normal", "tumour"), **options):
    write_geojson(path, grid, np.asarray(probability), names, fingerprint="f00", **options)
    return json.loads(path.read_text(encoding="utf-8"))


def tiles_of(collection):
    return [f for f in collection["features"] if f["properties"]["objectType"] == "tile"]


def area(ring):
    x, y = np.array(ring).T
    return 0.5 * np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])


def test_each_tile_is_its_exact_square_with_its_probabilities(tmp_path):
    side = 100 * 0.5 / 0.2628
    corners = np.rint(np.array([(0, 0), (1, 0), (3, 2)]) * side)
    probability = np.array([[0.9, 0.1], [0.25, 0.75], [0.5, 0.5]], np.float32)
    grid = make_grid(corners)
    tiles = tiles_of(written(tmp_path / "t.geojson", grid, probability))
    assert len(tiles) == len(grid)
    for tile, (x, y), row in zip(tiles, grid.coords, probability, strict=True):
        (ring,) = tile["geometry"]["coordinates"]
        assert tile["type"] == "Feature"
        assert tile["geometry"]["type"] == "Polygon"
        assert ring[0] == ring[-1] == [x, y]
        assert len(ring) == 5
        np.testing.assert_allclose(ring[2], (x + side, y + side), atol=1e-6)
        assert area(ring) == pytest.approx(side**2, rel=1e-7)
        assert tile["properties"]["measurements"] == {
            "p(normal)": pytest.approx(row[0], rel=1e-5),
            "p(tumour)": pytest.approx(row[1], rel=1e-5),
        }
        uuid.UUID(tile["id"])


def test_a_tile_over_the_border_is_cut_at_it(tmp_path):
    grid = make_grid([(900, 700)])
    (tile,) = tiles_of(written(tmp_path / "t.geojson", grid, [[0.4, 0.6]]))
    assert tile["geometry"]["coordinates"][0] == [
        [900, 700],
        [1000, 700],
        [1000, 800],
        [900, 800],
        [900, 700],
    ]


def test_class_is_the_likeliest_or_by_threshold(tmp_path):
    probability = [[0.45, 0.5, 0.05], [0.6, 0.1, 0.3], [0.72, 0.14, 0.14]]
    grid = make_grid([(0, 0), (200, 0), (400, 0)])
    names = ("normal", "in situ", "invasive")

    def classes(**options):
        collection = written(tmp_path / "t.geojson", grid, probability, names, **options)
        return [tile["properties"]["classification"]["name"] for tile in tiles_of(collection)]

    assert classes() == ["in situ", "normal", "normal"]
    assert classes(threshold=0.3) == ["in situ", "invasive", "normal"]
    # the threshold is of all positive classes together, as it was chosen
    assert classes(threshold=0.25) == ["in situ", "invasive", "in situ"]


def test_classes_differ_in_colour(tmp_path):
    n_classes = 5
    grid = make_grid([(200 * i, 0) for i in range(n_classes)])
    names = [f"class {i}" for i in range(n_classes)]
    tiles = tiles_of(written(tmp_path / "t.geojson", grid, np.eye(n_classes), names))
    colours = {tuple(tile["properties"]["classification"]["color"]) for tile in tiles}
    assert len(colours) == n_classes
    assert all(0 <= part <= 255 for colour in colours for part in colour)


def test_unread_tiles_are_left_out_and_ids_stay(tmp_path):
    grid = make_grid([(0, 0), (200, 0), (400, 0)])
    all_read = tiles_of(written(tmp_path / "a.geojson", grid, np.full((3, 2), 0.5)))
    part = np.array([[0.5, 0.5], [np.nan, np.nan], [0.1, 0.9]])
    some_read = tiles_of(written(tmp_path / "b.geojson", grid, part))
    assert [tile["id"] for tile in some_read] == [all_read[0]["id"], all_read[2]["id"]]
    assert len({tile["id"] for tile in all_read}) == 3
    other = tiles_of(written(tmp_path / "c.geojson", make_grid(grid.coords, slide_id="b"), part))
    assert not {tile["id"] for tile in other} & {tile["id"] for tile in all_read}


def test_tissue_is_an_annotation(tmp_path):
    grid = make_grid([(0, 0)], tissue=TISSUE)
    first, *tiles = written(tmp_path / "t.geojson", grid, [[0.4, 0.6]])["features"]
    assert first["geometry"] == TISSUE
    assert first["properties"]["objectType"] == "annotation"
    assert first["properties"]["classification"]["name"] == "Tissue"
    assert len(tiles) == 1


def test_places_are_counted_from_the_corner_that_is_shown(tmp_path):
    grid = make_grid([(300, 200), (900, 700)], tissue=TISSUE)
    probability = np.full((2, 2), 0.5)
    whole = written(tmp_path / "a.geojson", grid, probability)["features"]
    shown = written(tmp_path / "b.geojson", grid, probability, shown_from_px=(250, 120))["features"]
    assert len(shown) == len(whole) == 3
    for one, other in zip(whole, shown, strict=True):
        for ring, moved in zip(rings_of(one), rings_of(other), strict=True):
            np.testing.assert_allclose(np.array(ring) - (250, 120), moved)
    assert rings_of(shown[2])[0][2] == [750, 680]  # still cut at the slide's border


def rings_of(feature):
    told = feature["geometry"]
    polygons = [told["coordinates"]] if told["type"] == "Polygon" else told["coordinates"]
    return [ring for polygon in polygons for ring in polygon]


def test_no_tiles_make_a_valid_empty_collection(tmp_path):
    collection = written(tmp_path / "t.geojson", make_grid([]), np.zeros((0, 2)))
    assert collection["type"] == "FeatureCollection"
    assert collection["features"] == []


def test_hostile_names_come_back_as_they_were(tmp_path):
    path = tmp_path / "t.geojson"
    grid = make_grid([(0, 0)], slide_id=HOSTILE)
    collection = written(path, grid, [[0.4, 0.6]], (HOSTILE, "b%d{0}"))
    assert collection["slide_id"] == HOSTILE
    assert set(tiles_of(collection)[0]["properties"]["measurements"]) == {f"p({HOSTILE})", "p(b%d{0})"}
    assert geojson_fingerprint(path) == "f00"


def test_fingerprint_is_read_from_the_head_alone(tmp_path):
    path = tmp_path / "t.geojson"
    collection = written(path, make_grid([(0, 0)] * 10), np.full((10, 2), 0.5))
    assert collection["fingerprint"] == geojson_fingerprint(path) == "f00"
    path.write_bytes(path.read_bytes()[:200])
    assert geojson_fingerprint(path) == "f00"


@pytest.mark.parametrize(
    "content", [b"", b"\xff\x00", b'{"type": "FeatureCollection", "features": []}', b'{"fingerprint": "x"}']
)
def test_files_of_others_have_no_fingerprint(tmp_path, content):
    path = tmp_path / "t.geojson"
    assert geojson_fingerprint(path) is None
    path.write_bytes(content)
    assert geojson_fingerprint(path) is None


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "t.geojson"
    path.write_text("old")

    def fail(*_args, **_options):
        raise OSError("disk full")

    monkeypatch.setattr("tiling.geojson.json.dumps", fail)
    with pytest.raises(OSError, match="disk full"):
        write_geojson(path, make_grid([(0, 0)]), np.full((1, 2), 0.5), ["a", "b"], fingerprint="f")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("probability", [np.zeros((2, 2)), np.zeros((1, 3)), np.zeros(1), [[np.inf, 0]]])
def test_what_does_not_fit_the_grid_is_refused(tmp_path, probability):
    path = tmp_path / "t.geojson"
    with pytest.raises(ValueError, match="slide: probability"):
        write_geojson(path, make_grid([(0, 0)]), np.asarray(probability), ["a", "b"], fingerprint="f")
    assert not path.exists()
