"""The index of tiles on bags of drawn vectors, whose nearest a plain product of matrices tells."""

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from features import IndexConfig, TileIndex
from features.search_bags import load_heads, load_units, sample_units, unit
from tiling import ConfigError, FormatError, SlidebagError, write_header

DIM = 16
LISTS = IndexConfig(exact_up_to=100)


def write_bag(path: Path, features: np.ndarray, *, encoder="drawn", weights="w1", unreadable=()) -> Path:
    n = len(features)
    lost = np.isin(np.arange(n), unreadable)
    with h5py.File(path, "w") as file:
        file["features"] = np.where(lost[:, None], 0, features).astype(np.float16)
        file["coords"] = np.column_stack([np.arange(n) * 10, np.arange(n) * 10 + 5]).astype(np.int64)
        file["unreadable"] = lost
        told = {
            "slide_id": path.stem, "encoder": encoder, "encoder_fingerprint": weights,
            "dim": features.shape[1], "n_unreadable": int(lost.sum()),
            "fingerprint": f"{path.stem}-{hash(features.tobytes()) % 10**9}",
        }  # fmt: skip
        write_header(file, "features", told)
    return path


def drawn(n: int, seed: int = 0) -> np.ndarray:
    """Vectors around 40 centres, of any length."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(40, DIM))
    return (centres[rng.integers(40, size=n)] + 0.4 * rng.normal(size=(n, DIM))) * rng.uniform(1, 5, (n, 1))


@pytest.fixture
def bags(tmp_path) -> dict[str, Path]:
    """Five slides of 0 to 900 tiles, two of which could not be read."""
    paths = {}
    for k, n in enumerate((600, 0, 900, 300, 700)):
        paths[f"s{k}"] = write_bag(tmp_path / f"s{k}.h5", drawn(n, k), unreadable=(3, 7) if k == 2 else ())
    return paths


def all_units(bags: dict[str, Path]) -> np.ndarray:
    return np.concatenate([load_units(path)[0] for path in bags.values()])


def stamps(folder: Path) -> dict[str, int]:
    return {p.name: p.stat().st_mtime_ns for p in sorted(folder.iterdir())}


def test_the_nearest_are_those_of_the_largest_cosine(bags, tmp_path):
    index, rows = TileIndex.build(bags, tmp_path / "index"), all_units(bags)
    assert len(index) == len(rows) == 2498
    queries = drawn(7, 50)
    found = index.search(queries, 20)
    cosine = unit(queries) @ rows.T
    assert np.allclose(found.similarity, -np.sort(-cosine, axis=1)[:, :20], atol=1e-5)
    assert np.allclose(np.take_along_axis(cosine, found.positions, 1), found.similarity, atol=1e-5)


def test_the_length_of_a_vector_does_not_count_and_a_tile_is_nearest_to_itself(bags, tmp_path):
    index = TileIndex.build(bags, tmp_path / "index")
    some = np.array([0, 700, 2497])
    for factor in (1, 1000, 1e-3):
        found = index.search(factor * index.vectors(some), 1)
        assert found.positions[:, 0].tolist() == some.tolist()
        assert np.allclose(found.similarity, 1, atol=1e-5)


def test_tiles_say_slide_row_and_place_and_leave_out_what_could_not_be_read(bags, tmp_path):
    index = TileIndex.build(bags, tmp_path / "index")
    own = index.tiles[index.of_slides({"s2"})]
    assert own[:, 1].tolist() == [r for r in range(900) if r not in (3, 7)]
    assert (own[:, 2] == own[:, 1] * 10).all()
    assert (own[:, 3] == own[:, 1] * 10 + 5).all()
    positions = index.positions_of("s2", np.array([2, 3, 8]))
    assert index.tiles[positions].tolist() == [[2, 2, 20, 25], [2, 8, 80, 85]]
    assert len(index.positions_of("s1", np.array([0]))) == 0
    with pytest.raises(ConfigError, match="'nowhere' is not among the 5"):
        index.positions_of("nowhere", np.array([0]))


@pytest.mark.parametrize("config", [IndexConfig(), LISTS], ids=["exact", "lists"])
def test_only_tiles_that_may_be_found_are(bags, tmp_path, config):
    index = TileIndex.build(bags, tmp_path / "index", config)
    among = ~index.of_slides({"s0", "s2"})
    found = index.search(drawn(30, 60), 20, among=among)
    assert among[found.positions].all()
    few = np.zeros(len(index), bool)
    few[[5, 1700]] = True
    found = index.search(drawn(3, 61), 4, among=few)
    assert np.sort(found.positions).tolist() == [[-1, -1, 5, 1700]] * 3
    assert np.isnan(found.similarity).sum() == 6
    nothing = index.search(drawn(2, 61), 3, among=np.zeros(len(index), bool))
    assert (nothing.positions == -1).all()


def test_lists_find_what_they_say(bags, tmp_path):
    index, rows = TileIndex.build(bags, tmp_path / "index", LISTS), all_units(bags)
    assert index.n_lists == 50
    assert 0 < index.n_probes < 50
    assert index.recall >= 0.95
    queries = drawn(200, 70)
    truth = np.argsort(-(unit(queries) @ rows.T), axis=1)[:, :20]
    found = index.search(queries, 20).positions
    recall = np.mean([len(np.intersect1d(f, t)) / 20 for f, t in zip(found, truth, strict=True)])
    assert recall >= 0.93
    low = TileIndex.build(bags, tmp_path / "low", IndexConfig(exact_up_to=100, least_recall=0.3))
    assert low.n_probes < index.n_probes


@pytest.mark.parametrize("config", [IndexConfig(), LISTS], ids=["exact", "lists"])
def test_neighbours_are_the_nearest_others(bags, tmp_path, config):
    index, rows = TileIndex.build(bags, tmp_path / "index", config), all_units(bags)
    own = np.arange(0, len(index), 9)
    found = index.neighbours(own, 5)
    assert not (found.positions == own[:, None]).any()
    cosine = rows[own] @ rows.T
    cosine[np.arange(len(own)), own] = -2
    truth = np.argsort(-cosine, axis=1)[:, :5]
    recall = np.mean([len(np.intersect1d(f, t)) / 5 for f, t in zip(found.positions, truth, strict=True)])
    assert recall == 1 if config is not LISTS else recall > 0.9
    assert index.neighbours(own[:0], 5).positions.shape == (0, 5)


def test_of_many_equals_each_still_has_others(tmp_path):
    path = write_bag(tmp_path / "same.h5", np.ones((30, DIM)))
    found = TileIndex.build({"same": path}, tmp_path / "index").neighbours(np.arange(30), 4)
    assert not (found.positions == np.arange(30)[:, None]).any()
    assert np.allclose(found.similarity, 1)


@pytest.mark.parametrize("config", [IndexConfig(), LISTS], ids=["exact", "lists"])
def test_what_is_stored_answers_as_what_was_built(bags, tmp_path, config):
    built = TileIndex.build(bags, tmp_path / "index", config)
    loaded = TileIndex.load(tmp_path / "index")
    assert repr(loaded) == repr(built)
    assert np.array_equal(loaded.tiles, built.tiles)
    one, other = (index.search(drawn(20, 80), 10) for index in (built, loaded))
    assert np.array_equal(one.positions, other.positions)
    assert np.array_equal(one.similarity, other.similarity)
    assert np.allclose(loaded.vectors(np.array([1, 9])), built.vectors(np.array([1, 9])))
    assert not list((tmp_path / "index").glob("*.partial"))


def test_equal_seeds_give_equal_lists(bags, tmp_path):
    one, other = (TileIndex.build(bags, tmp_path / name, LISTS) for name in ("a", "b"))
    assert (one.n_probes, one.recall) == (other.n_probes, other.recall)
    queries = drawn(50, 81)
    assert np.array_equal(one.search(queries, 10).positions, other.search(queries, 10).positions)


def test_an_index_is_kept_until_its_bags_or_options_change(bags, tmp_path):
    folder, seen = tmp_path / "index", []
    TileIndex.current(bags, folder, report=seen.append)
    assert seen == list(bags)
    before = stamps(folder)
    TileIndex.current(bags, folder, report=seen.append)
    assert stamps(folder) == before
    write_bag(bags["s3"], drawn(310, 33))
    assert len(TileIndex.current(bags, folder)) == 2508
    changed = stamps(folder)
    assert all(changed[name] != before[name] for name in before)
    fewer = {k: v for k, v in bags.items() if k != "s4"}
    assert "s4" not in TileIndex.current(fewer, folder).slide_ids
    assert TileIndex.current(fewer, folder, LISTS).n_lists > 0


@pytest.mark.parametrize("name", ["index.faiss", "tiles.npy", "index.json"])
def test_a_damaged_index_is_built_again(bags, tmp_path, name):
    folder = tmp_path / "index"
    TileIndex.build(bags, folder)
    (folder / name).write_bytes((folder / name).read_bytes()[:40])
    with pytest.raises(FormatError, match="build it again"):
        TileIndex.load(folder)
    assert len(TileIndex.current(bags, folder)) == 2498
    assert len(TileIndex.load(folder)) == 2498


def test_the_folder_tells_what_it_is(bags, tmp_path):
    TileIndex.build(bags, tmp_path / "index", LISTS)
    told = json.loads((tmp_path / "index" / "index.json").read_text())
    assert told["metric"] == "cosine"
    assert list(told["bags"]) == list(bags)
    assert (told["n_tiles"], told["dim"], told["n_lists"]) == (2498, DIM, 50)


def test_bags_of_other_weights_or_without_tiles_are_refused(bags, tmp_path):
    with pytest.raises(FormatError, match="hold no tile"):
        TileIndex.build({"s1": bags["s1"]}, tmp_path / "index")
    with pytest.raises(FormatError, match="no such file"):
        TileIndex.build({"gone": tmp_path / "gone.h5"}, tmp_path / "index")
    write_bag(bags["s3"], drawn(20), weights="w2")
    with pytest.raises(SlidebagError, match="s3: its features are of other weights"):
        TileIndex.build(bags, tmp_path / "index")


def test_vectors_of_another_dim_and_options_out_of_range_are_refused(bags, tmp_path):
    index = TileIndex.build(bags, tmp_path / "index")
    with pytest.raises(ConfigError, match=r"wanted \(n, 16\)"):
        index.search(np.ones((1, DIM + 1)), 3)
    with pytest.raises(ConfigError, match="0 tiles were asked for"):
        index.search(np.ones((1, DIM)), 0)
    for wrong in ({"exact_up_to": -1}, {"least_recall": 0}, {"least_recall": 1.1}, {"seed": -1}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            IndexConfig(**wrong)


def test_the_sample_is_even_over_all_tiles_and_follows_the_seed(bags):
    heads = load_heads(bags)
    assert [head.n_tiles for head in heads.values()] == [600, 0, 898, 300, 700]
    assert np.array_equal(sample_units(bags, heads, 10**6, seed=0), all_units(bags))
    one, same, other = (sample_units(bags, heads, 500, seed=s) for s in (1, 1, 2))
    assert one.shape == (500, DIM)
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    rows = {row.tobytes(): k for k, row in enumerate(all_units(bags))}
    places = np.array([rows[row.tobytes()] for row in one])
    assert len(np.unique(places)) == 500
    assert 0.15 < (places < 600).mean() < 0.33  # 0.24 of all tiles


def test_a_vector_of_zeros_stays_one():
    assert unit(np.array([[0, 0], [3, 4]])).tolist() == [[0, 0], pytest.approx([0.6, 0.8])]


def test_the_modules_of_search_import_no_faiss():
    told = "import sys, features.search; print([m for m in sys.modules if m.startswith('faiss')])"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", told], cwd=root, env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert done.stdout.strip() == "[]"
