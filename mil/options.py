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

_TOML_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: 'text in "quotes"'}


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
        lists = {name: _several(v) for name, v in given.items()}
        if len({len(values) for values in lists.values()}) > 1:
            counts = ", ".join(f"--{name} {len(values)} times" for name, values in lists.items())
            raise ConfigError(f"{counts}", hint='give each for every one of them; "" where there is none')
        rest = {name: value for name, value in told.items() if name not in self.by}
        rows = zip(*lists.values(), strict=True) if lists else [()]
        return tuple(
            self.config(**rest, **{k: v for k, v in zip(lists, row, strict=True) if v}) for row in rows
        )


def configured(**classes: "type | Several") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the options of some config dataclasses, one parameter name each.

    The command gets `--config FILE` (TOML, the same keys; flags override) and `--print-config` with them.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        own = [p for p in inspect.signature(command).parameters.values() if p.name not in classes]

        @functools.wraps(command)
        def run(*, config: Path | None, print_config: bool, **given: Any) -> Any:
            told = _read_toml(config, classes) if config else {}
            built = {}
            for name, cls in classes.items():
                flags = {f.name: given.pop(f.name) for f in fields(_plain(cls))}
                in_file = {k: v for k, v in told.items() if k in flags}
                asked = in_file | {k: v for k, v in flags.items() if v is not None}
                asked |= {k: _several(asked[k]) for k in _lists(_plain(cls)) & asked.keys()}
                built[name] = cls.build(asked) if isinstance(cls, Several) else cls(**asked)
            if print_config:
                typer.echo(json.dumps(_shown_config(built.values()), indent=2))
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


def _several(value: str | Iterable[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _shown_config(built: Iterable[Any]) -> dict[str, Any]:
    """Options by name; where a config is there several times, lists of what differs."""
    told: dict[str, Any] = {}
    for each in built:
        parts = [asdict(c) for c in each] if isinstance(each, tuple) else [asdict(each)]
        for name in parts[0]:
            values = [part[name] for part in parts]
            told[name] = values[0] if all(v == values[0] for v in values) else values
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
    option = typer.Option(flag, help=told.replace("[", r"\["), show_default=False)
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[plain | None, option]
    )


_EXTRA = (
    inspect.Parameter(
        "config",
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[
            Path | None, typer.Option("--config", help="TOML file with the options by name")
        ],
    ),
    inspect.Parameter(
        "print_config",
        inspect.Parameter.KEYWORD_ONLY,
        default=False,
        annotation=Annotated[bool, typer.Option("--print-config", help="say what would run, and stop")],
    ),
)


def _read_toml(path: Path, classes: Mapping[str, type | Several]) -> dict[str, Any]:
    try:
        told = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(
            f"{path}: cannot be read ({error})", hint="give a TOML file with key = value lines"
        ) from error
    known = {f.name for cls in classes.values() for f in fields(_plain(cls))}
    for key in told.keys() - known:
        raise ConfigError(f"{path}: unknown option {key!r}", hint=f"choose from {', '.join(sorted(known))}")
    for cls in classes.values():
        for field, hint in _shown(_plain(cls)):
            if field.name in told:
                may_be_list = field.name in _repeated(cls)
                told[field.name] = _checked(
                    path, field.name, told[field.name], _type_of(hint), may_be_list=may_be_list
                )
    return told


def _checked(path: Path, name: str, value: Any, wanted: type, *, may_be_list: bool) -> Any:
    """The value, as a flag would give it: a whole number may stand for any number."""
    is_list = may_be_list and isinstance(value, list)
    values: list[Any] = value if is_list else [value]
    if not all(type(v) is wanted or (wanted is float and type(v) is int) for v in values):
        raise ConfigError(f"{path}: {name} is {value!r}", hint=f"write it as {_TOML_KINDS[wanted]}")
    if wanted is float:
        values = [float(v) for v in values]
    return values if is_list else values[0]
