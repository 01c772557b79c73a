"""Which of another tool's files is of which slide: by the slide's id, or by the name that it alone has."""

from collections import Counter
from pathlib import Path

from tiling import ConfigError, FormatError

from .cohort import Cohort


def files_by_slide(folder: Path, endings: tuple[str, ...], cohort: Cohort) -> dict[str, list[Path]]:
    """Return the files of each slide below `folder`, of the first ending that any file there has.

    Raises:
        ConfigError: no file has one of the endings.
    """
    for ending in endings:
        found = [path for path in sorted(folder.rglob(f"*{ending}")) if not path.name.startswith(".")]
        if found:
            return _by_slide(found, folder, ending, cohort)
    raise ConfigError(
        f"{folder}: no file there ends in {' or '.join(endings)}",
        hint="name the folder of the other tool's files, check --format",
    )


def _by_slide(files: list[Path], folder: Path, ending: str, cohort: Cohort) -> dict[str, list[Path]]:
    """The files of each slide: those whose path ends in its id, else those of a name that it alone has."""
    ids = {slide.slide_id for slide in cohort.slides}
    names = Counter(slide_id.rpartition("/")[2] for slide_id in ids)
    by_id: dict[str, list[Path]] = {}
    by_name: dict[str, list[Path]] = {}
    for path in files:
        parts = path.relative_to(folder).as_posix().removesuffix(ending).split("/")
        tails = ("/".join(parts[k:]) for k in range(len(parts)))
        owner = next((tail for tail in tails if tail in ids), None)  # the longest, so "a/one" before "one"
        found = by_name.setdefault(parts[-1], []) if owner is None else by_id.setdefault(owner, [])
        found.append(path)
    owned = {}
    for slide_id in ids:
        name = slide_id.rpartition("/")[2]
        owned[slide_id] = by_id.get(slide_id) or (by_name.get(name, []) if names[name] == 1 else [])
    return owned


def only_file(owned: dict[str, list[Path]], slide_id: str, folder: Path) -> Path:
    """Return the one file of a slide; raises FormatError where there is none, or more than one."""
    found = owned.get(slide_id, [])
    if len(found) > 1:
        names = " and ".join(path.relative_to(folder).as_posix() for path in found[:2])
        raise FormatError(
            f"{slide_id}: could be {names} below {folder}", hint="name the folder of just these files"
        )
    if not found:
        raise FormatError(
            f"{slide_id}: no file of that name below {folder}",
            hint="name the file by the slide's id; CLAM and STAMP write none for a slide without tissue",
        )
    return found[0]
