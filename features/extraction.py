"""Extraction: slides are read, encoded and written at once, by threads that hand over to each other."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from threading import Lock, Thread

from tiling import ConfigError, Slide, TileGrid

from .bag import BagConfig
from .channel import Channel, Stopped
from .encoder import Encoder
from .encoding import Worker
from .slide_in_work import Chunk, Ended, Extracted, ExtractJob, Rows, SlideInWork
from .slide_reading import read_chunks, refuse_other_file
from .stain import fit_stain

_WAITING = 3  # chunks that wait for an encoder
_WAITING_ROWS = 32


def extract_features(
    slide: Slide, grid: TileGrid, encoder: Encoder, path: Path, *, config: BagConfig | None = None
) -> int:
    """Encode all tiles of a grid into a feature bag at `path`; return how many were unreadable.

    Raises:
        ConfigError: the grid's patches are not what the encoder wants.
        SlideError: no tile of the slide could be read, or the file is not the one that was tiled.
        SlidebagError: the encoder yields NaN or infinity.
    """
    job = ExtractJob(grid.slide_id, lambda: nullcontext((slide, grid)), {0: path})
    (done,) = extract_cohort([job], [[encoder]], config)
    if done.error is not None:
        raise done.error
    return done.n_unreadable


def extract_cohort(
    jobs: Iterable[ExtractJob],
    workers: Sequence[Sequence[Encoder]],
    config: BagConfig | None = None,
    *,
    n_readers: int = 1,
    report: Callable[[int], None] | None = None,
) -> Iterator[Extracted]:
    """Encode slides into feature bags and yield what became of each as it is done.

    Features go to disk batch by batch and few batches are on their way at a time, so memory grows with
    neither slides nor cohort. All that goes wrong with a slide comes with its own result. Where the
    caller stops, so does the work, and nothing half-written is left.

    Args:
        jobs: the slides; they are begun in this order.
        workers: the encoders, loaded once for each device that is to work; all take from one queue.
        config: how the bags are stored.
        n_readers: slides that are read at a time.
        report: called with the number of tiles that were encoded, from time to time, by any thread.

    Raises:
        Exception: what ended the last worker, as when a device is lost.
    """
    work = _Work(jobs, workers, n_readers, config or BagConfig(), report or (lambda n: None))
    threads = [Thread(target=work.read, name="extract read") for _ in range(n_readers)]
    threads += [Thread(target=work.encode, args=(encoders,), name="extract encode") for encoders in workers]
    threads += [Thread(target=work.write, name="extract write")]
    try:
        for thread in threads:
            thread.start()
        yield from work.done
    except Stopped:
        pass  # why is told below
    finally:
        work.stop()
        for thread in threads:
            if thread.ident is not None:  # no room for another thread, or stopped before it was begun
                thread.join()
        work.abort()
    if work.crash is not None:
        raise work.crash


class _Work:
    """What the threads share."""

    def __init__(
        self,
        jobs: Iterable[ExtractJob],
        workers: Sequence[Sequence[Encoder]],
        n_readers: int,
        config: BagConfig,
        report: Callable[[int], None],
    ) -> None:
        stains = sorted({encoder.config.stain for encoder in workers[0]})
        if len(stains) > 1:
            raise ConfigError(
                f"encoders of one pass ask for different stains: {', '.join(stains)}",
                hint="extract with one --stain at a time",
            )
        self._jobs, self._config, self._report = iter(jobs), config, report
        self._encoders = workers[0]  # as good as any for what is told of them
        self._batch = config.batch or min(encoder.batch for encoder in self._encoders)
        self._chunks: Channel[Chunk] = Channel(_WAITING * len(workers))
        self._rows: Channel[Rows | Ended] = Channel(_WAITING_ROWS)
        self.done: Channel[Extracted] = Channel(_WAITING_ROWS)
        self._n_reading, self._n_encoding = n_readers, len(workers)
        self.crash: BaseException | None = None
        self._begun: set[SlideInWork] = set()
        self._lock = Lock()

    def read(self) -> None:
        """Read slides until there are no more: a thread's whole life."""
        with _Shift(self):
            while job := self._next_job():
                slide = SlideInWork(job)
                with self._lock:
                    self._begun.add(slide)
                self._rows.put(Ended(slide, self._read_one(slide)))
            with self._lock:
                self._n_reading -= 1
                if not self._n_reading:
                    self._chunks.end()

    def _next_job(self) -> ExtractJob | None:
        with self._lock:
            return next(self._jobs, None)

    def _read_one(self, slide: SlideInWork) -> Exception | None:
        """Send the patches of a slide on their way; return what went wrong."""
        try:
            with slide.job.open() as (opened, grid):
                refuse_other_file(opened, grid)
                stain = fit_stain(opened, grid, self._encoders[0].config.stain)
                slide.begin(opened, grid, self._encoders, self._config, stain)
                for chunk in read_chunks(
                    slide, opened, grid, stain=stain, config=self._config, batch=self._batch
                ):
                    if slide.has_failed:
                        return None
                    self._chunks.put(chunk)
                refuse_other_file(opened, grid)
        except Stopped:
            raise
        except Exception as error:  # noqa: BLE001  whatever it is, it is this slide's
            return error
        return None

    def encode(self, encoders: Sequence[Encoder]) -> None:
        """Encode until there is no more: a thread's whole life; the last one to die ends the work."""
        with _Shift(self):
            try:
                Worker(encoders, self._config, self._batch).work(self._chunks, self._rows)
            except Stopped:
                raise
            except Exception as error:
                with self._lock:
                    self._n_encoding -= 1
                    if not self._n_encoding:
                        raise
                told = f"one of the devices encodes nothing any more, the others go on ({error})"
                warnings.warn(told, stacklevel=2)
                return
            with self._lock:
                self._n_encoding -= 1
                if not self._n_encoding:
                    self._rows.end()

    def write(self) -> None:
        """Write what was encoded and tell what became of each slide: a thread's whole life."""
        with _Shift(self):
            for item in self._rows:
                if item.slide.has_failed:
                    continue
                done = self._write_one(item)
                if isinstance(item, Rows):
                    self._report(len(item.unreadable))
                if done is not None:
                    with self._lock:
                        self._begun.remove(item.slide)
                    self.done.put(done)
            self.done.end()

    def _write_one(self, item: Rows | Ended) -> Extracted | None:
        slide = item.slide
        try:
            if isinstance(item, Rows):
                slide.write(item)
            elif item.error is not None:
                return slide.fail(item.error)
            else:
                slide.end_reading()
            return slide.finish() if slide.is_complete else None
        except Exception as error:  # noqa: BLE001  as on a full disk
            return slide.fail(error)

    def stop(self) -> None:
        """Send every thread home."""
        for channel in (self._chunks, self._rows, self.done):
            channel.stop()

    def abort(self) -> None:
        """Leave nothing half-written; to be called when no thread works any more."""
        for slide in self._begun:
            slide.abort()


class _Shift:
    """A thread's life: when it is stopped it goes quietly, when it breaks it stops the others."""

    def __init__(self, work: _Work) -> None:
        self._work = work

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> bool:
        if error is not None and not isinstance(error, Stopped):
            self._work.crash = self._work.crash or error
        if error is not None:
            self._work.stop()
        return True
