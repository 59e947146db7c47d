"""What all endpoints share: the server, and how errors are described."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, cast

from fastapi import Depends, Request

from davel.web.schemas import Error
from davel.web.server import Server


async def server_of(request: Request) -> Server:
    return cast(Server, request.app.state.server)


TheServer = Annotated[Server, Depends(server_of)]


Answers = dict[int | str, dict[str, Any]]


def refusals(*statuses: int) -> Answers:
    """Answers that an endpoint may give instead, for its description."""
    return {status: {"model": Error, "description": HTTPStatus(status).phrase} for status in statuses}
