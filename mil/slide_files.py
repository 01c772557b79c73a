"""Slide files below a folder as they are: links, MIRAX and DICOM folders, slides of one name."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .dicom_series import series_of
from .slide_table import CohortError, names_of_one

SUFFIXES = frozenset(
    ".svs .tif .tiff .btf .ptif .ndpi .vms .vmu .scn .mrxs .svslide .bif .dcm .czi .zarr".split()  # noqa: SIM905
)
PICTURES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".webp"))  # which may as well be a mask, or anything


@dataclass
class _Folder:
    """One folder's own content, hidden files left out; links are told from real folders."""

    path: Path
    files: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    links: list[Path] = field(default_factory=list)


def find_slides(folder: Path, named: Iterable[str] = ()) -> dict[str, Path]:
    """Return slide files by id: the path below the folder without its suffix.

    Slides of one name in one folder keep their suffix in the id. Of a DICOM series only the first file
    counts; where the series is all that its folder holds, the folder's path is the id. Links are
    followed, but no folder is looked through twice; a link that leads nowhere is a slide that fails
    when it is opened. A picture counts if it has one of the names `named` and no other slide has that.

    Raises:
        CohortError: there is no such folder, it cannot be read, or it holds no slides.
    """
    if folder.is_file() or folder.suffix.lower() == ".zarr":
        return {folder.stem: folder}
    if not folder.is_dir():
        raise CohortError(f"{folder}: no such folder", hint="name the folder that holds the slides")
    found: dict[Path, str] = {}
    pictures: dict[Path, str] = {}
    for content in _walk(folder):
        found |= _slides_in(content, folder)
        pictures |= {p: _id_of(p, folder) for p in content.files if p.suffix.lower() in PICTURES}
    taken = {name for path, i in found.items() for name in names_of_one(i, path)}
    wanted = {Path(name).as_posix() for name in named} - taken
    found |= {path: i for path, i in pictures.items() if wanted & names_of_one(i, path)}
    if not found:
        raise CohortError(
            f"{folder}: no slides there",
            hint=f"slides end in {' '.join(sorted(SUFFIXES))}; pictures ({' '.join(sorted(PICTURES))}) count "
            "where a slide table (--table) names them",
        )
    while shared := {i for i, count in Counter(found.values()).items() if count > 1}:
        # whole names differ, so this ends: at the latest when every slide has its own
        found |= {p: p.relative_to(folder).as_posix() for p, i in found.items() if i in shared}
    return {slide_id: path for path, slide_id in sorted(found.items(), key=lambda item: item[1])}


def _walk(top: Path) -> Iterator[_Folder]:
    """Every folder once, real ones first: a linked one is left out where its target is met anyway."""
    waiting, links, seen = [top], [], set()
    while waiting or links:
        path = waiting.pop(0) if waiting else links.pop(0)
        real = path.resolve()
        if real in seen:
            continue
        seen.add(real)
        content = _content(path)
        yield content
        waiting += content.folders
        links += content.links


def _content(path: Path) -> _Folder:
    content = _Folder(path)
    try:
        entries = sorted(os.scandir(path), key=lambda entry: entry.name)
    except OSError as error:
        raise CohortError(
            f"{path}: cannot be read ({error.strerror})", hint="check permissions, or move it elsewhere"
        ) from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if not _is_folder(entry) or Path(entry).suffix.lower() == ".zarr":  # that folder is one slide
            content.files.append(Path(entry))
        elif entry.is_symlink():
            content.links.append(Path(entry))
        else:
            content.folders.append(Path(entry))
    mirax = {p.stem for p in content.files if p.suffix.lower() == ".mrxs"}
    for kind in ("folders", "links"):
        kept = [p for p in getattr(content, kind) if p.name not in mirax or not _is_mirax_data(p)]
        setattr(content, kind, kept)
    return content


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_mirax_data(folder: Path) -> bool:
    return any(p.suffix.lower() in {".dat", ".ini"} for p in folder.iterdir())


def _slides_in(content: _Folder, top: Path) -> dict[Path, str]:
    """The slides that lie in one folder itself, with their ids."""
    slides = [p for p in content.files if p.suffix.lower() in SUFFIXES]
    series: dict[str, list[Path]] = {}
    for path in slides:
        if path.suffix.lower() == ".dcm":
            series.setdefault(series_of(path) or path.name, []).append(path)
    others = [p for p in slides if p.suffix.lower() != ".dcm"]
    firsts = [files[0] for files in series.values()]
    if len(firsts) == 1 and not others and len(slides) > 1:
        is_top = content.path == top
        return {firsts[0]: top.resolve().name if is_top else content.path.relative_to(top).as_posix()}
    return {p: _id_of(p, top) for p in [*others, *firsts]}


def _id_of(path: Path, top: Path) -> str:
    return path.relative_to(top).with_suffix("").as_posix()
