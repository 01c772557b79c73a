"""Regions against shapely, which decides the same question by other means."""

import json
import struct
import zlib
from contextlib import suppress

import cv2
import numpy as np
import pytest
import shapely
from shapely.geometry import Polygon, box, mapping
from shapely.ops import unary_union

from tiling import (
    ConfigError,
    FormatError,
    GridConfig,
    TissueConfig,
    TissueMask,
    find_regions,
    grid_fingerprint,
    keep_regions,
    load_grid,
    save_grid,
    tile_slide,
)

SIZE_PX, SHAPE = (1000, 700), (70, 100)  # a mask pixel is 10 × 10 level-0 pixels


@pytest.fixture
def tissue():
    """Tissue everywhere."""
    return TissueMask(np.ones(SHAPE, bool), np.zeros((*SHAPE, 3), np.uint8), SIZE_PX)


def feature(geometry, name=None, **properties):
    if name is not None:
        properties["classification"] = {"name": name, "color": [200, 0, 0]}
    told = geometry if isinstance(geometry, dict) else mapping(geometry)
    return {
        "type": "Feature", "id": "0b5f", "geometry": json.loads(json.dumps(told)),
        "properties": {"objectType": "annotation", **properties},
    }  # fmt: skip


def written(folder, *features, collection=True, slide_id="a"):
    path = folder / f"{slide_id}.geojson"
    path.parent.mkdir(parents=True, exist_ok=True)
    told = {"type": "FeatureCollection", "features": features} if collection else features
    path.write_text(json.dumps(told), encoding="utf-8")
    return path


def kept(folder, tissue, slide_id="a"):
    return keep_regions(tissue, find_regions(folder, slide_id)).mask


def truth(shape):
    """Which mask pixels have their centre in a shape, as shapely sees it."""
    xs, ys = np.meshgrid(np.arange(100) * 10 + 5.0, np.arange(70) * 10 + 5.0)
    return shapely.contains_xy(shape, xs, ys)


STAR = Polygon([(101.3, 52), (480, 333.3), (905.5, 80), (650.2, 402), (880, 644), (401, 433), (66, 610)])
RING = Polygon(box(120.2, 110.7, 640, 480).exterior, [box(203, 171, 444.4, 402.5).exterior])


TWO = shapely.MultiPolygon([RING, box(700, 2, 900, 99)])


@pytest.mark.parametrize("shape", [STAR, RING, box(-500, -500, 333, 2000), TWO])
def test_only_tissue_inside_counts(tmp_path, tissue, shape):
    written(tmp_path, feature(shape))
    np.testing.assert_array_equal(kept(tmp_path, tissue), truth(shape))


def test_random_overlapping_polygons_are_their_union(tmp_path, tissue):
    rng = np.random.default_rng(5)
    shapes = [Polygon(rng.uniform(1, 690, (3, 2))) for _ in range(40)]
    written(tmp_path, *map(feature, shapes))
    np.testing.assert_array_equal(kept(tmp_path, tissue), truth(unary_union(shapes)))


@pytest.mark.parametrize("name", ["Ignore*", "ignore", "EXCLUDE", "Excluded", "Artifact", "artefact: fold"])
def test_ignored_classes_exclude_and_the_others_include(tmp_path, tissue, name):
    written(tmp_path, feature(box(0, 0, 500, 700), "Tumor"), feature(STAR, name), feature(RING))
    included = unary_union([box(0, 0, 500, 700), RING])
    np.testing.assert_array_equal(kept(tmp_path, tissue), truth(included) & ~truth(STAR))


def test_exclusion_alone_leaves_the_rest(tmp_path, tissue):
    written(tmp_path, feature(RING, "Ignore*"))
    np.testing.assert_array_equal(kept(tmp_path, tissue), ~truth(RING))


def test_no_tissue_appears_where_there_was_none(tmp_path, tissue):
    written(tmp_path, feature(STAR))
    half = TissueMask(tissue.mask.copy(), tissue.thumbnail, SIZE_PX)
    half.mask[:, 50:] = False
    np.testing.assert_array_equal(kept(tmp_path, half), truth(STAR) & half.mask)
    assert half.mask[:, :50].all()  # the given mask stays as it is


def test_lists_single_features_points_and_collections_are_understood(tmp_path, tissue):
    point = feature({"type": "Point", "coordinates": [3, 4]})
    written(tmp_path, feature(STAR), point, collection=False)
    np.testing.assert_array_equal(kept(tmp_path, tissue), truth(STAR))
    (tmp_path / "a.geojson").write_text(json.dumps(feature(RING)))
    np.testing.assert_array_equal(kept(tmp_path, tissue), truth(RING))
    geometries = [mapping(RING), {"type": "Point", "coordinates": [1, 2]}, mapping(box(700, 2, 900, 99))]
    written(tmp_path, feature({"type": "GeometryCollection", "geometries": geometries}))
    np.testing.assert_array_equal(kept(tmp_path, tissue), truth(unary_union([RING, box(700, 2, 900, 99)])))


def test_what_a_machine_found_is_no_region(tmp_path, tissue):
    written(tmp_path, feature(RING), feature(STAR, objectType="cell"), feature(STAR, objectType="detection"))
    np.testing.assert_array_equal(kept(tmp_path, tissue), truth(RING))


def test_derived_classes_and_plain_names_are_understood(tmp_path, tissue):
    derived = feature(RING, classification={"names": ["Artifact", "Pen"]})
    written(tmp_path, derived, feature(box(0, 0, 90, 90), classification="Ignore*"))
    np.testing.assert_array_equal(kept(tmp_path, tissue), ~truth(RING) & ~truth(box(0, 0, 90, 90)))


@pytest.mark.parametrize("scale", [0.5, 1, 4])
def test_a_png_includes_and_another_excludes(tmp_path, tissue, scale):
    drawn = np.zeros((round(70 * scale), round(100 * scale)), np.uint8)
    drawn[: round(40 * scale), : round(60 * scale)] = 128
    drawn[round(40 * scale) :, : round(60 * scale)] = 127
    (tmp_path / "ž 肺.png").write_bytes(cv2.imencode(".png", drawn)[1].tobytes())
    expected = truth(box(0, 0, 600, 400))
    np.testing.assert_array_equal(kept(tmp_path, tissue, "ž 肺"), expected)
    written(tmp_path, feature(box(0, 0, 1000, 700)), slide_id="b")
    (tmp_path / "ž 肺.png").rename(tmp_path / "b.exclude.png")
    np.testing.assert_array_equal(kept(tmp_path, tissue, "b"), ~expected)


def test_a_slide_without_a_file_has_no_regions(tmp_path):
    written(tmp_path, feature(STAR), slide_id="ward/one")
    assert find_regions(tmp_path, "one") is None
    assert "one.geojson" in repr(find_regions(tmp_path, "ward/one"))
    with pytest.raises(ConfigError, match="no such folder"):
        find_regions(tmp_path / "nowhere", "one")


BROKEN = [
    (b"{", "not readable as GeoJSON"),
    (b"\xff\xfe\x00", "not readable as GeoJSON"),
    (b"3", "holds 'int'"),
    (b'{"type": "Topology"}', "holds 'Topology'"),
    (b'{"type": "FeatureCollection", "features": []}', "holds no polygon"),
    (json.dumps([feature({"type": "Circle"})]).encode(), "feature 1: geometry is 'Circle' of no parts"),
    (json.dumps([feature({"type": "Polygon", "coordinates": [[[1, 2], [3, 4]]]})]).encode(), "three or more"),
    (json.dumps([feature({"type": "Polygon", "coordinates": [["x"]]})]).encode(), "three or more"),
    (json.dumps([feature({"type": "Polygon", "coordinates": [1, 2]})]).encode(), "three or more"),
    (json.dumps([feature({"type": "Polygon", "coordinates": []})]).encode(), "three or more"),
    (json.dumps([feature(STAR), feature(box(1000, 0, 1200, 90))]).encode(), r"feature 2: .*outside.*1000 ×"),
]


@pytest.mark.parametrize(("content", "told"), BROKEN)
def test_a_broken_geojson_is_an_error_that_names_file_and_way_out(tmp_path, tissue, content, told):
    (tmp_path / "a.geojson").write_bytes(content)
    with pytest.raises(FormatError, match=told) as caught:
        kept(tmp_path, tissue)
    assert "a.geojson" in str(caught.value)
    assert caught.value.hint
    assert "\n" not in str(caught.value)


def places(told, way=()):
    """Every place in a JSON value, as the keys that lead there."""
    for key in told if isinstance(told, dict) else range(len(told)) if isinstance(told, list) else ():
        yield (*way, key)
        yield from places(told[key], (*way, key))


@pytest.mark.parametrize("wrong", [None, 3, "x", [], {}, [[]], [{}], True, 1e999, -1])
def test_whatever_is_wrong_wherever_it_is_told_or_passed_over(tmp_path, tissue, wrong):
    geometries = [mapping(RING), mapping(TWO), {"type": "Point", "coordinates": [1, 2]}]
    parts = [*geometries, {"type": "GeometryCollection", "geometries": geometries}]
    whole = {"type": "FeatureCollection", "features": [feature(part, "Ignore*") for part in parts]}
    for *way, last in places(whole):
        told = json.loads(json.dumps(whole))
        inner = told
        for key in way:
            inner = inner[key]
        inner[last] = wrong
        (tmp_path / "a.geojson").write_text(json.dumps(told))
        with suppress(FormatError):  # any other error would be ours
            assert kept(tmp_path, tissue).shape == SHAPE


def large_png(width, height):
    """A PNG that states such a size and holds next to nothing."""
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(9999))), (b"IEND", b""))
    whole = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(whole)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "not a readable PNG"),
        (b"no png", "not a readable PNG"),
        (cv2.imencode(".png", np.zeros((100, 100), np.uint8))[1].tobytes(), r"100 × 100 px.*1000 × 700"),
        (
            cv2.imencode(".png", np.eye(70, 100, dtype=np.uint8))[1].tobytes(),
            "brightest pixel is 1.*255 inside",
        ),
        (large_png(50_000, 35_000), "more pixels than can be read.*coarser"),
    ],
)
def test_a_broken_png_is_an_error_too(tmp_path, tissue, content, told):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(FormatError, match=told):
        kept(tmp_path, tissue)


def test_the_grids_fingerprint_follows_the_regions(tmp_path, tissue, fake_slide):
    slide = fake_slide(size_px=SIZE_PX)
    told = [grid_fingerprint(slide, GridConfig(), TissueConfig())]
    for shape in (STAR, RING):
        written(tmp_path, feature(shape))
        regions = find_regions(tmp_path, "a")
        told.append(grid_fingerprint(slide, GridConfig(), TissueConfig(), origin=regions.fingerprint))
    assert len(set(told)) == 3
    cut = tile_slide(slide, keep_regions(tissue, regions), GridConfig(tile_px=20), origin=regions.fingerprint)
    save_grid(cut, tmp_path / "a.h5")
    assert load_grid(tmp_path / "a.h5").fingerprint == cut.fingerprint
    same = grid_fingerprint(slide, cut.config, cut.tissue_config, origin=regions.fingerprint)
    assert cut.fingerprint == same
