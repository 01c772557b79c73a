import errno
import threading
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from features import (
    BagConfig,
    Encoder,
    EncoderCard,
    EncoderConfig,
    ExtractJob,
    bag_fingerprint,
    extract_cohort,
    extract_features,
    load_beside,
    load_encoder,
    load_features,
)
from features.bag_writer import BagWriter
from features.views import augment, view_seeds
from tiling import (
    ConfigError,
    FormatError,
    GridConfig,
    SlideError,
    open_slide,
    read_patches,
    segment_tissue,
    tile_slide,
)

N_SLIDES = 5


class MeanColour(Encoder):
    """Three numbers a patch; `seen` are the sizes of the batches."""

    def __init__(self, name="mean-colour", factor=1.0):
        self.card = EncoderCard(name=name, dim=3, input_px=96, px_multiple=1, licence="-", source="-")
        self.fingerprint, self.factor, self.seen = name, factor, []

    def encode(self, patches):
        self.seen.append(len(patches))
        return self.factor * patches.mean(axis=(1, 2), dtype=np.float32)


@pytest.fixture(scope="module")
def grids(phantom):
    """Five slides of one file, told apart by their ids and by how many tiles they have."""
    with open_slide(phantom.path) as slide:
        whole = tile_slide(slide, segment_tissue(slide), GridConfig(tile_px=96, min_tissue=0.5))
    found = []
    for k in range(N_SLIDES):
        n = 7 + 5 * k
        part = {"coords": whole.coords[:n], "tissue_fraction": whole.tissue_fraction[:n]}
        found.append(replace(whole, slide_id=f"slide-{k}", **part))
    return found


@pytest.fixture
def jobs(grids, phantom, tmp_path):
    return [job_of(grid, phantom.path, {0: tmp_path / f"{grid.slide_id}.h5"}) for grid in grids]


def job_of(grid, path, bags, *, breaks=None):
    @contextmanager
    def opened():
        with open_slide(path, id=grid.slide_id) as slide:
            if breaks:
                breaks(slide)
            yield slide, grid

    return ExtractJob(grid.slide_id, opened, bags)


def run(jobs, *workers, **options):
    workers = workers or ([MeanColour()],)
    return {done.slide_id: done for done in extract_cohort(jobs, workers, BagConfig(**options))}


def whole_bags(folder):
    return {path.stem: load_features(path) for path in sorted(folder.glob("*.h5"))}


def no_threads_left():
    return not [t for t in threading.enumerate() if t.name.startswith("extract ")]


def test_together_each_slide_gets_the_bag_it_gets_alone(jobs, grids, phantom, tmp_path):
    done = run(jobs, batch=16)
    for grid in grids:
        alone = tmp_path / "alone" / f"{grid.slide_id}.h5"
        with open_slide(phantom.path, id=grid.slide_id) as slide:
            extract_features(slide, grid, MeanColour(), alone, config=BagConfig(batch=3))
        one, other = load_features(alone), load_features(tmp_path / f"{grid.slide_id}.h5")
        np.testing.assert_array_equal(one.features, other.features)
        np.testing.assert_array_equal(one.coords, other.coords)
        assert (one.fingerprint, one.slide_id) == (other.fingerprint, grid.slide_id)
        assert (done[grid.slide_id].n_tiles, done[grid.slide_id].error) == (len(grid), None)
    assert no_threads_left()


def test_small_slides_share_batches(jobs, grids):
    encoder = MeanColour()
    run(jobs, [encoder], batch=64)
    n_tiles = sum(map(len, grids))
    assert sum(encoder.seen) == n_tiles
    assert len(encoder.seen) == -(-n_tiles // 64)
    assert max(encoder.seen) <= 64


def test_a_part_of_a_batch_does_not_wait_for_ever(grids, phantom, tmp_path):
    """The first slide's few tiles are not kept back until a long slide has been read."""
    short, long = grids[0], grids[-1]
    jobs = [job_of(g, phantom.path, {0: tmp_path / f"{g.slide_id}.h5"}) for g in (short, long)]
    encoder = MeanColour()
    order = [d.slide_id for d in extract_cohort(jobs, [[encoder]], BagConfig(batch=2))]
    assert order == [short.slide_id, long.slide_id]
    assert encoder.seen.index(1) < len(encoder.seen) - 1


def test_several_encoders_take_one_reading(grids, phantom, tmp_path, monkeypatch):
    encoders = [MeanColour(), MeanColour("loud", factor=2.0)]
    jobs, n_read = [], []

    def count(slide):
        read = slide.read_batch
        monkeypatch.setattr(slide, "read_batch", lambda c, *a, **o: n_read.append(len(c)) or read(c, *a, **o))

    for k, grid in enumerate(grids):
        bags = {n: tmp_path / e.card.name / f"{grid.slide_id}.h5" for n, e in enumerate(encoders)}
        if k == 0:
            del bags[0]  # as if it were there already
        jobs.append(job_of(grid, phantom.path, bags, breaks=count))
    run(jobs, encoders, dtype="float32")
    assert sum(n_read) == sum(map(len, grids))
    assert encoders[1].seen
    plain, loud = whole_bags(tmp_path / "mean-colour"), whole_bags(tmp_path / "loud")
    assert sorted(loud) == [g.slide_id for g in grids]
    assert sorted(plain) == [g.slide_id for g in grids[1:]]
    for name, bag in plain.items():
        np.testing.assert_array_equal(2 * bag.features, loud[name].features)
        assert (bag.encoder, loud[name].encoder) == ("mean-colour", "loud")


def fail_one(jobs, grids, phantom, tmp_path, breaks):
    jobs[2] = job_of(grids[2], phantom.path, jobs[2].bags, breaks=breaks)


def vanish(slide):
    raise SlideError(f"{slide.id}: gone")


def break_in_the_middle(slide):
    slide.read_batch = lambda *a, **o: 1 / 0


def become_another(slide):
    slide.identify = lambda: "another file"


@pytest.mark.parametrize(
    ("breaks", "told"),
    [(vanish, "gone"), (break_in_the_middle, "division"), (become_another, "not the file that was tiled")],
)
def test_a_slide_that_cannot_be_read_fails_alone(jobs, grids, phantom, tmp_path, breaks, told):
    fail_one(jobs, grids, phantom, tmp_path, breaks)
    done = run(jobs, batch=16)
    assert told in str(done["slide-2"].error)
    assert [d for d in done if done[d].error] == ["slide-2"]
    assert sorted(whole_bags(tmp_path)) == ["slide-0", "slide-1", "slide-3", "slide-4"]
    assert not list(tmp_path.glob(".*"))


def test_a_slide_that_goes_away_while_it_is_read_leaves_no_bag(jobs, grids, phantom, tmp_path):
    told = iter([grids[2].slide_fingerprint, "changed meanwhile"])

    def change(slide):
        slide.identify = lambda: next(told)

    fail_one(jobs, grids, phantom, tmp_path, change)
    done = run(jobs)
    assert "changed since" in str(done["slide-2"].error)
    assert "slide-2" not in whole_bags(tmp_path)
    assert len(whole_bags(tmp_path)) == N_SLIDES - 1


class Picky(MeanColour):
    """Chokes on batches of which a patch is one of a slide's."""

    def __init__(self, bad, how):
        super().__init__()
        self.bad, self.how = bad, how

    def encode(self, patches):
        found = super().encode(patches)
        ill = np.isclose(found, self.bad, atol=1e-6).all(axis=1)
        if ill.any() and self.how == "raises":
            raise RuntimeError("cannot digest this")
        found[ill] = np.nan
        return found


@pytest.mark.parametrize(("how", "told"), [("raises", "digest"), ("nan", "slide-4: encoder .* NaN")])
def test_a_slide_that_the_encoder_chokes_on_fails_alone(jobs, grids, phantom, tmp_path, how, told):
    run(jobs[4:], dtype="float32")
    bad = load_features(tmp_path / "slide-4.h5").features[-1]  # of a tile that no other slide has
    (tmp_path / "slide-4.h5").unlink()
    done = run(jobs, [Picky(bad, how)], batch=64)
    assert [d for d in done if done[d].error] == ["slide-4"]
    assert done["slide-4"].error is not None
    with pytest.raises(Exception, match=told):
        raise done["slide-4"].error
    assert sorted(whole_bags(tmp_path)) == ["slide-0", "slide-1", "slide-2", "slide-3"]
    assert not list(tmp_path.glob(".*"))


class Mortal(MeanColour):
    """Dies after some batches and yields nothing any more; `others` are waited for, so that they do work."""

    def __init__(self, lives):
        super().__init__()
        self.lives = lives

    def encode(self, patches):
        self.lives -= 1
        if self.lives < 0:
            raise RuntimeError("device lost")
        return super().encode(patches)


def test_when_a_device_dies_the_others_do_its_work(jobs, grids, tmp_path):
    mortal, other = Mortal(1), MeanColour()
    with pytest.warns(UserWarning, match=r"one of the devices encodes nothing any more.*device lost"):
        done = run(jobs, [mortal], [other], batch=4)
    assert not [d for d in done.values() if d.error]
    assert sorted(whole_bags(tmp_path)) == [g.slide_id for g in grids]
    assert sum(mortal.seen) + sum(other.seen) == sum(map(len, grids))


def test_when_the_last_device_dies_it_is_told_and_whole_bags_stay(jobs, tmp_path):
    with pytest.raises(RuntimeError, match="device lost"):
        run(jobs, [Mortal(3)], batch=7)
    left = whole_bags(tmp_path)
    assert 0 < len(left) < N_SLIDES
    assert not list(tmp_path.glob(".*"))
    assert no_threads_left()


def test_where_a_thread_cannot_be_begun_the_others_are_let_go(jobs, tmp_path, monkeypatch):
    begin, n_begun = threading.Thread.start, []

    def start(thread):
        if len(n_begun) == 2:
            raise RuntimeError("can't start new thread")
        n_begun.append(thread)
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        run(jobs, [MeanColour()])
    assert len(n_begun) == 2
    assert no_threads_left()
    assert not list(tmp_path.glob("*.h5"))


def test_a_full_disk_fails_the_slide_that_met_it(jobs, tmp_path, monkeypatch):
    add = BagWriter.add

    def full(self, start, unreadable, vectors):
        if self._grid.slide_id == "slide-1":
            raise OSError(errno.ENOSPC, "No space left on device")
        add(self, start, unreadable, vectors)

    monkeypatch.setattr(BagWriter, "add", full)
    done = run(jobs)
    assert "No space left" in str(done["slide-1"].error)
    assert len(whole_bags(tmp_path)) == N_SLIDES - 1
    assert not list(tmp_path.glob(".*"))


def test_stopping_half_way_ends_all_threads_and_leaves_nothing_half_written(jobs, tmp_path):
    work = extract_cohort(jobs, [[MeanColour()]], BagConfig(batch=2))
    first = next(work)
    work.close()
    assert no_threads_left()
    assert first.slide_id in whole_bags(tmp_path)
    assert not list(tmp_path.glob(".*"))


def test_reading_goes_on_while_a_batch_is_encoded(jobs, grids, phantom):
    n_read = threading.Semaphore(0)

    class Waiting(MeanColour):
        def encode(self, patches):
            # the batch after this one is read before this one is done: else this would never end
            assert n_read.acquire(timeout=20)
            return super().encode(patches)

    def count(slide):
        read = slide.read_batch
        slide.read_batch = lambda *a, **o: (read(*a, **o), n_read.release())[0]

    grid = grids[-1]
    job = job_of(grid, phantom.path, jobs[-1].bags, breaks=count)
    encoder = Waiting()
    done = run([job], [encoder], batch=9)
    assert done[grid.slide_id].error is None
    assert encoder.seen == [9, 9, 9]


def test_patches_on_their_way_are_few(jobs, grids):
    """However slow the encoder, reading does not run away from it."""
    ahead, counts = [0], []
    lock = threading.Lock()

    class Slow(MeanColour):
        def encode(self, patches):
            with lock:
                counts.append(ahead[0])
                ahead[0] -= len(patches)
            return super().encode(patches)

    encoder = Slow()
    many = []
    for name, job in ((f"{job.slide_id}-{k}", job) for k in range(4) for job in jobs):
        bags = {0: job.bags[0].with_name(f"{name}.h5")}
        many.append(ExtractJob(name, counted(job, ahead, lock), bags))
    run(many, [encoder], batch=8)
    assert max(counts) <= 8 * 8


def counted(job, ahead, lock):
    @contextmanager
    def opened():
        with job.open() as (slide, grid):
            read = slide.read_batch

            def reading(corners, *arguments, **options):
                with lock:
                    ahead[0] += len(corners)
                return read(corners, *arguments, **options)

            slide.read_batch = reading
            yield slide, grid

    return opened


def test_a_bag_says_how_it_was_made(jobs, tmp_path):
    encoder = load_encoder(EncoderConfig(encoder="stain-stats"))
    run(jobs[:1], [encoder])
    bag = load_features(tmp_path / "slide-0.h5")
    assert bag.encoder == "stain-stats"
    assert bag.features.shape == (7, encoder.card.dim)


class Tokens(MeanColour):
    """A token is the mean colour of a part of the patch, and the feature that of the whole."""

    def __init__(self, side, name="tokens"):
        super().__init__(name)
        self.card = replace(self.card, token_dim=3)
        self.config = EncoderConfig(token_side=side)

    def encode_tokens(self, patches):
        side = self.config.token_side
        parts = patches.reshape(len(patches), side, 96 // side, side, 96 // side, 3)
        return self.encode(patches), parts.mean(axis=(2, 4), dtype=np.float32)


@pytest.fixture
def pixels(grids, phantom):
    """All patches of the last slide."""
    with open_slide(phantom.path) as slide:
        return np.concatenate([part.pixels for part in read_patches(slide, grids[-1])])


@pytest.mark.parametrize("batch", [4, 64])
def test_views_are_the_hand_augmented_patches_encoded(jobs, grids, pixels, tmp_path, batch):
    encoder = MeanColour()
    run(jobs, [encoder], batch=batch, dtype="float32", views=3)
    bag = load_features(tmp_path / "slide-4.h5")
    rows = np.arange(len(grids[-1]))
    seeds = [view_seeds(grids[-1].slide_fingerprint, rows, view) for view in range(3)]
    right = np.stack([MeanColour().encode(augment(pixels, each)) for each in seeds], axis=1)
    np.testing.assert_array_equal(load_beside(tmp_path / "slide-4.h5", "views"), right)
    np.testing.assert_array_equal(bag.features, MeanColour().encode(pixels))
    with pytest.raises(FormatError, match=r"holds no tokens.*--token-side"):
        load_beside(tmp_path / "slide-4.h5", "tokens")
    assert max(encoder.seen) <= batch
    assert sum(encoder.seen) == 4 * sum(map(len, grids))


def test_views_and_tokens_of_several_encoders_take_one_reading(grids, phantom, pixels, tmp_path):
    encoders = [MeanColour(), MeanColour("loud", factor=2.0), Tokens(4)]
    bags = {n: tmp_path / f"{e.card.name}.h5" for n, e in enumerate(encoders)}
    run([job_of(grids[-1], phantom.path, bags)], encoders, views=2)
    plain, loud, other = (load_beside(bags[n], "views") for n in range(3))
    assert (plain.shape, plain.dtype) == ((len(grids[-1]), 2, 3), np.float16)
    np.testing.assert_allclose(loud, 2 * plain, rtol=2e-3)
    np.testing.assert_array_equal(other, plain)
    tokens = load_beside(bags[2], "tokens")
    assert (tokens.shape, tokens.dtype) == ((len(grids[-1]), 4, 4, 3), np.float16)
    np.testing.assert_array_equal(tokens, Tokens(4).encode_tokens(pixels)[1].astype(np.float16))


def test_where_a_tile_is_unreadable_its_views_and_tokens_are_zero(grids, phantom, tmp_path):
    broken = [0, 5, 6, 26]

    def break_some(slide):
        read, lost = slide.read_batch, {tuple(xy) for xy in grids[-1].coords[broken].tolist()}

        def reading(corners, *arguments, **options):
            failed = read(corners, *arguments, **options)
            return failed | [tuple(xy) in lost for xy in corners.tolist()]

        slide.read_batch = reading

    told = {}
    for name, breaks in (("whole", None), ("broken", break_some)):
        job = job_of(grids[-1], phantom.path, {0: tmp_path / f"{name}.h5"}, breaks=breaks)
        run([job], [Tokens(2)], batch=2, views=2)
        path = tmp_path / f"{name}.h5"
        beside = {each: load_beside(path, each) for each in ("views", "tokens")}
        told[name] = beside | {"features": load_features(path).features}
    keep = ~load_features(tmp_path / "broken.h5").unreadable
    assert np.flatnonzero(~keep).tolist() == broken
    for name, whole in told["whole"].items():
        found = told["broken"][name]
        assert not found[~keep].any()
        np.testing.assert_array_equal(found[keep], whole[keep])


def test_memory_does_not_grow_with_the_views(grids, phantom, tmp_path, monkeypatch):
    """Chunks hold so many fewer patches that patches and views together are as much as before."""
    monkeypatch.setattr("features.slide_reading._CHUNK_BYTES", 12 * 96 * 96 * 3)
    n_read = []

    def count(slide):
        read = slide.read_batch
        slide.read_batch = lambda c, *a, **o: n_read.append(len(c)) or read(c, *a, **o)

    for views, most in ((0, 12), (3, 3)):
        n_read.clear()
        run([job_of(grids[-1], phantom.path, {0: tmp_path / "a.h5"}, breaks=count)], views=views)
        assert max(n_read) == most


def test_fingerprints_follow_views_and_tokens():
    plain = MeanColour()
    told = [bag_fingerprint("grid", plain, BagConfig(views=views)) for views in (0, 1, 2)]
    told += [bag_fingerprint("grid", Tokens(side, "mean-colour"), BagConfig()) for side in (2, 4)]
    assert len(set(told)) == 5
    assert told[0] == bag_fingerprint("grid", plain, BagConfig())
    with pytest.raises(ConfigError, match="views is -1"):
        BagConfig(views=-1)


def test_other_stains_in_one_pass_are_refused(jobs):
    other = MeanColour("other")
    other.config = EncoderConfig(stain="reinhard")
    with pytest.raises(ConfigError, match="different stains: none, reinhard"):
        run(jobs, [MeanColour(), other])
