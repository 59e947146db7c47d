"""davel: dense audio-visual event localization.

localizer = davel.load("scenes")
result = localizer.localize("clip.mp4")
for event in result.events:
    print(event.label, event.start, event.end, event.score)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from davel.events import Event, EventList

if TYPE_CHECKING:
    from davel.localize import Localizer, Result, load

__version__ = "0.1.0"
__all__ = ["Event", "EventList", "Localizer", "Result", "__version__", "load"]


def __getattr__(name: str) -> Any:
    """What needs torch is imported when it is asked for."""
    if name in ("Localizer", "Result", "load"):
        from davel import localize

        return getattr(localize, name)
    raise AttributeError(f"module 'davel' has no attribute {name!r}")
