"""Options of a command from frozen dataclasses: the dataclass is the flag, the TOML key and the record."""

import functools
import inspect
import json
import tomllib
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from tiling import ConfigError

_KINDS = {  # of values in a file
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((float, int), "a number"),
    str: ((str,), 'text in "quotes"'),
    Path: ((str,), 'text in "quotes"'),
}


@dataclass(frozen=True)
class Several:
    """A config class of which the options in `by` may be repeated; a command gets a tuple of configs."""

    config: type
    by: tuple[str, ...]

    def build(self, told: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return a config for each repetition; what is given once holds for all.

        Raises:
            ConfigError: the options in `by` are not given equally often.
        """
        given = {name: told[name] for name in self.by if told.get(name)}
        if len({len(values) for values in given.values()}) > 1:
            counts = ", ".join(f"--{name} {len(values)} times" for name, values in given.items())
            raise ConfigError(f"{counts}", hint='give each for every one of them; "" where there is none')
        rest = {name: value for name, value in told.items() if name not in self.by}
        rows = zip(*given.values(), strict=True) if given else [()]
        return tuple(
            self.config(**rest, **{k: v for k, v in zip(given, row, strict=True) if v}) for row in rows
        )


def configured(**classes: "type | Several") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the options of some config dataclasses, one parameter name each.

    The command gets with them `--config FILE`, which may hold all its options (flags override), and
    `--print-config`, of which the output is such a file.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        own = [p for p in inspect.signature(command).parameters.values() if p.name not in classes]

        @functools.wraps(command)
        def run(*, ctx: typer.Context, config: Path | None, print_config: bool, **given: Any) -> Any:
            del config  # _take_file has put what it says among what is given
            built = {}
            for name, cls in classes.items():
                flags = {f.name: given.pop(f.name) for f in fields(_plain(cls))}
                asked = {k: v for k, v in flags.items() if v is not None}
                asked |= {k: tuple(asked[k]) for k in _lists(_plain(cls)) & asked.keys()}
                built[name] = cls.build(asked) if isinstance(cls, Several) else cls(**asked)
            if print_config:
                told = {key: given[o.name] for key, o in _options(ctx).items() if o.name in given}
                told |= _shown_config(classes.values(), built.values())
                typer.echo(json.dumps(told, indent=2, default=str))
                raise typer.Exit(0)
            return command(**given, **built)

        shown = [
            _parameter(field, _repeated(cls)) for cls in classes.values() for field in _shown(_plain(cls))
        ]
        parameters = [*own, *shown, *_EXTRA]
        run.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportAttributeAccessIssue]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        del run.__wrapped__  # typer would look through to the command's own signature
        return run

    return decorate


def _plain(cls: type | Several) -> type:
    return cls.config if isinstance(cls, Several) else cls


def _repeated(cls: type | Several) -> set[str]:
    return set(cls.by) if isinstance(cls, Several) else _lists(cls)


def _lists(cls: type) -> set[str]:
    """The fields of a class that hold several values."""
    return {field.name for field, hint in _shown(cls) if typing.get_origin(hint) is tuple}


def _shown_config(classes: Iterable[type | Several], built: Iterable[Any]) -> dict[str, Any]:
    """Options by name; where a config is there several times, lists of what may differ."""
    told: dict[str, Any] = {}
    for cls, each in zip(classes, built, strict=True):
        parts = [asdict(c) for c in each] if isinstance(each, tuple) else [asdict(each)]
        told |= {name: None if value == () else value for name, value in parts[0].items()}
        for name in cls.by if isinstance(cls, Several) and len(parts) > 1 else ():
            values = [part[name] or "" for part in parts]
            told[name] = values if any(values) else None
    return told


def _shown(cls: type) -> list[tuple[Any, Any]]:
    hints = typing.get_type_hints(cls)
    return [(f, hints[f.name]) for f in fields(cls)]


def _type_of(hint: Any) -> Any:
    """The type of a value that may be None, or of each of several."""
    return next((t for t in typing.get_args(hint) if t is not types.NoneType), hint)


def _parameter(shown: tuple[Any, Any], repeated: set[str]) -> inspect.Parameter:
    field, plain = shown[0], _type_of(shown[1])
    default = field.default
    name = "--" + field.name.replace("_", "-")
    flag = f"{name}/--no-{name[2:]}" if plain is bool else name
    told = field.metadata.get("help", "")
    if default not in (None, "", MISSING) and plain is not bool:
        told += f" [default: {', '.join(default) if isinstance(default, tuple) else default}]"
    if field.name in repeated:
        plain, told = list[plain], f"{told}; may be repeated"
    option = typer.Option(flag, help=told, show_default=False)
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[plain | None, option]
    )


def _options(ctx: typer.Context) -> dict[str, inspect.Parameter]:
    """The options of a command by their names in a file."""
    parameters = inspect.signature(ctx.command.callback).parameters  # pyright: ignore[reportArgumentType]
    names = {p.opts[0]: str(p.name) for p in ctx.command.params if p.name not in ("config", "print_config")}
    return {
        flag.removeprefix("--").replace("-", "_"): parameters[name]
        for flag, name in names.items()
        if flag.startswith("--")
    }


def _take_file(ctx: typer.Context, path: Path | None) -> Path | None:
    """Let the options in a file stand in for the flags that are not given."""
    if path is not None:
        ctx.default_map = _read(path, _options(ctx))
    return path


def _read(path: Path, options: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """What a file says, by parameter."""
    try:
        text = path.read_text(encoding="utf-8")
        told = json.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path}: cannot be read ({error})",
            hint="give a TOML file with key = value lines, or what --print-config prints",
        ) from error
    for key in told.keys() - options.keys():
        raise ConfigError(f"{path}: unknown option {key!r}", hint=f"choose from {', '.join(sorted(options))}")
    # JSON has null where nothing is given
    return {
        options[key].name: _checked(path, key, value, options[key])
        for key, value in told.items()
        if value is not None
    }


def _checked(path: Path, name: str, value: Any, option: inspect.Parameter) -> Any:
    """The value, as a flag would give it: a whole number may stand for any number."""
    hint = _type_of(typing.get_args(option.annotation)[0])
    may_be_list = typing.get_origin(hint) is list
    values: list[Any] = value if may_be_list and isinstance(value, list) else [value]
    kinds, told = _KINDS[_type_of(hint)]
    if not values or not all(type(v) in kinds for v in values):
        raise ConfigError(f"{path}: {name} is {value!r}", hint=f"write it as {told}")
    return values if may_be_list else value


_EXTRA = (
    inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context),
    inspect.Parameter(
        "config",
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[
            Path | None,
            typer.Option(
                "--config", help="TOML file with the options by name", callback=_take_file, is_eager=True
            ),
        ],
    ),
    inspect.Parameter(
        "print_config",
        inspect.Parameter.KEYWORD_ONLY,
        default=False,
        annotation=Annotated[
            bool, typer.Option("--print-config", help="print what would run as such a file, and stop")
        ],
    ),
)
