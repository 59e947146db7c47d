"""From media files to their audio-visual events: the job that davel exists for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from davel.localize.batch import Failure, answer, localize_files
    from davel.localize.follow import Following
    from davel.localize.localizer import Localizer, Result, Runtime, load, read_model
    from davel.localize.options import LocalizeOptions
    from davel.localize.requests import Request, expand, format_names, plan
    from davel.localize.workspace import Workspace

__all__ = [
    "Failure",
    "Following",
    "LocalizeOptions",
    "Localizer",
    "Request",
    "Result",
    "Runtime",
    "Workspace",
    "answer",
    "expand",
    "format_names",
    "load",
    "localize_files",
    "plan",
    "read_model",
]

_HOMES = {
    "batch": ("Failure", "answer", "localize_files"),
    "follow": ("Following",),
    "localizer": ("Localizer", "Result", "Runtime", "load", "read_model"),
    "options": ("LocalizeOptions",),
    "requests": ("Request", "expand", "format_names", "plan"),
    "workspace": ("Workspace",),
}


def __getattr__(name: str) -> Any:
    """Imported when asked for: the command line reads the options without torch."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"davel.localize.{home}"), name)
    raise AttributeError(f"module 'davel.localize' has no attribute {name!r}")
