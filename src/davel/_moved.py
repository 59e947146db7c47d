"""Modules that had another name before 0.2: for one release, an old name gives the new module and says so."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "davel.errors": "davel.core.errors",
    "davel.files": "davel.core.files",
    "davel.config": "davel.core.config",
    "davel.events": "davel.core.events",
    "davel.device": "davel.compute.device",
    "davel.memory": "davel.compute.allocator",
    "davel.parallel": "davel.compute.distributed",
    "davel.workers": "davel.compute.pool",
    "davel.tracks": "davel.media.sampling",
    "davel.live": "davel.media.recording",
    "davel.kaiser": "davel.media.resampy",
    "davel.web.peaks": "davel.media.peaks",
    "davel.formats.document": "davel.formats.base",
    "davel.features.folder": "davel.features.store",
    "davel.data.inspection": "davel.data.check",
    "davel.features.layout": "davel.features.family",
    "davel.features.extract": "davel.features.reading",
    "davel.features.archive": "davel.features.batch",
    "davel.features.streams": "davel.features.i3d_vggish.stream",
    "davel.pretrained": "davel.features.weights",
    "davel.models.network": "davel.models.pyramid",
    "davel.weights": "davel.models.saved",
    "davel.onnx": "davel.models.onnx",
    "davel.detection.targets": "davel.models.targets",
    "davel.detection.losses": "davel.models.losses",
    "davel.data.folder": "davel.data.sources",
    "davel.data.scene_classes": "davel.data.scenes.classes",
    "davel.check": "davel.data.check",
    "davel.project": "davel.data.setup",
    "davel.windows": "davel.detection.windows",
    "davel.follow": "davel.localize.follow",
    "davel.metrics": "davel.evaluate.metrics",
    "davel.analysis": "davel.evaluate.analysis",
    "davel.report": "davel.evaluate.report",
    "davel.compare": "davel.evaluate.compare",
    "davel.recipe": "davel.train.recipe",
    "davel.ablate": "davel.train.tables",
}


class _Finder(MetaPathFinder, Loader):
    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(MOVED[spec.name])
        self._own = module.__spec__
        warnings.warn(f"{spec.name} is {MOVED[spec.name]} now", DeprecationWarning, stacklevel=2)
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._own  # which the import of the old name has replaced


def install() -> None:
    """Let old names be imported; once is enough."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
