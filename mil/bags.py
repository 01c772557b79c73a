"""The bags of a run as learners take them: a slide each or a patient, readable tiles only, one encoder."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from features import BagConfig, EncoderConfig, FeatureBag, FeatureStore, load_bag_configs, load_features
from tiling import (
    ConfigError,
    FormatError,
    SlidebagError,
    TileGrid,
    fingerprint,
    load_grid,
    stored_fingerprint,
)

from .batch import status_of
from .classes import SEPARATOR, Classes, names_in
from .cohort import CohortSlide
from .learner import Bag
from .run_folder import Run
from .slide_table import CohortError

MOST_BYTES = 2 << 30  # of features in memory: patients of several slides, compressed or remote ones


@dataclass(frozen=True)
class SlideGroup:
    """The slides whose tiles are one bag: one slide, or all of a patient; `label` is "" if not known."""

    id: str
    label: str
    slides: tuple[CohortSlide, ...]


@dataclass(frozen=True)
class SlideRows:
    """What a bag has of a slide: which rows of its grid, bool (N,), and the file they are from."""

    slide_id: str
    readable: np.ndarray
    fingerprint: str

    def spread(self, values: np.ndarray, unread: float) -> np.ndarray:
        """Return values of the readable rows on the whole grid, else `unread`: (n, ...) -> (N, ...)."""
        whole = np.full((len(self.readable), *values.shape[1:]), unread, values.dtype)
        whole[self.readable] = values
        return whole


@dataclass(frozen=True)
class LoadedBag:
    """A learner's bag with its label and the slides that it holds, one after the other."""

    bag: Bag
    label: str
    slides: tuple[SlideRows, ...]
    encoder_fingerprint: str
    flags: tuple[str, ...] = ()  # why there is no row

    @property
    def fingerprint(self) -> str:
        """Return what changes with any file of the bag."""
        each = [slide.fingerprint for slide in self.slides]
        return each[0] if len(each) == 1 else fingerprint(*each)

    def by_slide(self) -> Iterator[tuple[SlideRows, slice]]:
        """Yield each slide with which rows of the bag are its own."""
        start = 0
        for slide in self.slides:
            end = start + int(slide.readable.sum())
            yield slide, slice(start, end)
            start = end

    def place(self, row: int) -> tuple[str, int]:
        """Return the slide of a row of the bag, and the row of its grid."""
        slide, own = next((slide, own) for slide, own in self.by_slide() if row < own.stop)
        return slide.slide_id, int(np.flatnonzero(slide.readable)[row - own.start])


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
    if found.encoder != encoder:
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


def group_slides(slides: Sequence[CohortSlide], by: str, classes: Classes) -> list[SlideGroup]:
    """Return the slides of each bag, by "slide" or by "patient".

    A patient has the label of any slide that has one; where classes do not exclude each other, those of
    all slides together.

    Raises:
        CohortError: slides of one patient have labels that exclude each other.
    """
    if by == "slide":
        return [SlideGroup(slide.slide_id, slide.label, (slide,)) for slide in slides]
    patients: dict[str, list[CohortSlide]] = {}
    for slide in slides:
        patients.setdefault(slide.patient_id, []).append(slide)
    return [SlideGroup(i, _label_of(i, own, classes), tuple(own)) for i, own in patients.items()]


def _label_of(patient: str, slides: Sequence[CohortSlide], classes: Classes) -> str:
    found = {name: slide.slide_id for slide in slides for name in names_in(slide.label)}
    if classes.is_exclusive and len(found) > 1:
        told = " and ".join(f"{slide_id} is {name}" for name, slide_id in sorted(found.items()))
        raise CohortError(
            f"patient {patient!r} has slides of different labels: {told}",
            hint="give all slides of a patient one label, or leave out --bag patient",
        )
    if classes.has_negative and len(found) > 1:
        found.pop(classes.names[0], None)
    return SEPARATOR.join(sorted(found))


def load_bag(
    source: Bags, group: SlideGroup, annotations: Mapping[str, np.ndarray] | None = None
) -> LoadedBag:
    """Read the readable tiles of a bag's slides; `annotations` are the candidates of some, by slide.

    Raises:
        SlidebagError: features are missing, or those of its slides are of different encoders or weights.
    """
    stored = [source.bag(slide.slide_id) for slide in group.slides]
    for other in stored[1:]:
        if other.encoder_fingerprint != stored[0].encoder_fingerprint:
            raise _other_encoder(other.slide_id, stored[0].slide_id)
    features = [bag.features[~bag.unreadable] if bag.unreadable.any() else bag.features for bag in stored]
    return LoadedBag(
        Bag(
            group.id,
            features[0] if len(features) == 1 else np.concatenate(features),
            candidates=_candidates(stored, annotations or {}),
            patient=group.slides[0].patient_id,
        ),
        group.label,
        tuple(SlideRows(bag.slide_id, ~bag.unreadable, bag.fingerprint) for bag in stored),
        stored[0].encoder_fingerprint,
        () if any(map(len, stored)) else _why_empty(source, group),
    )


def _why_empty(source: Bags, group: SlideGroup) -> tuple[str, ...]:
    """Each reason once: a patient may have a slide without tissue and one without a tile."""
    return tuple(dict.fromkeys(status_of(source.grid(slide.slide_id), "") for slide in group.slides))


def _candidates(stored: Sequence[FeatureBag], annotations: Mapping[str, np.ndarray]) -> np.ndarray | None:
    known = [annotations[bag.slide_id] for bag in stored if bag.slide_id in annotations]
    if not known:
        return None
    n_classes = known[0].shape[1]
    parts = [annotations.get(bag.slide_id, np.ones((len(bag), n_classes), bool)) for bag in stored]
    return np.concatenate([part[~bag.unreadable] for part, bag in zip(parts, stored, strict=True)])


def load_bags(
    source: Bags,
    groups: Sequence[SlideGroup],
    annotations: Mapping[str, np.ndarray] | None = None,
    *,
    to_file: Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]] | None = None,
    most_bytes: int = MOST_BYTES,
    share: bool = False,
) -> list[LoadedBag]:
    """Read some bags; `annotations` are the candidates of the tiles of some slides.

    Features that are a view of a file stay there. Others are in memory, or where `to_file` is given, of
    all bags together at most `most_bytes` and one bag: what is more goes through it, into a file. To
    `share` them with other processes, all go.

    Raises:
        SlidebagError: features are missing, or those of the slides are of different encoders or weights.
        WriteError: there is no room for what does not fit into memory.
    """
    bags: list[LoadedBag] = []
    held: list[int] = []
    n_bytes = 0
    for number, group in enumerate(groups):
        bags.append(load_bag(source, group, annotations))
        if bags[-1].encoder_fingerprint != bags[0].encoder_fingerprint:
            raise _other_encoder(group.slides[0].slide_id, groups[0].slides[0].slide_id)
        features = bags[-1].bag.features
        if features.flags.writeable:  # views of files are not
            held.append(number)
            n_bytes += features.nbytes
        is_last = number == len(groups) - 1
        if to_file and (n_bytes > most_bytes or (share and is_last and n_bytes)):
            for i, each in zip(held, to_file([bags[i].bag.features for i in held]), strict=True):
                bags[i] = replace(bags[i], bag=replace(bags[i].bag, features=each))
            held, n_bytes = [], 0
    return bags


def _other_encoder(slide_id: str, first: str) -> SlidebagError:
    return SlidebagError(
        f"{slide_id}: its features are of other weights, precision or stain than those of {first}",
        hint="extract all slides of the run with the same encoder, weights and options; "
        "remove the bags of those that cannot be",
    )
