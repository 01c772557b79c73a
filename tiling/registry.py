"""A named set of independent alternatives: readers, encoders, learners."""

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Generic, TypeVar, cast

from .errors import ConfigError

T = TypeVar("T")
S = TypeVar("S")  # an item keeps its own, narrower type


class Registry(Generic[T]):
    """Alternatives by name; each registered one passes the contract test of its kind."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._items: dict[str, T] = {}
        self._modules: dict[str, str] = {}
        self._makers: dict[str, Callable[[], T]] = {}

    def register(self, name: str) -> Callable[[S], S]:
        """Return a decorator that files an item under `name`; raises ValueError if it is taken."""

        def add(item: S) -> S:
            expected = self._modules.get(name)
            is_taken = name in self._items or name in self._makers
            if is_taken or expected not in (None, getattr(item, "__module__", None)):
                raise ValueError(f"{self.kind} {name!r} is already registered")
            self._items[name] = cast(T, item)
            return item

        return add

    def expect(self, module: str, *names: str) -> None:
        """Announce names that `module` registers, so that it need not be imported before one is wanted."""
        self._modules |= dict.fromkeys(names, module)

    def defer(self, name: str, make: Callable[[], T]) -> None:
        """File what `make` returns when `name` is first asked for; raises ValueError if it is taken."""
        if name in self:
            raise ValueError(f"{self.kind} {name!r} is already registered")
        self._makers[name] = make

    def __getitem__(self, name: str) -> T:
        if name in self._modules and name not in self._items:
            import_module(self._modules[name])
        if name in self._makers and name not in self._items:
            self._items[name] = self._makers[name]()
        if name not in self._items:
            raise ConfigError(f"unknown {self.kind} {name!r}", hint=f"choose from {', '.join(self)}")
        return self._items[name]

    def __contains__(self, name: object) -> bool:
        return name in self._all()

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._all()))

    def _all(self) -> set[str]:
        return self._items.keys() | self._modules.keys() | self._makers.keys()
