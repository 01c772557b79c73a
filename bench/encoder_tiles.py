"""Deal real tiles into those that an encoder may learn from and those that it never sees.

Each half has whole groups: patients of idc.zip, and pictures of crc.zip whose numbers share their hundreds,
as neighbours may be of one slide; pictures of lung.zip are of different sources each. A group is held out
if the SHA-256 of "<archive>/<group>" is even, so no list is kept and no seed chosen.

    python bench/encoder_tiles.py --tiles $SLIDEBAG_DATA/tiles --out OUT

writes OUT/learn/<archive>/<class>/* for `slidebag pretrain`, and OUT/held_out likewise, <archive>.csv of both
for `slidebag probe`, and OUT/held_out/crc.zip for bench/crc_slides.py. The last line is JSON: how many of
each.
"""

import argparse
import hashlib
import json
import re
import zipfile
from collections import Counter
from pathlib import Path

import pandas as pd

ARCHIVES = ("crc", "lung", "idc")
_PICTURES = (".jpg", ".jpeg", ".png")
_PER_SLIDE = 100  # consecutive numbers that may be of one slide


def class_and_group(archive: str, name: str) -> tuple[str, str]:
    """Return the class of a picture of an archive, and the group that stays on one side."""
    path = Path(name)
    if archive == "idc":
        return path.stem.rpartition("_")[2], path.parent.name
    if archive == "lung":
        return path.parent.name, path.stem
    number = int(re.findall(r"\d+", path.stem)[-1])
    return path.parent.name, f"{path.parent.name}-{number // _PER_SLIDE}"


def is_held_out(archive: str, group: str) -> bool:
    return hashlib.sha256(f"{archive}/{group}".encode()).digest()[-1] % 2 == 0


def deal(archive: zipfile.ZipFile, name: str, out: Path) -> Counter[str]:
    """Write the pictures of one archive to both sides; return how many there are of each side and class."""
    counts: Counter[str] = Counter()
    rows: dict[str, list[dict[str, str]]] = {"held_out": [], "learn": []}
    for picture in sorted(p for p in archive.namelist() if p.lower().endswith(_PICTURES)):
        label, group = class_and_group(name, picture)
        side = "held_out" if is_held_out(name, group) else "learn"
        counts[f"{side} {name} {label}"] += 1
        file = out / side / name / label / Path(picture).name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(archive.read(picture))
        rows[side].append({"file": f"{name}/{label}/{file.name}", "label": label, "group": group})
    for side, of_side in rows.items():
        pd.DataFrame(of_side).to_csv(out / side / f"{name}.csv", index=False)
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tiles", type=Path, required=True, help="folder of crc.zip, lung.zip, idc.zip")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    counts: Counter[str] = Counter()
    for name in ARCHIVES:
        with zipfile.ZipFile(args.tiles / f"{name}.zip") as archive:
            counts += deal(archive, name, args.out)
    with zipfile.ZipFile(args.out / "held_out" / "crc.zip", "w") as held_out:
        for file in sorted((args.out / "held_out" / "crc").rglob("*.*")):
            held_out.write(file, file.relative_to(args.out / "held_out").as_posix())
    print(json.dumps(dict(sorted(counts.items()))))


if __name__ == "__main__":
    main()
