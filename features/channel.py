"""Between threads: a bounded queue that ends, and that lets everyone go when the work is stopped."""

from collections import deque
from collections.abc import Iterator
from threading import Condition
from typing import Generic, TypeVar

T = TypeVar("T")


class Stopped(Exception):
    """The work is being given up; a thread that meets this goes home."""


class Channel(Generic[T]):
    """Items from some threads to others, at most `size` of them waiting; iterating takes them to the end.

    Takers that may have to put items back settle each they are through with, and ask for `more` at the end.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: deque[T] = deque()
        self._changed = Condition()
        self._n_taken = 0
        self._has_ended = self._is_stopped = False

    def put(self, item: T) -> None:
        """Hand over an item, waiting for room; raises Stopped if the work is given up meanwhile."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_stopped or len(self._items) < self._size)
            if self._is_stopped:
                raise Stopped
            self._items.append(item)
            self._changed.notify_all()

    def put_back(self, item: T) -> None:
        """Hand over an item that was taken before; it does not wait, so that a taker may do it."""
        with self._changed:
            self._items.appendleft(item)
            self._n_taken -= 1
            self._changed.notify_all()

    def settle(self, n: int) -> None:
        """Say that `n` items that were taken will not be put back."""
        with self._changed:
            self._n_taken -= n
            self._changed.notify_all()

    def more(self) -> bool:
        """Wait until there is something again, put back by another taker, or until all is settled."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_stopped or self._items or not self._n_taken)
            return bool(self._items)

    def end(self) -> None:
        """Say that nothing more will be put."""
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Give the work up: what waits is dropped, and who waits is let go."""
        with self._changed:
            self._is_stopped = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        while True:
            with self._changed:
                # an untimed wait could not be interrupted from the keyboard everywhere
                while not self._changed.wait_for(
                    lambda: self._is_stopped or self._items or self._has_ended, timeout=1.0
                ):
                    pass
                if self._is_stopped:
                    raise Stopped
                if not self._items:
                    return
                item = self._items.popleft()
                self._n_taken += 1
                self._changed.notify_all()
            yield item
