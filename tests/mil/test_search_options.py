from pathlib import Path

import pytest

from mil import ImageQuery, RegionQuery, TileQuery
from mil.search import QueryOptions
from tiling import ConfigError


def test_options_become_a_query():
    assert QueryOptions(slide="a", at="3,4").query() == TileQuery("a", 3, 4)
    assert QueryOptions(slide="a", region="1,2,30,40").query() == RegionQuery("a", (1, 2, 30, 40))
    assert QueryOptions(slide="a", region="b.geojson").query() == RegionQuery("a", Path("b.geojson"))
    picture = QueryOptions(image="p.png", image_mpp=0.5, weights="w.pth", device="cuda")
    assert picture.query() == ImageQuery(Path("p.png"), 0.5, "w.pth", "cuda")


def test_a_file_of_a_name_in_digits_is_a_file(tmp_path, monkeypatch):
    (tmp_path / "7").touch()
    monkeypatch.chdir(tmp_path)
    assert QueryOptions(slide="a", region="7").query() == RegionQuery("a", Path("7"))


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"slide": "a"},
        {"at": "3,4"},
        {"slide": "a", "at": "3,4", "region": "1,2,3,4"},
        {"slide": "a", "image": "p.png"},
        {"image": "p.png", "at": "3,4"},
    ],
)
def test_what_means_none_or_several_is_refused(given):
    with pytest.raises(ConfigError, match=r"not clear; give --slide ID with --at X,Y .* or --image FILE"):
        QueryOptions(**given).query()


@pytest.mark.parametrize("given", [{"at": "3"}, {"at": "3,x"}, {"at": "1.5,2"}, {"region": "1,2,3"}])
def test_numbers_that_are_none_are_told(given):
    with pytest.raises(ConfigError, match="in level-0 pixels, whole numbers"):
        QueryOptions(slide="a", **given).query()


@pytest.mark.parametrize("given", [{"weights": "w.pth"}, {"image_mpp": 0.5}])
def test_what_is_for_a_picture_is_refused_without_one(given):
    with pytest.raises(ConfigError, match="for --image"):
        QueryOptions(slide="a", at="3,4", **given).query()
