"""How encoders are probed."""

from dataclasses import dataclass, field

from tiling import ConfigError

SHOTS = (1, 5, 10, 25)  # tiles a class that the few-shot figures are of
N_DRAWS = 20
LEAST_TILES, LEAST_GROUPS = 10, 3  # of each class


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """What is known of the tiles, how they are parted, and where encoders run."""

    mpp: float | None = field(
        default=None, metadata={"help": "µm/px of the tiles: what encoders see is checked against their own"}
    )
    group_column: str = field(
        default="", metadata={"help": "the table's column of what is never parted, such as patient"}
    )
    batch_column: str = field(
        default="", metadata={"help": "the table's column of what should not matter, such as site or scanner"}
    )
    folds: int = field(default=5, metadata={"help": "parts that are predicted by what the others teach"})
    neighbours: int = field(default=20, metadata={"help": "nearest tiles that are asked; fewer of few tiles"})
    device: str = field(
        default="auto", metadata={"help": "where encoders run: cpu, cuda, mps; auto is a GPU, else cpu"}
    )
    seed: int = field(default=0, metadata={"help": "seed of the parts and of what is drawn"})

    def __post_init__(self) -> None:
        if self.mpp is not None and not self.mpp > 0:
            raise ConfigError(f"mpp is {self.mpp:g} µm/px", hint="give a resolution above 0")
        if self.folds < 2:
            raise ConfigError(f"folds is {self.folds}", hint="give 2 or more")
        if self.neighbours < 1:
            raise ConfigError(f"neighbours is {self.neighbours}", hint="give 1 or more")
        if self.seed < 0:
            raise ConfigError(f"seed is {self.seed}", hint="give 0 or more")
