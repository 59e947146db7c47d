"""What is wrong with the feature files of a video, in words.

Shapes: T steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from davel.core.annotations import Problem
from davel.core.events import Video
from davel.data.simulate import Simulation
from davel.data.unav100 import BrokenFeatures, load_stream, open_stream
from davel.features.family import Family, family
from davel.features.spec import FeatureSpec

TOLERATED = 3
"""Steps by which the streams of a video may differ; what is too long is cut off."""
CAUSES = {
    1 / 3: "a hop of 0.96 s instead of 0.32 s gives a third",
    1 / 2: "half of the frame rate, or twice the stride, gives half",
    2: "twice the frame rate, or half of the stride, gives twice",
    3: "a stride that is three times too small gives three times as many",
}


@dataclass(frozen=True)
class Reader:
    """Looks at the features of one video after the other."""

    folder: Path
    kind: str
    simulation: Simulation | None = None
    whole: bool = True
    """Every value, not only the headers of the files."""

    @cached_property
    def family(self) -> Family:
        return family(self.kind)

    @property
    def spec(self) -> FeatureSpec:
        return self.family.spec

    def inspect(self, video: Video) -> tuple[Video, list[Problem], dict[str, int]]:
        """The video, what is wrong with its features, and the steps of each stream that can be read."""
        lengths: dict[str, int] = {}
        problems = []
        if self.simulation and self.simulation.lazy:
            visual, audio = self.simulation.draw(video)
            if not (np.isfinite(visual).all() and np.isfinite(audio).all()):
                problems.append(Problem(video.id, "nan", "is drawn with values that are not finite"))
            return video, problems, {"visual": len(visual), "audio": len(audio)}
        load = load_stream if self.whole else open_stream
        for stream in self.family.streams:
            try:
                lengths[stream] = len(load(self.folder, self.family, video.id, stream))
            except BrokenFeatures as error:
                problems.append(Problem(video.id, error.kind, str(error)))
        if not problems:
            problems = length_problems(video, lengths, self.spec)
        return video, problems, lengths


def length_problems(video: Video, lengths: Mapping[str, int], spec: FeatureSpec) -> list[Problem]:
    """Streams that differ in length, or that cannot be of this video: half as long again as its duration says."""
    shortest, longest = min(lengths.values()), max(lengths.values())
    told = ", ".join(f"{stream} {T}" for stream, T in lengths.items())
    if longest - shortest > TOLERATED:
        return [Problem(video.id, "unequal", f"streams of unequal length: {told}{_cause(shortest / longest)}")]
    expected = spec.timing.num_steps(video.seconds)
    ratio = shortest / expected
    if abs(shortest - expected) > TOLERATED and not 2 / 3 < ratio < 3 / 2:
        text = f"{shortest} steps where {video.seconds:g} s give {expected}{_cause(ratio)}"
        return [Problem(video.id, "length", text)]
    return []


def _cause(ratio: float) -> str:
    """What may have gone wrong, in words."""
    near = min(CAUSES, key=lambda r: abs(math.log(ratio / r)))
    return f" ({CAUSES[near]})" if abs(math.log(ratio / near)) < math.log(1.15) else ""
