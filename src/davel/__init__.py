"""davel: dense audio-visual event localization.

localizer = davel.load("scenes")
result = localizer.localize("clip.mp4")
for event in result.events:
    print(event.label, event.start, event.end, event.score)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from davel import _moved

if TYPE_CHECKING:
    from davel.core.events import Event, EventList
    from davel.localize import Localizer, Result, Workspace, load
    from davel.localize.follow import Following

_moved.install()

__version__ = "0.2.0"
__all__ = ["Event", "EventList", "Following", "Localizer", "Result", "Workspace", "__version__", "load"]


_HOMES = {
    "Event": "core.events", "EventList": "core.events", "Following": "localize.follow",
    "Localizer": "localize", "Result": "localize", "Workspace": "localize", "load": "localize",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Imported when asked for: `import davel` needs neither numpy nor torch."""
    if name in _HOMES:
        return getattr(import_module(f"davel.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'davel' has no attribute {name!r}")
