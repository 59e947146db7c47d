"""From media files to their audio-visual events: the job that davel exists for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from davel.core.lazy import attributes

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

__getattr__ = attributes(__name__, _HOMES)
