"""Options of a command from frozen dataclasses: the dataclass is the flag, the TOML key and the record."""

import functools
import inspect
import json
import tomllib
import types
import typing
from collections.abc import Callable
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from tiling import ConfigError


def configured(**classes: type) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
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
                flags = {f.name: given.pop(f.name) for f in fields(cls)}
                in_file = {k: v for k, v in told.items() if k in flags}
                built[name] = cls(**(in_file | {k: v for k, v in flags.items() if v is not None}))
            if print_config:
                typer.echo(json.dumps({k: v for c in built.values() for k, v in asdict(c).items()}, indent=2))
                raise typer.Exit(0)
            return command(**given, **built)

        parameters = [*own, *(_parameter(f) for cls in classes.values() for f in _shown(cls)), *_EXTRA]
        run.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportAttributeAccessIssue]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        del run.__wrapped__  # typer would look through to the command's own signature
        return run

    return decorate


def _shown(cls: type) -> list[tuple[Any, Any]]:
    hints = typing.get_type_hints(cls)
    return [(f, hints[f.name]) for f in fields(cls)]


def _parameter(shown: tuple[Any, Any]) -> inspect.Parameter:
    field, hint = shown
    plain = (
        next(t for t in typing.get_args(hint) if t is not types.NoneType) if typing.get_args(hint) else hint
    )
    default = field.default
    name = "--" + field.name.replace("_", "-")
    flag = f"{name}/--no-{name[2:]}" if plain is bool else name
    told = field.metadata.get("help", "")
    if default not in (None, "", MISSING) and plain is not bool:
        told += f" [default: {default}]"
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


def _read_toml(path: Path, classes: dict[str, type]) -> dict[str, Any]:
    try:
        told = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(
            f"{path}: cannot be read ({error})", hint="give a TOML file with key = value lines"
        ) from error
    known = {f.name for cls in classes.values() for f in fields(cls)}
    for key in told.keys() - known:
        raise ConfigError(f"{path}: unknown option {key!r}", hint=f"choose from {', '.join(sorted(known))}")
    return told
