"""The verb `pack`: all feature bags of a run in one place, to be copied or read at random."""

import time
from dataclasses import dataclass
from pathlib import Path

from features import FeatureStore, pack_features
from tiling import sweep

from .bag_files import BagFiles
from .progress import progress
from .run_folder import Run
from .with_features import with_features


@dataclass(frozen=True)
class Packing:
    """What a packing left: the store, and whether it was there already."""

    store: FeatureStore
    is_kept: bool
    seconds: float

    def __str__(self) -> str:
        told = "kept, nothing has changed" if self.is_kept else f"done in {self.seconds:.1f} s"
        return f"pack: {self.store}, {told}"


def pack(run: Run, encoder: str, address: Path | str | None = None) -> Packing:
    """Write the features of a run into one store, by default `RUN/features/<encoder>.zarr`.

    `address` is a local folder or an fsspec address. A store that holds just these bags is kept. Slides
    without features are left out, and told on stderr and in failures.csv.

    Raises:
        ConfigError: something else lies at `address`.
        FormatError: no slide has features of `encoder`.
        SlidebagError: a bag is of other tiles than its grid, or the bags are not alike.
    """
    started = time.monotonic()
    sweep(run.root)
    files = BagFiles(run, encoder)
    found = with_features(run, files, "pack")
    found.tell(run)
    ids = [s.slide_id for s in found.cohort.slides]
    sources = {slide_id: (run.grid_path(slide_id), files.path(slide_id)) for slide_id in ids}
    place = run.store_path(encoder) if address is None else address
    with progress("pack", len(sources)) as advance:
        is_new = pack_features(sources, place, advance=advance)
    done = Packing(FeatureStore(place), not is_new, time.monotonic() - started)
    told = {"encoder": encoder, "store": place, "fingerprint": done.store.fingerprint}
    run.note("pack", told | {"seconds": round(done.seconds, 2), "slides": len(done.store)})
    return done
