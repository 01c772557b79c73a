"""The cohorts that are pictures: MNIST-bags, the breast patches of 140 patients, and lung tiles."""

import hashlib
import zipfile
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from cohorts import Task
from PIL import Image
from safetensors.numpy import load_file, save_file

from features import EncoderConfig, load_encoder
from features.views import augment, view_seeds
from mil.learner import Bag
from tiling import replacing

DIGIT = 9
BAG_SIZE, BAG_SIZE_SD = 10, 2  # as in arXiv 1802.04712
TRAIN_POOL, TEST_BAGS = 7000, 1000
LUNG_KINDS, LUNG_TILES, LUNG_BAG_SIZE = ("lung_n", "lung_aca", "lung_scc"), 80, 20
ENCODER, SIDE_PX = "dinov2-vits14", 224
# a view of a digit is so much turned, sheared, larger or smaller, and moved
TURN_DEG, SHEAR, SCALE, SHIFT_PX = 15, 0.2, 0.15, 2.5

ViewsOf = Callable[[np.ndarray], np.ndarray]  # of some digits (n,): (n, K, D)


def digits_encoded(data: Path, cache: Path) -> np.ndarray:
    """Return features (10000, D) of MNIST's test images, resized to 224 px, by DINOv2 ViT-S/14."""
    images = mnist_images(data)
    names = [str(i) for i in range(len(images))]
    archive = data / "mil" / "mnist.npz"
    return _encoded(
        archive, names, lambda name: _digit(images[int(name)]), weights=_weights(data), cache=cache
    )


def mnist_images(data: Path) -> np.ndarray:
    """Return MNIST's 10,000 test images, uint8 (10000, 28, 28)."""
    with np.load(data / "mil" / "mnist.npz") as file:
        return file["x_test"]


def pixels(images: np.ndarray) -> np.ndarray:
    """Return images (n, side, side) as vectors: float32 (n, side * side), 0 to 1."""
    return images.reshape(len(images), -1).astype(np.float32) / 255


def digit_views(images: np.ndarray, n_views: int, digits: np.ndarray) -> np.ndarray:
    """Return the pixels of `n_views` of each of some images, (n, K, D), the same whenever one is asked."""
    return np.stack(
        [pixels(np.stack([_moved(images[i], np.random.default_rng([i, k])) for k in range(n_views)]))
         for i in digits.tolist()]
    )  # fmt: skip


def _moved(image: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    middle = (image.shape[0] - 1) / 2
    turn, scale = draw.uniform(-TURN_DEG, TURN_DEG), draw.uniform(1 - SCALE, 1 + SCALE)
    affine = cv2.getRotationMatrix2D((middle, middle), turn, scale)
    shear = draw.uniform(-SHEAR, SHEAR)
    affine[0] += [0, shear, -shear * middle]
    affine[:, 2] += draw.uniform(-SHIFT_PX, SHIFT_PX, 2)
    return cv2.warpAffine(image, affine, image.shape)


def mnist(
    data: Path,
    features: Mapping[str, np.ndarray],
    n_train: tuple[int, ...],
    seed: int,
    views_of: ViewsOf | None = None,
) -> list[Task]:
    """Return a task for each of `features` and number of training bags: is a nine in the bag?

    Of MNIST's 10,000 test images 7,000 fill the training bags and 3,000 the 1,000 test bags; which, is
    drawn by `seed`, the same for all features. Of the training bags' digits there are views, if any.
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
            bags = [
                Bag(str(i), all_features[rows], views=views_of(rows) if views_of and i < n else None)
                for i, rows in enumerate(picked)
            ]
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


def idc(data: Path, cache: Path, n_views: int = 0) -> list[Task]:
    """Return two tasks of invasive breast carcinoma, a bag a patient.

    `idc-any`: is there a patch of it? `idc-median`: is its share of the patches above the median of
    all patients? Patches of 50 px are resized to 224 and encoded by DINOv2 ViT-S/14 once, and so
    are `n_views` of each, made as `extract --views` makes them.
    """
    archive = data / "tiles" / "idc.zip"
    with zipfile.ZipFile(archive) as file:
        names = sorted(name for name in file.namelist() if name.endswith(".png"))
        encoded = partial(_encoded, archive, weights=_weights(data), cache=cache)
        features = encoded(names, partial(_patch, file))
        numbered = [[f"{name}#{k}" for name in names] for k in range(n_views)]
        views = [encoded(own, partial(_view, file, names, k)) for k, own in enumerate(numbered)]
    rows: dict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(names):
        rows[name.split("/")[1]].append(row)
    is_tumour = np.array([name.endswith("class1.png") for name in names])
    bags = [
        Bag(patient, features[of], views=np.stack([each[of] for each in views], axis=1) if views else None)
        for patient, of in rows.items()
    ]
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
        features = _encoded(archive, picked, partial(_patch, file), weights=_weights(data), cache=cache)
    parts = np.split(features, len(features) // LUNG_BAG_SIZE)
    return [Bag(f"lung {i}", part) for i, part in enumerate(parts)]


def _encoded(
    archive: Path, names: list[str], picture: Callable[[str], np.ndarray], *, weights: Path, cache: Path
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


def _view(file: zipfile.ZipFile, names: list[str], number: int, name: str) -> np.ndarray:
    """One view of a patch, whose name is followed by `#` and the number."""
    plain = name.rpartition("#")[0]
    seeds = view_seeds("idc", np.array([bisect_left(names, plain)]), number)
    return augment(_patch(file, plain)[None], seeds)[0]


def _digit(pixels: np.ndarray) -> np.ndarray:
    return _resized(Image.fromarray(pixels))


def _resized(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("RGB").resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC))
