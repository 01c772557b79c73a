"""The options of the instance learner."""

import math
import sys
from dataclasses import dataclass, field

from tiling import ConfigError

KINDS = ("linear", "hidden", "context")  # of witnesses, the simplest first

_CHOICES = {"witnesses": ("auto", "none", *KINDS), "optimizer": ("adamw", "sgd")}
_COUNTS = (
    "members", "hidden", "witness_hidden", "witness_epochs", "epochs", "bags_per_step", "tiles_per_bag",
    "queue",
)  # fmt: skip
_LEAST_STEPS, _MOST_STEPS = 20, 100  # of an epoch, where the number of bags says how many
_WEIGHTS = ("weight_decay", "bag_weight", "contrast_weight", "warm_up_epochs")
_SHARES = (
    "witness_weight", "anchor", "refine", "refine_last", "key_momentum", "prototype_momentum",
    "view_strength", "view_dropout", "false_share", "least_positive", "most_positive",
)  # fmt: skip
_FINITE = sys.float_info.max  # infinity is above it, and NaN is within no bounds
_BOUNDS: tuple[tuple[tuple[str, ...], float, float, str], ...] = (
    (_COUNTS, 1, math.inf, "1 or more"),
    (("instances_per_step",), 4, math.inf, "4 or more"),
    (("prototypes",), 1, 100, "1 to 100"),
    (("learning_rate", "temperature"), 1e-12, _FINITE, "more than 0, and finite"),
    ((*_WEIGHTS, "steps_per_epoch"), 0, _FINITE, "0 or more, and finite"),
    (_SHARES, 0, 1, "0 to 1"),
)


@dataclass(frozen=True, kw_only=True)
class InstanceConfig:
    """How the instance learner is trained; the defaults need no search."""

    members: int = field(default=3, metadata={"help": "models that are fitted apart and then speak as one"})
    hidden: int = field(default=64, metadata={"help": "width of the net's hidden layer"})
    witnesses: str = field(
        default="auto",
        metadata={"help": "linear, hidden, context, auto (members share them by held-out bags), or none"},
    )
    # a sweep judges by slides, which the witnesses alone read: what is the net's it cannot choose
    witness_epochs: int = field(
        default=15, metadata={"help": "epochs of the witnesses, who see bags alone", "sweep": (5, 40, "log")}
    )
    witness_hidden: int = field(
        default=64, metadata={"help": "width of witnesses that are not linear", "sweep": (16, 128, "log")}
    )
    witness_weight: float = field(default=0.5, metadata={"help": "share of the witnesses in a tile's margin"})
    epochs: int = field(default=15, metadata={"help": "epochs of the net; the last one counts"})
    steps_per_epoch: int = field(
        default=0,
        metadata={"help": "steps in an epoch; 0 shows each bag three times, 20 (with views more) to 100"},
    )
    bags_per_step: int = field(
        default=64, metadata={"help": "bags that the witnesses see in a step", "sweep": (16, 64, "log")}
    )
    tiles_per_bag: int = field(default=256, metadata={"help": "at most so many tiles of a bag in a step"})
    instances_per_step: int = field(
        default=512, metadata={"help": "instances of the instance losses in a step"}
    )
    queue: int = field(default=1024, metadata={"help": "keys that the contrast compares with"})
    optimizer: str = field(default="adamw", metadata={"help": "of the net: adamw or sgd"})
    learning_rate: float = field(default=3e-3, metadata={"help": "step size of the net"})
    weight_decay: float = field(default=1e-2, metadata={"help": "pull of the weights to zero"})
    bag_weight: float = field(default=0.1, metadata={"help": "weight of the net's own bag term"})
    contrast_weight: float = field(default=0.1, metadata={"help": "weight of the contrastive loss"})
    refine: float = field(
        default=0.5, metadata={"help": "share of the way that prototypes move a pseudo label at a time"}
    )
    refine_last: float = field(default=0.0, metadata={"help": "that share in the last epoch, if it grows"})
    anchor: float = field(
        default=0.6,
        metadata={"help": "share of a pseudo label that stays as it began; above half no class turns over"},
    )
    warm_up_epochs: int = field(
        default=0, metadata={"help": "epochs of a contrast that knows no classes, before any refining"}
    )
    classifier_names: bool = field(
        default=False,
        metadata={"help": "the classifier says which class an instance counts as, not its pseudo label"},
    )
    temperature: float = field(default=0.07, metadata={"help": "temperature of the contrast"})
    key_momentum: float = field(default=0.99, metadata={"help": "inertia of the net that makes the keys"})
    prototypes: int = field(default=4, metadata={"help": "prototypes of each class"})
    prototype_momentum: float = field(default=0.99, metadata={"help": "inertia of the prototypes"})
    view_strength: float = field(default=0.5, metadata={"help": "how far a view goes to a near neighbour"})
    view_dropout: float = field(
        default=0.2, metadata={"help": "share of the features that a view leaves out"}
    )
    false_share: float = field(
        default=0.02,
        metadata={
            "help": "share of known negatives that may look like a first positive",
        },
    )
    least_positive: float = field(
        default=0.01, metadata={"help": "least share of positive tiles in a positive bag"}
    )
    most_positive: float = field(default=0.5, metadata={"help": "largest such share"})

    def __post_init__(self) -> None:
        for names, low, high, wanted in _BOUNDS:
            for name in names:
                if not low <= getattr(self, name) <= high:
                    raise ConfigError(f"{name} is {getattr(self, name):g}", hint=f"give {wanted}")
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(
                    f"{name} is {getattr(self, name)!r}", hint=f"choose from {', '.join(allowed)}"
                )
        if self.least_positive > self.most_positive:
            raise ConfigError(
                f"positive shares {self.least_positive:g} to {self.most_positive:g}",
                hint="give least <= most",
            )

    def steps(self, n_bags: int, n_views: int) -> int:
        """Return the steps of an epoch on so many bags, with so many views of a tile."""
        by_bags = 3 * n_bags // self.bags_per_step
        return self.steps_per_epoch or min(max(by_bags, _LEAST_STEPS + n_views), _MOST_STEPS)

    @property
    def heard_epochs(self) -> int:
        """Return how many epochs witnesses are taught for."""
        return 0 if self.witnesses == "none" else self.witness_epochs

    @property
    def member_epochs(self) -> int:
        """Return how many epochs a member is fitted for, its witnesses and then its net."""
        return self.heard_epochs + self.epochs


# what is set for a learner that keeps to the published rule, where ours departs from it
PUBLISHED: dict[str, str] = {
    "witnesses": "none",
    "members": "1",
    "optimizer": "sgd",
    "learning_rate": "0.01",
    "weight_decay": "0.001",
    "bag_weight": "0",
    "contrast_weight": "0.5",
    "instances_per_step": "64",
    "steps_per_epoch": "200",
    "queue": "8192",
    "key_momentum": "0.999",
    "warm_up_epochs": "1",
    "prototypes": "1",
    "classifier_names": "true",
    "anchor": "0",
    "refine": "0.05",
    "refine_last": "0.2",
    "least_positive": "0",
    "most_positive": "1",
}
