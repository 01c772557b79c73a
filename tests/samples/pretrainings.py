"""Pretraining of very small networks, and what came of it."""

import csv

import torch
from safetensors.torch import load_file

from features import PretrainConfig

TINY = {
    "width": 32, "depth": 2, "heads": 2, "token_px": 8, "input_px": 32, "local_px": 16, "local_crops": 2,
    "batch": 16, "epochs": 2, "prototypes": 32, "held_out": 0.3, "device": "cpu", "save_as": "float32",
}  # fmt: skip
# the sizes of what it begins from
AS_IT_IS = {"width": 0, "depth": 0, "heads": 0, "token_px": 0}


class Stopped(Exception):
    """What a test ends a training with."""


def options(**changes):
    """Return those of a tiny pretraining, but for what its kind does not have."""
    of_self = ("local_px", "local_crops", "prototypes") if changes.get("teacher") else ()
    return {name: TINY[name] for name in TINY if name not in of_self} | changes


def config(**changes):
    return PretrainConfig(**options(**changes))


def weights(folder):
    return load_file(folder / "weights.safetensors")


def table(folder):
    return list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))


def assert_same(one, two):
    a, b = weights(one), weights(two)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert (one / "metrics.csv").read_bytes() == (two / "metrics.csv").read_bytes()


def stop_after(step, part="pretrain"):
    def report(at):
        if (at.part, at.step) == (part, step):
            raise Stopped

    return report
