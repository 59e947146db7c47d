"""Names of a module that are found when they are asked for: in another module, or under another name than before."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def attributes(
    module: str, homes: Mapping[str, Sequence[str]] = {}, moved: Mapping[str, str] = {}
) -> Callable[[str], Any]:
    """A module's `__getattr__`.

    `homes`: which module of this package has which names, so that a package is imported without all that is in it.
    `moved`: names of before, each with what has its place, as `package.module:name`; they say so, for one release.
    """

    def __getattr__(name: str) -> Any:
        for home, names in homes.items():
            if name in names:
                return getattr(import_module(f"{module}.{home}"), name)
        if name not in moved:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        package, _, path = moved[name].partition(":")
        warnings.warn(f"{module}.{name} is {package}.{path} now", DeprecationWarning, stacklevel=2)
        value = import_module(package)
        for part in path.split("."):
            value = getattr(value, part)
        return value

    return __getattr__
