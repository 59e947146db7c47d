"""A feature family: everything that is known of one kind of features, in one object.

Each family's module ends in `FAMILY = Family(...)`. Those of davel stand in `FAMILIES`; another installed package adds
its own by an entry point of the group `davel.features`, whose name is the family's:

    [project.entry-points."davel.features"]
    my-features = "my_package.features:FAMILY"
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from davel.core.errors import ConfigError, printable
from davel.core.progress import Report
from davel.features.spec import MODALITIES, FeatureSpec

FAMILIES = {
    "light": "davel.features.light",
    "i3d-vggish": "davel.features.i3d_vggish",
    "one-peace": "davel.features.one_peace",
}
"""davel's own, by name: modules, imported when asked for."""
ORIGIN = "origin"
"""The option of a family whose published files davel does not make again: whose features they are."""
GROUP = "davel.features"
"""Of entry points, by which other packages add theirs."""
STEPS_AT_ONCE = 16
"""Every maker gives its steps when so many are complete, or before: what is followed is told no later."""

Precision = Literal["float32", "bfloat16", "float16"]
Rows = Iterator[tuple[str, NDArray[np.float32]]]
"""A stream's name and its next steps (K, D)."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """One published file."""

    name: str
    file: str
    url: str
    """Empty where the file is made of another one."""
    megabytes: float
    """About; the publisher may state no exact size."""
    licence: str
    origin: str
    sha256: str | None = None
    """What the publisher states of the file's sha256: all of it, or its first digits (as in the file's name)."""
    aliases: tuple[str, ...] = ()
    """Other names under which the same weights are published."""
    read: Callable[[Path], Any] | None = None
    """Makes what the file holds, a network usually. ConfigError if it holds something else."""
    source: str | None = None
    """The weights that this file is made of, where it is not fetched itself."""
    convert: Callable[[Path, Path, Precision, Report], None] | None = None
    """Makes the file: of its source, at a path, with values of so many bits. ConfigError if the source is no such."""
    on_request: bool = False
    """Fetched only where it is named: too large, or of use to few."""


@dataclass(frozen=True)
class Stream:
    """A sequence of rows that lies in a file of its own, `ID_STREAM.npy`."""

    modality: Literal["visual", "audio"]
    channels: int
    alike: float = 0.98
    """The median cosine from which two extractions are taken for the same."""


@dataclass(frozen=True, kw_only=True)
class Frames:
    """What a family asks of the pictures that it is given, which are (height, width, 3) bytes of RGB."""

    size: tuple[int, int] | None = None
    """Height and width to shrink them to; as displayed where there is none."""
    ahead: bool = False
    """Whether they are decoded in a thread of their own, as suits networks that take longer."""
    largest_aspect: float | None = None
    """The longer side over the shorter, beyond which a video is refused."""
    lookahead: int = 0
    """Frames beyond its window that a step waits for."""


class RowMaker(Protocol):
    """What makes rows of pictures, (H, W, 3) bytes each, or of pieces of samples, (N,) in -1..1."""

    def push(self, item: Any) -> Rows:
        """The next picture or samples; the steps that are complete with it."""
        ...

    def finish(self) -> Rows:
        """The last steps; what completes none is left out."""
        ...


class Maker(Protocol):
    """A family that is ready to run: it gives every file fresh makers of rows."""

    def visual(self) -> RowMaker:
        """Takes pictures: those of the grid, or those that `picture_seconds` names."""
        ...

    def audio(self) -> RowMaker:
        """Takes samples at the spec's rate; gives steps of `audio_stride_seconds`, which davel reduces."""
        ...


@dataclass(frozen=True)
class NoOptions:
    """Of a family that has none."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """One kind of features."""

    spec: FeatureSpec
    """With every option at its default."""
    streams: Mapping[str, Stream]
    """By name, in the order in which the streams of a modality are joined."""
    open: Callable[[Any, str, Precision, bool], Maker] | None = None
    """Of the options, the device's name, the precision, and whether to compile. None: published files are read, none
    are made. MissingError if weights are not there."""
    Options: type = NoOptions
    """The family's own options, a frozen dataclass with defaults; they are part of the protocol."""
    weights: tuple[Weights, ...] = ()
    """What makes features; theirs are other features."""
    sources: tuple[Weights, ...] = ()
    """What these are made of, and what the text tower needs."""
    ours: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Options of what davel makes, where the authors' files, of which `spec` speaks, are not the same numbers."""
    frames: Frames = Frames()
    parallel: bool = False
    """Whether one file is little work for one CPU, so that many are best done side by side."""
    step_tflop: float | None = None
    """Work of one step, in 10^12 operations, where it is so much that one should be told before it begins."""
    embed: Callable[[Sequence[str], str], NDArray[np.float32]] | None = None
    """The text tower: labels and a modality -> (C, P), P as the spec says of that modality."""

    def __post_init__(self) -> None:
        name = self.spec.name
        for modality in MODALITIES:
            if (made := sum(self.of(modality).values())) != self.spec.dim(modality):
                raise ValueError(
                    f"{name}: its {modality} streams have {made} channels, its spec {self.spec.dim(modality)}"
                )
        if self.spec.options != (defaults := asdict(self.Options())):
            raise ValueError(
                f"{name}: its spec has the options {dict(self.spec.options)}, their defaults are {defaults}"
            )
        has_text = (self.spec.visual_text_dim, self.spec.audio_text_dim) != (None, None)
        if has_text != (self.embed is not None):
            raise ValueError(f"{name}: a text tower needs both `embed` and the channels of its embeddings in the spec")

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def dims(self) -> dict[str, int]:
        """Channels by modality."""
        return {modality: self.spec.dim(modality) for modality in MODALITIES}

    def of(self, modality: str) -> dict[str, int]:
        """The channels of the streams of a modality, in order."""
        return {name: stream.channels for name, stream in self.streams.items() if stream.modality == modality}

    def path(self, folder: Path, key: str, stream: str) -> Path:
        return folder / f"{key}_{stream}.npy"

    def join(self, streams: Mapping[str, NDArray[np.float32]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """All streams, cut to the shortest: visual (T, visual_dim), audio (T, audio_dim)"""
        T = min(len(array) for array in streams.values())
        visual, audio = (
            np.concatenate([np.zeros((T, 0), np.float32), *(streams[name][:T] for name in self.of(modality))], axis=1)
            for modality in MODALITIES
        )
        return visual, audio

    def completed(self, spec: FeatureSpec) -> FeatureSpec:
        """The same with the defaults of what is newer than it: options, and a text tower.

        One from before davel made such features is that of the authors' files, as it is known by now.
        """
        missing = {key: value for key, value in self.spec.options.items() if key not in spec.options}
        resampler = self.spec.resampler if self.ours.keys() & missing.keys() else spec.resampler
        return replace(
            spec.with_options(**missing),
            resampler=resampler,
            visual_text_dim=spec.visual_text_dim or self.spec.visual_text_dim,
            audio_text_dim=spec.audio_text_dim or self.spec.audio_text_dim,
        )

    def is_ours(self, spec: FeatureSpec) -> bool:
        """Whether a protocol is one by which davel makes features, and not that of files which it can only read."""
        return all(spec.options.get(key) == value for key, value in self.ours.items() if key == ORIGIN)

    def specified(self, options: Mapping[str, Any]) -> FeatureSpec:
        """The protocol by which davel makes features, with options of its own, `colours` and `resampler`. ConfigError
        if it has no such option."""
        ours = {key: value for key, value in options.items() if key in ("colours", "resampler")}
        own = {key: value for key, value in options.items() if key not in ours}
        known = [f.name for f in fields(self.Options)]
        for key in own.keys() - set(known):
            raise ConfigError(
                f"features {self.name!r}: no option {printable(key)!r}: "
                f"choose from {', '.join(('colours', 'resampler', *known))}"
            )
        try:
            spec = replace(self.spec, **ours)
            return spec.with_options(**asdict(self.Options(**dict(spec.options) | dict(self.ours) | own)))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"features {self.name!r}: {error}") from error

    def doubt(self, spec: FeatureSpec) -> str:
        """What one must know before features are made for a model that learnt from others, or an empty text."""
        if self.is_ours(spec):
            return ""
        return (
            f"the model learnt from the {spec.options[ORIGIN]}' own {self.name} features: davel's are of the same "
            "kind, but not the same numbers: try it, and train it again on those of `davel extract`"
        )

    def require(self, spec: FeatureSpec) -> None:
        """ConfigError unless this family, as it is installed, is what a protocol says."""
        mine = self.specified({"colours": spec.colours, "resampler": spec.resampler, **spec.options})
        mine.require(spec, "this davel", "what is asked for")


def names() -> list[str]:
    """Of all families, davel's own first; none is imported."""
    return list(dict.fromkeys([*FAMILIES, *(point.name for point in _points())]))


def family(name: str) -> Family:
    """By its name. ConfigError if there is none, or if its package cannot be imported."""
    if name in FAMILIES:
        return _checked(name, import_module(FAMILIES[name]).FAMILY)
    points = [point for point in _points() if point.name == name]
    if not points:
        raise ConfigError(f"unknown features {printable(name)!r}: choose from {', '.join(names())}")
    origin = " and ".join(sorted({point.dist.name if point.dist else point.value for point in points}))
    if len({point.value for point in points}) > 1:
        raise ConfigError(
            f"features {name!r}: several packages have some of this name: uninstall all but one: {origin}"
        )
    try:
        return _checked(name, points[0].load())
    except Exception as error:  # whatever another package's import may raise
        reason = f"{type(error).__name__}: {error}" if not isinstance(error, ConfigError) else error
        raise ConfigError(
            f"features {name!r} cannot be loaded ({printable(reason)}): mend or uninstall the package {origin}"
        ) from error


def _checked(name: str, found: object) -> Family:
    if not isinstance(found, Family) or found.name != name:
        raise ConfigError(f"expected a Family of that name, got {printable(getattr(found, 'name', found))!r}")
    return found


def _points() -> list[metadata.EntryPoint]:
    """Of other packages; one with the name of one of davel's own families is not used."""
    return [point for point in metadata.entry_points(group=GROUP) if point.name not in FAMILIES]


def families() -> dict[str, Family]:
    """All that can be loaded; `broken` tells of the others."""
    return _loaded()[0]


def broken() -> list[str]:
    """Why families of other packages cannot be loaded, a line each."""
    return _loaded()[1]


def _loaded() -> tuple[dict[str, Family], list[str]]:
    found: dict[str, Family] = {}
    problems: list[str] = []
    for point in metadata.entry_points(group=GROUP):
        if point.name in FAMILIES:
            origin = point.dist.name if point.dist else point.value
            problems.append(f"features {point.name!r} are davel's own: those of the package {origin} are not used")
    for name in names():
        try:
            found[name] = family(name)
        except ConfigError as error:
            problems.append(str(error))
    return found, problems


def read_spec(values: Mapping[str, Any]) -> FeatureSpec:
    """A stored specification, with the defaults of options that its family has had since. ConfigError if it is none."""
    spec = FeatureSpec.from_dict(values)
    return family(spec.name).completed(spec) if spec.name in FAMILIES or spec.name in names() else spec


def spec_of_dims(visual_dim: int, audio_dim: int) -> FeatureSpec | None:
    """The protocol of the first family with so many channels."""
    specs = (made.spec for made in families().values())
    return next((spec for spec in specs if (spec.visual_dim, spec.audio_dim) == (visual_dim, audio_dim)), None)
