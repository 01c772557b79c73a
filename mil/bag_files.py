"""Where the bags of a run are: in its own files, one a slide, or in a packed store."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from features import (
    BagConfig,
    EncoderConfig,
    FeatureBag,
    FeatureStore,
    load_bag_configs,
    load_beside,
    load_features,
    whole_path,
)
from tiling import ConfigError, FormatError, TileGrid, load_grid, stored_fingerprint

from .run_folder import Run


class Bags(Protocol):
    """Where the bags of one encoder are: the run's own files, or a packed store."""

    @property
    def encoder(self) -> str:
        """The encoder's name."""
        ...

    def __contains__(self, slide_id: object) -> bool:
        """Whether there is a bag of a slide."""
        ...

    def bag(self, slide_id: str) -> FeatureBag:
        """Return all features of a slide; raises FormatError where there are none."""
        ...

    def grid(self, slide_id: str) -> TileGrid:
        """Return the tiles of a slide; raises FormatError where there are none."""
        ...

    def views(self, slide_id: str) -> np.ndarray | None:
        """Return the features of views of a slide's tiles, (N, K, D), if they were kept."""
        ...

    def configs(self, slide_id: str) -> tuple[EncoderConfig, BagConfig]:
        """Return how a slide's bag was made; raises FormatError where there is none."""
        ...


@dataclass(frozen=True)
class BagFiles:
    """The bags and grids of a run, one HDF5 file a slide."""

    run: Run
    encoder: str

    def __contains__(self, slide_id: object) -> bool:
        """Whether the slide has a file."""
        return self.run.features_path(self.encoder, str(slide_id)).is_file()

    def path(self, slide_id: str) -> Path:
        """Return the file of a slide's bag; raises FormatError where there is none."""
        path = self.run.features_path(self.encoder, slide_id)
        if not path.is_file():
            raise FormatError(
                f"{slide_id}: has no features of {self.encoder!r} in {self.run.root}",
                hint=f"run `slidebag extract {self.run.root} --encoder {self.encoder}`",
            )
        return path

    def bag(self, slide_id: str) -> FeatureBag:
        """Return the bag in the slide's file; raises FormatError where it is of other tiles than the grid."""
        return load_features(self.path(slide_id), grid=self.run.grid_path(slide_id), mapped=True)

    def grid(self, slide_id: str) -> TileGrid:
        """Return the grid in the slide's file."""
        return load_grid(self.run.grid_path(slide_id))

    def views(self, slide_id: str) -> np.ndarray | None:
        """Return those in the slide's file."""
        kept = self.configs(slide_id)[1].views
        return load_beside(self.path(slide_id), "views", mapped=True) if kept else None

    def configs(self, slide_id: str) -> tuple[EncoderConfig, BagConfig]:
        """Return how the bag in the slide's file was made."""
        return load_bag_configs(self.path(slide_id))


def find_bags(run: Run, encoder: str, store: Path | str | None = None) -> Bags:
    """Return the bags of a run: of `store` if one is named, else its files, else its own packed store.

    Raises:
        ConfigError: the store is of another encoder.
        FormatError: the store is not whole, or what it was packed from has changed since.
    """
    own = run.store_path(encoder)
    if store is None and (run.features_folder(encoder).is_dir() or not own.is_dir()):
        return BagFiles(run, encoder)
    found = FeatureStore(own if store is None else store)
    if found.encoder not in (encoder, whole_path(encoder)):
        raise ConfigError(
            f"{found.address}: holds features of {found.encoder!r}, not of {encoder!r}",
            hint=f"give --encoder {found.encoder}, or another store",
        )
    for slide_id in found.slide_ids:
        _check_fresh(run, slide_id, found)
    return found


def _check_fresh(run: Run, slide_id: str, store: FeatureStore) -> None:
    """A store without the files that it was packed from is believed; beside them, it must be of them."""
    packed = {
        run.grid_path(slide_id): store.grid_fingerprint(slide_id),
        run.features_path(store.encoder, slide_id): str(store.header(slide_id)["fingerprint"]),
    }
    for path, expected in packed.items():
        if path.is_file() and stored_fingerprint(path) != expected:
            raise FormatError(
                f"{slide_id}: {path} has changed since {store.address} was packed",
                hint=f"run `slidebag pack {run.root} --encoder {store.encoder}` again",
            )
