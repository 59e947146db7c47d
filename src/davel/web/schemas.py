"""The bodies of the API: what is taken, checked, and what is given. Times are seconds on the media clock."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from davel.core.errors import printable
from davel.core.events import Event


class Error(BaseModel):
    """Why a request was refused."""

    detail: str


class EventBody(BaseModel):
    """An event."""

    label: str
    start: float
    end: float
    score: float = 1.0

    @classmethod
    def of(cls, event: Event) -> EventBody:
        return cls(label=event.label, start=event.start, end=event.end, score=event.score)


class GivenEvent(EventBody):
    """An event, as somebody wants it."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    label: Annotated[str, Field(min_length=1, max_length=200)]
    start: Annotated[float, Field(ge=0)]
    score: Annotated[float, Field(ge=0, le=1)] = 1.0

    @model_validator(mode="after")
    def _is_an_event(self) -> GivenEvent:
        if not self.start < self.end:
            raise ValueError("an event must end after its start")
        if printable(self.label) != self.label or not self.label.strip():
            raise ValueError("a label is a line of text")
        return self

    @property
    def event(self) -> Event:
        return Event(self.label.strip(), self.start, self.end, self.score)


GivenEvents = Annotated[list[GivenEvent], Field(max_length=100_000)]


class CorrectionBody(BaseModel):
    """All events of a video, as a person wants them."""

    model_config = ConfigDict(extra="forbid")
    revision: int
    """That of the events on which these are based."""
    events: GivenEvents


class EventsBody(BaseModel):
    """The events of a video."""

    revision: int
    corrected: bool
    """Whether a person has saved them; otherwise they are the model's, best first."""
    events: list[EventBody]

    @classmethod
    def of(cls, revision: int, corrected: bool, events: Iterable[Event]) -> EventsBody:
        return cls(revision=revision, corrected=corrected, events=[EventBody.of(event) for event in events])


class ExportBody(BaseModel):
    """Events to be written in a format."""

    model_config = ConfigDict(extra="forbid")
    format: str
    events: GivenEvents


class FromValue(BaseModel):
    """A body that has the fields of one of the server's values."""

    model_config = ConfigDict(from_attributes=True)


class JobBody(FromValue):
    """A video's way: uploading, queued, running, then done, failed or cancelled."""

    id: str
    name: str
    source: str
    size: int
    state: str
    created: float
    seconds: float
    """Of the video that are done."""
    duration: float | None
    error: str | None
    revision: int
    """How often the events of this video were saved."""
    expires: float | None = None
    """Seconds since 1970, when it will be deleted."""


class CopyBody(FromValue):
    """The way of a copy that browsers can play: queued, running, then done or failed."""

    state: str
    seconds: float
    """Of the video that are done."""
    duration: float | None
    error: str | None


class FileBody(FromValue):
    """A video of the server's folder."""

    id: str
    name: str
    size: int
    job: str | None
    """The newest job for it."""


class ModelBody(BaseModel):
    """The model that finds events."""

    name: str
    labels: list[str]
    threshold: float
    """What scores less is not shown at first."""
    step_seconds: float


class FormatBody(FromValue):
    """A format of files of events."""

    name: str
    suffix: str


class InfoBody(BaseModel):
    """The model, the formats, the limits."""

    version: str
    model: ModelBody
    least_score: float
    """What scores less is not kept."""
    formats: list[FormatBody]
    folder: bool
    """Whether videos of the server may be chosen."""
    max_upload_bytes: int
    keep_days: float


class ResultBody(BaseModel):
    """What the model found, whole: a file of the schema `davel.events/1`, as `davel localize` writes it."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow", populate_by_name=True)
    format: Annotated[str, Field(alias="schema")]
    media: dict[str, Any]
    coverage: dict[str, Any]
    events: list[EventBody]
