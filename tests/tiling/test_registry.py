"""Names, what they stand for, and modules that are imported no sooner than they are needed."""

import sys

import pytest

from tiling import ConfigError, Registry


@pytest.fixture
def colours(tmp_path, monkeypatch):
    """A registry that expects `green` from a module, which says so when it is imported."""
    monkeypatch.syspath_prepend(str(tmp_path))
    registry: Registry[str] = Registry("colour")
    registry.register("red")("a warm one")
    registry.expect("module_of_green", "green")
    text = (
        "import registry_of_colours\nregistry_of_colours.colours.register('green')(type('Green', (), {}))\n"
    )
    (tmp_path / "module_of_green.py").write_text(text)
    (tmp_path / "registry_of_colours.py").write_text("")
    __import__("registry_of_colours").colours = registry
    yield registry
    for name in ("module_of_green", "registry_of_colours"):
        sys.modules.pop(name, None)


def test_an_expected_item_is_there_but_imported_when_it_is_asked_for(colours):
    assert list(colours) == ["green", "red"]
    assert "green" in colours
    assert colours["red"] == "a warm one"
    assert "module_of_green" not in sys.modules
    assert colours["green"].__name__ == "Green"
    assert colours["green"] is colours["green"]


def test_a_deferred_item_is_made_once_when_it_is_asked_for(colours):
    made = []
    colours.defer("blue", lambda: made.append("blue") or "a cold one")
    assert list(colours) == ["blue", "green", "red"]
    assert "blue" in colours
    assert made == []
    assert colours["blue"] == colours["blue"] == "a cold one"
    assert made == ["blue"]


def test_a_name_is_given_once(colours):
    colours.defer("yellow", lambda: "another")
    for taken in ("red", "green", "yellow"):
        with pytest.raises(ValueError, match="already registered"):
            colours.register(taken)("another")
        with pytest.raises(ValueError, match="already registered"):
            colours.defer(taken, lambda: "another")


def test_an_unknown_name_is_told_with_the_known_ones(colours):
    with pytest.raises(ConfigError, match="unknown colour 'blue'; choose from green, red"):
        colours["blue"]
