"""The cohorts that are pictures: MNIST-bags, the breast patches of 140 patients, and lung tiles."""

import hashlib
import zipfile
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
from cohorts import Task
from PIL import Image
from safetensors.numpy import load_file, save_file

from features import EncoderConfig, load_encoder
from mil.learner import Bag
from tiling import replacing

DIGIT = 9
BAG_SIZE, BAG_SIZE_SD = 10, 2  # as in arXiv 1802.04712
TRAIN_POOL, TEST_BAGS = 7000, 1000
LUNG_KINDS, LUNG_TILES, LUNG_BAG_SIZE = ("lung_n", "lung_aca", "lung_scc"), 80, 20
ENCODER, SIDE_PX = "dinov2-vits14", 224


def mnist_features(data: Path, cache: Path) -> dict[str, np.ndarray]:
    """Return features of MNIST's 10,000 test images by name, (10000, D) each.

    `mnist` are the pixels / 255; `mnist encoded` are by DINOv2 ViT-S/14 of the digits resized to 224 px, as
    slidebag sees tiles.
    """
    archive = data / "mil" / "mnist.npz"
    with np.load(archive) as file:
        images = file["x_test"]
    names = [str(i) for i in range(len(images))]
    encoded = _encoded(archive, names, lambda name: _digit(images[int(name)]), _weights(data), cache)
    return {"mnist": images.reshape(len(images), -1).astype(np.float32) / 255, "mnist encoded": encoded}


def mnist(data: Path, features: Mapping[str, np.ndarray], n_train: tuple[int, ...], seed: int) -> list[Task]:
    """Return a task for each of `features` and number of training bags: is a nine in the bag?

    Of MNIST's 10,000 test images 7,000 fill the training bags and 3,000 the 1,000 test bags; which, is
    drawn by `seed`, the same for all features.
    """
    with np.load(data / "mil" / "mnist.npz") as file:
        digits = file["y_test"]
    draw = np.random.default_rng(seed)
    order = draw.permutation(len(digits))
    test = _bags(order[TRAIN_POOL:], digits, TEST_BAGS, draw)
    tasks = []
    for n in n_train:
        picked = _bags(order[:TRAIN_POOL], digits, n, np.random.default_rng([seed, n])) + test
        truth = [(digits[rows] == DIGIT).astype(np.int8) for rows in picked]
        labels = np.array([each.any() for each in truth])
        numbers = np.arange(len(picked))
        for name, all_features in features.items():
            bags = [Bag(str(i), all_features[rows]) for i, rows in enumerate(picked)]
            tasks.append(Task(f"{name} {n}", bags, labels, numbers, truth, test=numbers >= n))
    return tasks


def _bags(pool: np.ndarray, digits: np.ndarray, n: int, draw: np.random.Generator) -> list[np.ndarray]:
    """Draw `n` bags of rows of `pool`, every other one with a nine."""
    found: list[np.ndarray] = []
    while len(found) < n:
        size = max(1, round(draw.normal(BAG_SIZE, BAG_SIZE_SD)))
        rows = draw.choice(pool, size, replace=False)
        if (digits[rows] == DIGIT).any() == (len(found) % 2 == 1):
            found.append(rows)
    return found


def idc(data: Path, cache: Path) -> list[Task]:
    """Return two tasks of invasive breast carcinoma, a bag a patient.

    `idc-any`: is there a patch of it? `idc-median`: is its share of the patches above the median of
    all patients? Patches of 50 px are resized to 224 and encoded by DINOv2 ViT-S/14 once.
    """
    archive = data / "tiles" / "idc.zip"
    with zipfile.ZipFile(archive) as file:
        names = sorted(name for name in file.namelist() if name.endswith(".png"))
        features = _encoded(archive, names, partial(_patch, file), _weights(data), cache)
    rows: dict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(names):
        rows[name.split("/")[1]].append(row)
    is_tumour = np.array([name.endswith("class1.png") for name in names])
    bags = [Bag(patient, features[of]) for patient, of in rows.items()]
    truth = [is_tumour[of].astype(np.int8) for of in rows.values()]
    share = np.array([each.mean() for each in truth])
    patients = np.array(list(rows))
    return [
        Task("idc-any", bags, share > 0, patients, truth),
        Task("idc-median", bags, share > np.median(share), patients, truth),
    ]


def lung(data: Path, cache: Path) -> list[Bag]:
    """Return bags of LC25000's lung tiles, each of tiles of one kind; 80 tiles a kind are encoded once."""
    archive = data / "tiles" / "lung.zip"
    with zipfile.ZipFile(archive) as file:
        names = sorted(name for name in file.namelist() if name.endswith(".jpeg"))
        kinds = {kind: [name for name in names if name.split("/")[1] == kind] for kind in LUNG_KINDS}
        picked = [name for of_kind in kinds.values() for name in of_kind[:LUNG_TILES]]
        features = _encoded(archive, picked, partial(_patch, file), _weights(data), cache)
    parts = np.split(features, len(features) // LUNG_BAG_SIZE)
    return [Bag(f"lung {i}", part) for i, part in enumerate(parts)]


def _encoded(
    archive: Path, names: list[str], picture: Callable[[str], np.ndarray], weights: Path, cache: Path
) -> np.ndarray:
    """Return the features of the pictures of an archive, float16 (N, D), from `cache` if they are there.

    `picture` returns that of a name, uint8 (224, 224, 3).
    """
    digest = hashlib.sha256(weights.read_bytes() + "\n".join(names).encode()).hexdigest()[:12]
    path = cache / f"{archive.stem}-{ENCODER}-{digest}.safetensors"
    if not path.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        encoder = load_encoder(EncoderConfig(encoder=ENCODER, weights=str(weights)))
        parts = []
        for start in range(0, len(names), encoder.batch):
            pictures = [picture(name) for name in names[start : start + encoder.batch]]
            parts.append(encoder.encode(np.stack(pictures)).astype(np.float16))
        with replacing(path) as new:
            save_file({"features": np.concatenate(parts)}, new)
    return load_file(path)["features"]


def _weights(data: Path) -> Path:
    return data / "weights" / "dinov2_vits14.safetensors"


def _patch(file: zipfile.ZipFile, name: str) -> np.ndarray:
    return _resized(Image.open(BytesIO(file.read(name))))


def _digit(pixels: np.ndarray) -> np.ndarray:
    return _resized(Image.fromarray(pixels))


def _resized(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("RGB").resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC))
