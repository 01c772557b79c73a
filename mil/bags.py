"""The bags of a run as learners take them: a slide each or a patient, readable tiles only, one encoder."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from features import FeatureBag
from tiling import FormatError, SlidebagError, fingerprint

from .bag import Bag
from .bag_files import Bags
from .batch import status_of
from .classes import SEPARATOR, Classes, names_in
from .cohort import CohortSlide
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
    source: Bags,
    group: SlideGroup,
    annotations: Mapping[str, np.ndarray] | None = None,
    *,
    with_views: bool = False,
) -> LoadedBag:
    """Read the readable tiles of a bag's slides; `annotations` are the candidates of some, by slide.

    Views of tiles, which only training asks for, are read `with_views`.

    Raises:
        SlidebagError: features are missing, or those of its slides are of different encoders or weights.
    """
    stored = [source.bag(slide.slide_id) for slide in group.slides]
    for other in stored[1:]:
        if other.encoder_fingerprint != stored[0].encoder_fingerprint:
            raise _other_encoder(other.slide_id, stored[0].slide_id)
    features = [_kept(bag.features, ~bag.unreadable) for bag in stored]
    return LoadedBag(
        Bag(
            group.id,
            features[0] if len(features) == 1 else np.concatenate(features),
            candidates=_candidates(stored, annotations or {}),
            views=_views(source, stored) if with_views else None,
            patient=group.slides[0].patient_id,
        ),
        group.label,
        tuple(SlideRows(bag.slide_id, ~bag.unreadable, bag.fingerprint) for bag in stored),
        stored[0].encoder_fingerprint,
        () if any(map(len, stored)) else _why_empty(source, group),
    )


def _kept(rows: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """The readable rows, which need no copy where all are."""
    return rows if kept.all() else rows[kept]


def _views(source: Bags, stored: Sequence[FeatureBag]) -> np.ndarray | None:
    """The views of a bag's readable tiles: as many of each as all its slides have."""
    found = {bag.slide_id: source.views(bag.slide_id) for bag in stored}
    there = {slide_id: views for slide_id, views in found.items() if views is not None}
    if len(there) < len(found):
        return None
    for bag in stored:
        if len(there[bag.slide_id]) != len(bag):
            raise FormatError(
                f"{bag.slide_id}: {len(there[bag.slide_id])} rows of views, {len(bag)} of features",
                hint="extract this slide again",
            )
    n_views = min(views.shape[1] for views in there.values())
    parts = [_kept(there[bag.slide_id][:, :n_views], ~bag.unreadable) for bag in stored]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


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
    """Read some bags, the labelled ones with views; `annotations` are the candidates of some slides' tiles.

    What is mapped from a file stays there. Other features and views are in memory, or where `to_file` is
    given, of all bags together at most `most_bytes` and one bag: what is more goes through it, into a file.
    To `share` them with other processes, all go.

    Raises:
        SlidebagError: features are missing, or those of the slides are of different encoders or weights.
        WriteError: there is no room for what does not fit into memory.
    """
    bags: list[LoadedBag] = []
    held: list[tuple[int, str]] = []
    n_bytes = 0
    for number, group in enumerate(groups):
        bags.append(load_bag(source, group, annotations, with_views=bool(group.label)))
        if bags[-1].encoder_fingerprint != bags[0].encoder_fingerprint:
            raise _other_encoder(group.slides[0].slide_id, groups[0].slides[0].slide_id)
        for name, rows in bags[-1].bag.numbers.items():
            if rows.flags.writeable:  # what lies in files is not
                held.append((number, name))
                n_bytes += rows.nbytes
        is_last = number == len(groups) - 1
        if to_file and (n_bytes > most_bytes or (share and is_last and n_bytes)):
            in_files = to_file([bags[i].bag.numbers[name] for i, name in held])
            for (i, name), each in zip(held, in_files, strict=True):
                bags[i] = replace(bags[i], bag=replace(bags[i].bag, **{name: each}))
            held, n_bytes = [], 0
    return bags


def _other_encoder(slide_id: str, first: str) -> SlidebagError:
    return SlidebagError(
        f"{slide_id}: its features are of other weights, precision or stain than those of {first}",
        hint="extract all slides of the run with the same encoder, weights and options; "
        "remove the bags of those that cannot be",
    )
