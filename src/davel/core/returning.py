"""Generators that give items and, at their end, return what is known only then."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")
R = TypeVar("R")


def through(items: Generator[T, None, R], use: Callable[[T], Iterable[U]]) -> Generator[U, None, R]:
    """What `use` makes of every item; returns what `items` return."""
    while True:
        try:
            item = next(items)
        except StopIteration as end:
            returned: R = end.value
            return returned
        yield from use(item)


def consume(items: Generator[T, None, R], use: Callable[[T], object] = lambda item: None) -> R:
    """Call `use` with every item; what `items` return."""
    while True:
        try:
            item = next(items)
        except StopIteration as end:
            returned: R = end.value
            return returned
        use(item)
