"""What a probe leaves: `probe.csv`, `probe.json` and `probe.png`, each whole or not at all."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from mil.machine import computed_by
from tiling import format_attributes, replacing

from .config import ProbeConfig
from .plot import probe_figure

_DPI = 150


def write_probed(
    out: Path, figures: pd.DataFrame, record: dict[str, object], config: ProbeConfig
) -> tuple[Path, ...]:
    """Write the three files into a folder and return where they are."""
    table, told, picture = (Path(out) / f"probe.{suffix}" for suffix in ("csv", "json", "png"))
    with replacing(table) as temporary:
        figures.to_csv(temporary, index=False, float_format="%.6f")
    rows = figures.replace({np.nan: None}).to_dict("records")
    whole = format_attributes("probe") | computed_by() | {"config": asdict(config)} | record
    with replacing(told) as temporary:
        temporary.write_text(json.dumps(whole | {"figures": rows}, indent=2, allow_nan=False) + "\n")
    with replacing(picture) as temporary:
        probe_figure(figures).savefig(temporary, format="png", dpi=_DPI)
    return table, told, picture
