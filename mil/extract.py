"""From grids to feature bags: the verb `extract`, resumed by fingerprint, one pass for several encoders."""

import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from features import (
    BagConfig,
    Encoder,
    EncoderConfig,
    ExtractJob,
    bag_fingerprint,
    extract_cohort,
    find_devices,
    find_encoder,
    load_encoder,
    load_features,
)
from tiling import ConfigError, FormatError, Slide, TileGrid, load_grid, open_slide, stored_fingerprint

from .batch import DONE, KEPT, WITHOUT_TILES, Outcome, Result, gather, status_of
from .cohort import CohortSlide
from .prepare import summary, tell_slides
from .progress import progress
from .run_folder import Run, n_tiles_of

_READY = ("tiled", *WITHOUT_TILES, "extracted", "not extracted")
_READERS = 4  # slides that are read at a time for each GPU


@dataclass(frozen=True, kw_only=True)
class ExtractConfig(BagConfig):
    """How feature bags are stored and with what they are computed."""

    device: str = field(
        default="auto",
        metadata={"help": "where encoders run: cpu, cuda, mps, cuda:0,cuda:1; auto is every GPU, else cpu"},
    )
    readers: int = field(default=0, metadata={"help": "slides read at a time; 0 is what suits the device"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.readers < 0:
            raise ConfigError(f"readers is {self.readers}", hint="give 1 or more, or 0 for what suits")


def extract(
    run: Run,
    encoders: EncoderConfig | Sequence[EncoderConfig],
    config: ExtractConfig,
) -> Outcome:
    """Encode every tiled slide of a run into a feature bag; whole bags made in the same way are kept.

    Several encoders take the patches of one pass: each slide is read and decoded once.

    Raises:
        ConfigError: no such encoder or device, two whose bags are one file, or a grid that does not fit.
        SlidebagError: the encoder's weights cannot be had.
    """
    encoders = [encoders] if isinstance(encoders, EncoderConfig) else list(encoders)
    folders = [run.features_folder(each.encoder) for each in encoders]
    if twice := [folder.name for folder in folders if folders.count(folder) > 1]:
        raise ConfigError(
            f"two encoders of one pass keep their bags in features/{twice[0]}",
            hint="name each encoder once; for other weights of the same one, use another run folder",
        )
    cards = [find_encoder(each.encoder).card for each in encoders]
    if any(each.token_side for each in encoders) and not any(card.token_dim for card in cards):
        raise ConfigError(
            f"{', '.join(card.name for card in cards)}: gives no tokens",
            hint="leave out --token-side, or use a transformer",
        )
    for slide in run.cohort(*_READY).slides[:1]:  # a misfit is told before the weights are loaded
        told = load_grid(run.grid_path(slide.slide_id)).config
        for card in cards:
            card.check_patch(told.tile_px, told.tile_mpp)
    return extract_by(run, load_workers(encoders, config), config)


def load_workers(encoders: Sequence[EncoderConfig], config: ExtractConfig) -> list[list[Encoder]]:
    """Load the encoders onto each device that is to work, and say what computes, and in which precision.

    Raises:
        ConfigError: no such encoder or device.
        SlidebagError: the encoder's weights cannot be had.
    """
    devices = find_devices(config.device)
    workers = [[load_encoder(each, device=device) for each in encoders] for device in devices]
    for encoder in workers[0]:
        how = f"{encoder.precision} by {encoder.engine} on {', '.join(devices)}"
        print(f"extract: {encoder.card.name} in {how}", file=sys.stderr)
    return workers


def extract_by(run: Run, workers: list[list[Encoder]], config: ExtractConfig) -> Outcome:
    """Do what `extract` does with encoders that are loaded, the same ones for each worker."""
    cohort = run.cohort(*_READY)
    n_readers = config.readers or (1 if find_devices(config.device)[0] == "cpu" else _READERS * len(workers))
    outcome = gather(run, "extract", _Extraction(run, workers, config).results(cohort.slides, n_readers))
    tell_slides(run, outcome, "extracted", {})
    told = {"encoders": [asdict(encoder.config) for encoder in workers[0]], "extract": asdict(config)}
    run.note("extract", told | summary(outcome))
    return outcome


@dataclass(frozen=True)
class _Extraction:
    run: Run
    workers: list[list[Encoder]]
    config: ExtractConfig

    def results(self, slides: Sequence[CohortSlide], n_readers: int) -> Generator[Result, None, None]:
        """What became of each slide: first those that are kept, then the others as they are done."""
        n_tiles = {row["slide_id"]: n_tiles_of(row) for row in self.run.slides().to_dict("records")}
        jobs, by_id = [], {}
        for slide in slides:
            job = self._job(slide)
            if job.bags:
                jobs.append(job)
                by_id[slide.slide_id] = slide
            else:
                yield slide, self._status(slide.slide_id, n_tiles[slide.slide_id], KEPT)
        with progress("extract", sum(n_tiles[i] for i in by_id), unit="tiles") as advance:
            done = extract_cohort(
                jobs, self.workers, self.config, n_readers=n_readers, report=lambda n: advance("", n)
            )
            for slide in done:
                failed = slide.error
                yield by_id[slide.slide_id], failed or self._status(slide.slide_id, slide.n_tiles, DONE)

    def _status(self, slide_id: str, n_tiles: int, status: str) -> str:
        return status if n_tiles else status_of(load_grid(self.run.grid_path(slide_id)), status)

    def _job(self, slide: CohortSlide) -> ExtractJob:
        grid_path = self.run.grid_path(slide.slide_id)
        grid_fingerprint = stored_fingerprint(grid_path) or ""
        missing = {}
        for number, encoder in enumerate(self.workers[0]):
            path = self.run.features_path(encoder.card.name, slide.slide_id)
            if stored_fingerprint(path) != bag_fingerprint(grid_fingerprint, encoder, self.config):
                _refuse_other(path, encoder)
                missing[number] = path

        @contextmanager
        def opened() -> Iterator[tuple[Slide, TileGrid]]:
            grid = load_grid(grid_path)
            with open_slide(slide.path, id=slide.slide_id, mpp=grid.mpp) as found:
                yield found, grid

        return ExtractJob(slide.slide_id, opened, missing)


def _refuse_other(path: Path, encoder: Encoder) -> None:
    """Folders of two encoders may have one name, and only one of them has its bags in features/<name>."""
    with suppress(FormatError):  # what is not whole is no bag of another
        found = load_features(path, mapped=True)
        is_moved = found.encoder_fingerprint == encoder.fingerprint
        if found.encoder != encoder.card.name and not is_moved:
            raise ConfigError(
                f"{path.parent}: holds bags of {found.encoder!r}, not of {encoder.card.name!r}",
                hint="use another run folder, call the encoder's folder otherwise, or remove those bags",
            )
