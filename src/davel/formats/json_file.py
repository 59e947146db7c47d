"""`davel.events/1`: the events with everything needed to know where they come from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from davel.localize import Result

SCHEMA = "davel.events/1"


def dumps(result: Result) -> str:
    """One JSON object; times in seconds on the media clock, events best first."""
    return json.dumps({"schema": SCHEMA, **result.to_dict()}, indent=1) + "\n"
