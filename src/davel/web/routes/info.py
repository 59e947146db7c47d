"""What the server is."""

from __future__ import annotations

from fastapi import APIRouter

from davel import __version__, formats
from davel.web.routes.common import TheServer
from davel.web.schemas import FormatBody, InfoBody, ModelBody
from davel.web.settings import LEAST_SCORE

router = APIRouter(prefix="/api/info", tags=["server"])


@router.get("")
def info(server: TheServer) -> InfoBody:
    """The model, the formats, the limits."""
    model, limits = server.model, server.limits
    return InfoBody(
        version=__version__,
        model=ModelBody(
            name=model.name,
            labels=list(model.labels),
            threshold=model.threshold,
            step_seconds=model.features.step_seconds,
        ),
        least_score=LEAST_SCORE,
        formats=[FormatBody.model_validate(form) for form in formats.FORMATS.values()],
        folder=server.settings.videos is not None,
        max_upload_bytes=limits.max_upload_bytes,
        keep_days=limits.keep_days,
    )
