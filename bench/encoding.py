"""Patches per second of slidebag's engines and of torch, same weights, interleaved in one run on one CPU.

    python bench/encoding.py [--rounds 5] [--batch 32] [--json] [--networks vits14 vitb16]

vits14 is DINOv2's ViT-S/14, with its own weights if SLIDEBAG_DATA points at them, else random; vitb16 is a
ViT-B/16 with random weights. The patches are real tiles of SLIDEBAG_DATA if they are there, else drawn.
"torch float32" is what peers run on a CPU: eager, in inference mode, patches normalised as one batch.

Rates are of CPU time, as a machine to oneself would have them: patches / (CPU seconds / threads), of the
median round; other programs then change them little. Cosines are to torch's float32 features; centred ones
have the mean feature removed first. The share of peak is the network's own operations, counted by torch,
over the rate of a large matrix product of the same precision in the same run (int8: over bfloat16's times
two). The last line is one JSON object.
"""

import argparse
import json
import os
import time
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from features import EncoderCard, EncoderConfig
from features.engine import start_engine
from features.network import Network
from features.pooling import POOLINGS
from tiling import PhantomConfig, render_phantom

SIDE_PX = 224
DATA = Path(os.environ.get("SLIDEBAG_DATA", "no-data"))
NETWORKS = {"vits14": "vit_small_patch14_dinov2", "vitb16": "vit_base_patch16_224"}
ENGINES = {
    "torch bfloat16": ("torch", "bfloat16"),
    "slidebag float32": ("openvino", "float32"),
    "slidebag": ("auto", "auto"),
    "slidebag int8": ("openvino", "int8"),
}
CARD = EncoderCard(
    name="network",
    dim=1,
    input_px=SIDE_PX,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    licence="",
    source="",
)


def load_network(name: str) -> tuple[torch.nn.Module, str]:
    weights = DATA / "weights" / "dinov2_vits14.safetensors"
    torch.manual_seed(0)
    network = timm.create_model(NETWORKS[name], num_classes=0, dynamic_img_size=True)
    if name == "vits14" and weights.is_file():
        network.load_state_dict({key: value.float() for key, value in load_file(weights).items()})
        return network.eval(), "its own weights"
    return network.eval(), "random weights"


def as_encoded(network: torch.nn.Module) -> torch.nn.Module:
    """The network as slidebag's encoders have it: of the last block it computes the class token alone."""
    return Network(network, POOLINGS["class token"])


def load_patches(n: int) -> tuple[np.ndarray, str]:
    """Return uint8 (n, 224, 224, 3), and where they are from."""
    archive = DATA / "tiles" / "crc.zip"
    if archive.is_file():
        with zipfile.ZipFile(archive) as file:
            names = sorted(name for name in file.namelist() if name.endswith((".png", ".jpg", ".jpeg")))
            picked = np.random.default_rng(0).choice(len(names), n, replace=False)
            images = [Image.open(BytesIO(file.read(names[k]))).convert("RGB") for k in picked]
        return np.stack([np.asarray(image) for image in images]), "real tiles of colorectal tissue"
    side = SIDE_PX * int(np.ceil(np.sqrt(n)))
    # another seed than those that int8 takes its ranges from
    pixels = render_phantom(PhantomConfig(size_px=(side, side), tissue_share=0.7, seed=1000)).pixels
    corners = [(y, x) for y in range(0, side, SIDE_PX) for x in range(0, side, SIDE_PX)]
    return np.stack([pixels[y : y + SIDE_PX, x : x + SIDE_PX] for y, x in corners[:n]]), "drawn tiles"


def eager(network: torch.nn.Module) -> Callable[[np.ndarray], np.ndarray]:
    mean, std = torch.tensor(CARD.mean).view(3, 1, 1), torch.tensor(CARD.std).view(3, 1, 1)

    @torch.inference_mode()
    def encode(patches: np.ndarray) -> np.ndarray:
        images = torch.from_numpy(patches).permute(0, 3, 1, 2).float() / 255
        return network((images - mean) / std).numpy()

    return encode


def ways_of(name: str) -> dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]]:
    """Return the ways to encode: name -> (precision, patches to features)."""
    ways = {"torch float32": ("float32", eager(load_network(name)[0]))}
    for way, (engine, precision) in ENGINES.items():
        config = EncoderConfig(engine=engine, precision=precision)
        started = start_engine(as_encoded(load_network(name)[0]), CARD, config, "cpu")
        ways[way] = (started.precision, lambda patches, started=started: started.run(patches)[0])
    return ways


def cpu_s(job: Callable[[], object]) -> float:
    """Seconds that a job takes of all threads together, by the number of threads."""
    start = time.process_time()
    job()
    return (time.process_time() - start) / torch.get_num_threads()


def operations(network: torch.nn.Module) -> int:
    """Floating-point operations of one patch."""
    counter = FlopCounterMode(display=False)
    # fused attention is not counted on a CPU
    with counter, torch.inference_mode(), sdpa_kernel(SDPBackend.MATH):
        network(torch.zeros(1, 3, SIDE_PX, SIDE_PX))
    return counter.get_total_flops()


def products() -> dict[str, Callable[[], object]]:
    """Large matrix products, 17.2 G operations each."""
    single = torch.randn(2, 2048, 2048)
    half = single.bfloat16()
    return {"float32": lambda: single[0] @ single[1], "bfloat16": lambda: half[0] @ half[1]}


def measure(name: str, patches: np.ndarray, *, batch: int, rounds: int) -> dict[str, dict[str, float]]:
    ways, peaks = ways_of(name), products()
    jobs: dict[str, Callable[[], object]] = dict(peaks)
    found: dict[str, np.ndarray] = {}
    for way, (_, encode) in ways.items():
        parts = [encode(patches[start : start + batch]) for start in range(0, len(patches), batch)]
        found[way] = np.concatenate(parts)  # this warms up, too
        jobs[way] = lambda encode=encode: encode(patches[:batch])
    taken: dict[str, list[float]] = {job: [] for job in jobs}
    for _ in range(rounds):
        for job, work in jobs.items():
            taken[job].append(cpu_s(work))
    median = {job: float(np.median(times)) for job, times in taken.items()}
    peak = {precision: 2 * 2048**3 / median[precision] for precision in peaks}
    peak["int8"] = 2 * peak["bfloat16"]
    flops = dict.fromkeys(ways, operations(as_encoded(load_network(name)[0])))
    flops["torch float32"] = operations(load_network(name)[0])
    return {
        way: {
            "patches_per_s": batch / median[way],
            "ratio_to_eager_float32": median["torch float32"] / median[way],
            **cosines(found[way], found["torch float32"]),
            "share_of_peak": flops[way] * batch / median[way] / peak[precision],
            "peak_gflops": peak[precision] / 1e9,
        }
        for way, (precision, _) in ways.items()
    }


def cosines(found: np.ndarray, wanted: np.ndarray) -> dict[str, float]:
    def of(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)

    plain, centred = of(found, wanted), of(found - wanted.mean(axis=0), wanted - wanted.mean(axis=0))
    return {
        "cosine": float(plain.mean()),
        "cosine_min": float(plain.min()),
        "cosine_centred": float(centred.mean()),
    }


_HEADER = (
    f"  {'':<18}{'patches/s':>10}{'ratio':>8}{'cosine':>11}{'least':>11}{'centred':>11}"
    f"{'of peak':>9}{'GFLOP/s':>9}"
)


def _row(way: str, told: dict[str, float]) -> str:
    return (
        f"  {way:<18}{told['patches_per_s']:>10.1f}{told['ratio_to_eager_float32']:>8.2f}"
        f"{told['cosine']:>11.6f}{told['cosine_min']:>11.6f}{told['cosine_centred']:>11.6f}"
        f"{told['share_of_peak']:>9.2f}{told['peak_gflops']:>9.0f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32, help="patches at a time, for every way alike")
    parser.add_argument("--patches", type=int, default=128, help="patches that the cosines are over")
    parser.add_argument("--json", action="store_true", help="print the JSON line alone")
    told = parser.parse_args()
    patches, origin = load_patches(told.patches)
    table: dict[str, Any] = {}
    for name in told.networks:
        ways = measure(name, patches, batch=told.batch, rounds=told.rounds)
        table[name] = ways["slidebag"]
        table[f"{name}_int8"] = ways["slidebag int8"]
        table[f"{name}_others"] = {way: ways[way] for way in ways if way not in ("slidebag", "slidebag int8")}
        if not told.json:
            print(f"{name}: {load_network(name)[1]}, {origin}, {torch.get_num_threads()} threads")
            print(
                f"  {'':<18}{'patches/s':>10}{'ratio':>8}{'cosine':>11}{'least':>11}{'centred':>11}", end=""
            )
            print(f"{'of peak':>9}{'GFLOP/s':>9}")
            print(*(_row(way, ways[way]) for way in ways), sep="\n")
    print(json.dumps(table))


if __name__ == "__main__":
    main()
