"""Many videos with their events, the classes of these, and what is wrong with either."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from davel.core.errors import ConfigError, printable
from davel.core.events import Video


class Problem(NamedTuple):
    """What is wrong with a data set, or with a row of a file."""

    id: str
    """Of the video; empty if it is no single one."""
    kind: str
    text: str
    """One line, which begins with the place where that is known."""

    def __str__(self) -> str:
        return f"{self.id}: {self.text}" if self.id else self.text


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Names of classes, each once: C classes, whose place is their label_id."""

    labels: tuple[str, ...]
    prompts: tuple[str, ...] | None = None
    """A sentence for each class, for models that read what a class is."""
    embeddings: NDArray[np.floating] | None = None
    """(C, P): a text encoder's answer to each prompt."""

    def __post_init__(self) -> None:
        repeated = [label for label in dict.fromkeys(self.labels) if self.labels.count(label) > 1]
        if repeated or "" in self.labels:
            what = f"{repeated[0]!r} twice" if repeated else "a class without a name"
            raise ValueError(f"every class needs a name of its own, got {what}")
        for name, given in (("prompts", self.prompts), ("embeddings", self.embeddings)):
            if given is not None and len(given) != len(self.labels):
                raise ValueError(f"{len(self.labels)} classes need as many {name}, got {len(given)}")

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[str]:
        return iter(self.labels)

    def __contains__(self, label: object) -> bool:
        return label in self.labels

    def difference(self, other: Sequence[str] | Vocabulary, ours: str = "the model", theirs: str = "the data") -> str:
        """In words, what of `other` is missing, new, or in another order; empty if the classes are the same."""
        others = tuple(other)
        missing = [label for label in self.labels if label not in set(others)]
        new = [label for label in others if label not in set(self.labels)]
        parts = []
        if new:
            parts.append(f"{theirs} has {_listed(new)}, which {ours} does not know")
        if missing:
            parts.append(f"{ours} knows {_listed(missing)}, which {theirs} does not have")
        if not parts and others != self.labels:
            first = next(i for i, pair in enumerate(zip(self.labels, others, strict=True)) if pair[0] != pair[1])
            parts.append(
                f"the classes are in another order: class {first} is {self.labels[first]!r} of {ours} and "
                f"{others[first]!r} of {theirs}"
            )
        return printable("; ".join(parts))


def _listed(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - 5} more" if len(labels) > 5 else ""
    return f"{'class' if len(labels) == 1 else 'classes'} {', '.join(map(repr, labels[:5]))}{more}"


@dataclass(frozen=True)
class Annotations:
    """A data set: videos with their events, all of one vocabulary."""

    vocabulary: Vocabulary
    """The classes, by label_id."""
    videos: dict[str, Video]
    """By id, in the file's order."""
    told: tuple[Problem, ...] = field(default=())
    """What was cut or left out when it was read."""

    @classmethod
    def of(cls, labels: Sequence[str], videos: Mapping[str, Video]) -> Annotations:
        """Of classes that have nothing but names."""
        return cls(Vocabulary(tuple(labels)), dict(videos))

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes, by label_id."""
        return self.vocabulary.labels

    def subset(self, name: str, *, or_all: bool = False) -> dict[str, Video]:
        """The videos of a subset; ConfigError if there are none. With `or_all`, all where no video has a subset."""
        if or_all and all(video.subset is None for video in self.videos.values()):
            return self.videos
        chosen = {key: video for key, video in self.videos.items() if video.subset == name}
        if not chosen:
            known = sorted({video.subset or "" for video in self.videos.values()})
            raise ConfigError(f"no videos in the subset {name!r}: the annotations have {', '.join(known) or 'none'}")
        return chosen

    def relabelled(self, vocabulary: Vocabulary | Sequence[str]) -> Annotations:
        """The same videos with the classes of another vocabulary, matched by name; events of other classes go."""
        if not isinstance(vocabulary, Vocabulary):
            vocabulary = Vocabulary(tuple(vocabulary))
        videos = {key: video.relabelled(vocabulary.labels) for key, video in self.videos.items()}
        return Annotations(vocabulary, videos, self.told)

    def limited(self, num_classes: int | None = None, num_videos: int | None = None) -> Annotations:
        """Only the classes with most events, and the first `num_videos` for training that have some of them, with a
        third as many of every other subset.

        Events of other classes go, and so do all videos without one that is left, if classes are left out.
        """
        limited = self
        if num_classes is not None and num_classes < len(self.labels):
            counts = sum(np.bincount(v.events.label_ids, minlength=len(self.labels)) for v in self.videos.values())
            kept = np.sort(np.argsort(-np.asarray(counts), kind="stable")[:num_classes])
            limited = self.relabelled([self.labels[c] for c in kept])
        videos: dict[str, Video] = dict(limited.videos)
        if limited is not self:
            videos = {key: video for key, video in videos.items() if len(video.events)}
        if num_videos is not None:
            by_subset: dict[str | None, list[str]] = {}
            for key, video in videos.items():
                by_subset.setdefault(video.subset, []).append(key)
            most = {subset: num_videos if subset == "train" else -(-num_videos // 3) for subset in by_subset}
            chosen = {key for subset, keys in by_subset.items() for key in keys[: most[subset]]}
            videos = {key: video for key, video in videos.items() if key in chosen}
        return Annotations(limited.vocabulary, videos, self.told)
