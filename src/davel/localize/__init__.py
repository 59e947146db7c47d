"""From media files to their audio-visual events: the job that davel exists for."""

from davel.localize.batch import Failure, Request, answer, expand, localize_files
from davel.localize.follow import Following
from davel.localize.localizer import Localizer, Result, Runtime, load, read_model
from davel.localize.workspace import Workspace

__all__ = [
    "Failure",
    "Following",
    "Localizer",
    "Request",
    "Result",
    "Runtime",
    "Workspace",
    "answer",
    "expand",
    "load",
    "localize_files",
    "read_model",
]
