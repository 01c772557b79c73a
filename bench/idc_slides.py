"""Build two slides of each breast patient from labelled patches: benign ones, and some with carcinoma.

A cohort to learn from for the two whole sections of the same data set: patches and sections are of one
resolution. Patients whose sections are to be predicted are left out. Half of a patient's benign patches
make the benign slide, the other half and the carcinoma the other one, side by side in random order.
"""

import argparse
import csv
import io
import zipfile
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image

from tiling import replacing, write_slide

PATCH_PX, MPP = 50, 4.0


def build_cohort(archive: Path, out: Path, *, without: frozenset[str], seed: int) -> dict[str, int]:
    """Write `slides/` and `slides.csv` into `out`; return how many slides and patches there are."""
    rng, rows, n_patches = np.random.default_rng(seed), [], 0
    with zipfile.ZipFile(archive) as file:
        names = sorted(name for name in file.namelist() if name.endswith(".png"))
        of_patient: dict[str, list[str]] = defaultdict(list)
        for name in names:
            of_patient[name.split("/")[1]].append(name)
        for patient in sorted(of_patient.keys() - without):
            own = rng.permutation(of_patient[patient]).tolist()
            benign = [name for name in own if name.endswith("class0.png")]
            tumour = [name for name in own if name.endswith("class1.png")]
            half = len(benign) // 2 if tumour else 0
            parts = {"benign": benign[half:], "carcinoma": benign[:half] + tumour if tumour else []}
            for label, picked in parts.items():
                if not picked:
                    continue
                patches = [_patch(file, name) for name in rng.permutation(picked).tolist()]
                write_slide(out / "slides" / f"{patient}-{label}.svs", lay(patches), mpp=MPP)
                rows.append({"slide": f"{patient}-{label}", "label": label, "patient": patient})
                n_patches += len(picked)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with replacing(out / "slides.csv") as new:
        new.write_text(text.getvalue())
    return {"slides": len(rows), "patches": n_patches, "carcinoma": sum(r["label"] != "benign" for r in rows)}


def lay(patches: list[np.ndarray]) -> np.ndarray:
    """Lay patches side by side on glass, one patch wide all round, uint8 (H, W, 3)."""
    columns = int(np.ceil(np.sqrt(len(patches))))
    rows = -(-len(patches) // columns)
    slide = np.full(((rows + 2) * PATCH_PX, (columns + 2) * PATCH_PX, 3), 245, np.uint8)
    for number, patch in enumerate(patches):
        y, x = ((1 + n) * PATCH_PX for n in divmod(number, columns))
        slide[y : y + patch.shape[0], x : x + patch.shape[1]] = patch
    return slide


def _patch(file: zipfile.ZipFile, name: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(file.read(name))).convert("RGB"))[:PATCH_PX, :PATCH_PX]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=Path, required=True, help="idc.zip: idc/<patient>/..._class<0|1>.png")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--without", nargs="*", default=("14082", "14306"), help="patients to leave out")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(build_cohort(args.tiles, args.out, without=frozenset(args.without), seed=args.seed))


if __name__ == "__main__":
    main()
