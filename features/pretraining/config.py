"""How an encoder is pretrained: the options of `slidebag pretrain`."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from features.encoder import EncoderConfig
from tiling import ConfigError

_PRECISIONS = ("auto", "float32", "bfloat16")
POOLED = "class token + mean"
_POOLINGS = ("class token", POOLED)
_DTYPES = ("float16", "float32")
_TURNS = (1, 4, 8)
_OF_TEACHERS = ("token_side", "teacher_px", "teacher_views", "teacher_turns")
_OF_SELF = ("local_px", "local_crops", "momentum", "prototypes", "temperature", "koleo")
# what changes how long it takes, or what is told, and no weight
_OF_NO_CONSEQUENCE = (
    "device",
    "workers",
    "probe_every",
    "name",
    "licence",
    "data",
    "mpp",
    "resize",
    "init_weights",  # of a file what is in it counts, not where it lies: `Course.identity`
    "teacher_weights",
)


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """What network learns, from what, and how long."""

    arch: str = field(
        default="vit_small_patch16_224", metadata={"help": "vision transformer of timm, learned from scratch"}
    )
    width: int = field(default=0, metadata={"help": "of its tokens; 0 is the architecture's own"})
    depth: int = field(default=0, metadata={"help": "blocks, of --init the first ones; 0 is all it has"})
    heads: int = field(default=0, metadata={"help": "heads of attention; 0 is the architecture's own"})
    token_px: int = field(
        default=0, metadata={"help": "side of a token; 0 is the architecture's own, or that of --init"}
    )
    init: str = field(default="", metadata={"help": "encoder to begin from, in place of --arch"})
    init_weights: str | None = field(default=None, metadata={"help": "local weights of --init"})
    pooling: str = field(
        default="",
        metadata={
            "help": f"a tile's vector: {', '.join(_POOLINGS)}; not given, that of --init, or the first"
        },
    )
    teacher: tuple[str, ...] = field(default=(), metadata={"help": "encoder to learn the vectors of"})
    teacher_weights: tuple[str, ...] = field(
        default=(), metadata={"help": 'local weights of each --teacher, "" for none'}
    )
    teacher_views: int = field(
        default=4,
        metadata={
            "help": "views of a tile that are learned from, each shown to teachers once; 0 is ever other ones"
        },
    )
    teacher_px: int = field(
        default=0, metadata={"help": "side of the views that teachers see; 0 is that of --input-px"}
    )
    teacher_turns: int = field(
        default=1,
        metadata={"help": "teachers tell the mean over so many turns of a view: 1, 4, or 8 with flips"},
    )
    token_side: int = field(
        default=0, metadata={"help": "learn so many by so many token vectors of teachers too; 0 is none"}
    )
    input_px: int = field(default=224, metadata={"help": "side of the large crops, and what is encoded"})
    resize: bool | None = field(
        default=None,
        metadata={
            "help": "the encoder makes tiles of any size --input-px large itself; not given, as --init does"
        },
    )
    local_px: int = field(default=96, metadata={"help": "side of the small crops"})
    local_crops: int = field(default=6, metadata={"help": "small crops of each tile, besides two large"})
    stain: float = field(
        default=0.3, metadata={"help": "a stain's optical density is multiplied by exp(± so much)"}
    )
    epochs: int = field(
        default=100, metadata={"help": "times that each tile is seen; with --init, 0 learns nothing"}
    )
    batch: int = field(default=64, metadata={"help": "tiles a step, over all devices"})
    lr: float = field(default=5e-4, metadata={"help": "highest learning rate at a batch of 256"})
    warm_up: float = field(default=0.1, metadata={"help": "share of the steps in which it is reached"})
    weight_decay: float = field(default=0.04, metadata={"help": "at the beginning"})
    weight_decay_end: float = field(default=0.4, metadata={"help": "at the end"})
    momentum: float = field(
        default=0.996, metadata={"help": "of the moving average of weights at the beginning; 1 at the end"}
    )
    clip: float = field(default=3.0, metadata={"help": "largest norm of all gradients"})
    drop_path: float = field(default=0.1, metadata={"help": "share of paths left out at the last block"})
    prototypes: int = field(default=4096, metadata={"help": "outputs of the head of self-distillation"})
    temperature: float = field(default=0.07, metadata={"help": "of its teacher, after the warm-up"})
    koleo: float = field(default=0.1, metadata={"help": "weight of the loss that spreads vectors"})
    held_out: float = field(
        default=0.1, metadata={"help": "share of labelled pictures kept for the probe, never learned from"}
    )
    probe_every: int = field(default=5, metadata={"help": "epochs between probes; 0 is at the end alone"})
    seed: int = field(default=0, metadata={"help": "of weights, order and views"})
    precision: str = field(
        default="auto",
        metadata={"help": f"arithmetic: {', '.join(_PRECISIONS)}; auto is bfloat16 on GPUs that have it"},
    )
    device: str = field(default="auto", metadata={"help": "cpu, cuda, cuda:0, mps; auto is a GPU, else cpu"})
    workers: int = field(
        default=-1, metadata={"help": "processes that make views; -1 is 8 beside a GPU, else none"}
    )
    save_as: str = field(
        default="float16", metadata={"help": f"numbers of the weight file: {', '.join(_DTYPES)}"}
    )
    mpp: float | None = field(
        default=None, metadata={"help": "resolution of pictures in µm/px at --input-px"}
    )
    name: str = field(default="", metadata={"help": "in the card; if not given, the folder's"})
    licence: str = field(default="", metadata={"help": "in the card; not given, that of --init, if any"})
    data: str = field(default="", metadata={"help": "in the card: where the tiles are from, their licences"})

    def __post_init__(self) -> None:
        _least(self, 1, "input_px", "local_px", "batch", "prototypes")
        _least(self, 0 if self.init else 1, "epochs")
        _least(self, 0, "width", "depth", "heads", "token_px", "teacher_views", "teacher_px")
        _least(self, 0, "token_side", "local_crops")
        _least(self, 0, "stain", "weight_decay", "weight_decay_end", "koleo", "probe_every")
        for name, low, high in (
            ("warm_up", 0, 1),
            ("momentum", 0, 1),
            ("held_out", 0, 0.9),
            ("drop_path", 0, 0.9),
        ):
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"{name} is {getattr(self, name)}", hint=f"give {low} to {high}")
        for name in ("lr", "clip", "temperature"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}", hint="give more than 0")
        for name, choices in (
            ("pooling", ("", *_POOLINGS)),
            ("precision", _PRECISIONS),
            ("save_as", _DTYPES),
            ("teacher_turns", _TURNS),
        ):
            if getattr(self, name) not in choices:
                raise ConfigError(
                    f"{name} is {getattr(self, name)!r}", hint=f"choose from {', '.join(map(str, choices))}"
                )
        self._check_teachers()
        self._check_initial()

    def _check_teachers(self) -> None:
        if self.teacher_weights and len(self.teacher_weights) != len(self.teacher):
            raise ConfigError(
                f"{len(self.teacher)} teachers, weights of {len(self.teacher_weights)}",
                hint='give --teacher-weights for each; "" where there are none',
            )
        others, whose = (_OF_SELF, "learning without") if self.teacher else (_OF_TEACHERS, "learning from")
        for name in others:
            if getattr(self, name) != getattr(type(self), name):
                raise ConfigError(f"{name} is of {whose} teachers", hint="leave it out")
        if 0 < self.teacher_px < self.input_px:  # the student's view is made of what teachers see
            raise ConfigError(
                f"teacher_px is {self.teacher_px}, less than the student's {self.input_px}",
                hint="give more, or a smaller --input-px",
            )
        if self.teacher and not self.epochs:
            raise ConfigError("epochs is 0: nothing is learned of teachers", hint="leave out --teacher")

    def _check_initial(self) -> None:
        if self.init_weights and not self.init:
            raise ConfigError("init_weights are of --init, and there is none", hint="give --init")
        for name in ("arch", "width", "heads"):
            if self.init and getattr(self, name) != getattr(type(self), name):
                raise ConfigError(f"{name} is that of {self.init}, to begin from", hint="leave it out")

    @property
    def view_px(self) -> int:
        """The side of what teachers see; the student sees the same in its own size."""
        return self.teacher_px or self.input_px

    @property
    def initial(self) -> EncoderConfig | None:
        """The encoder to begin from, with its tokens, as then no block is shortened."""
        if not self.init:
            return None
        return EncoderConfig(encoder=self.init, weights=self.init_weights, token_side=1)

    @property
    def teachers(self) -> tuple[EncoderConfig, ...]:
        """The encoders to learn from."""
        weights = self.teacher_weights or ("",) * len(self.teacher)
        return tuple(
            EncoderConfig(encoder=name, weights=path or None, token_side=self.token_side)
            for name, path in zip(self.teacher, weights, strict=True)
        )

    def consequential(self) -> dict[str, Any]:
        """Return the options that change a weight."""
        return {name: value for name, value in asdict(self).items() if name not in _OF_NO_CONSEQUENCE}


def place(path: str | Path) -> str:
    """Return the last two parts of a path: the card goes to others, where the rest means nothing."""
    return "/".join(Path(path).parts[-2:])


def shared(value: Any) -> Any:
    """Return an option, or many, whose whole paths are shortened so."""
    if isinstance(value, dict):
        return {name: shared(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [shared(each) for each in value]
    return place(value) if isinstance(value, str) and Path(value).is_absolute() else value


def _least(config: PretrainConfig, least: int, *names: str) -> None:
    for name in names:
        if getattr(config, name) < least:
            raise ConfigError(f"{name} is {getattr(config, name)}", hint=f"give {least} or more")
