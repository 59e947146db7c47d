"""Names that are found when they are asked for, and those that had another name before."""

from __future__ import annotations

from importlib import import_module

import pytest

from davel.core.lazy import attributes

MOVED = {
    "davel.data.annotations.AnnotatedVideo": "davel.core.events.Video",
    "davel.data.annotations.Annotations": "davel.core.annotations.Annotations.of",
    "davel.data.annotations.Problem": "davel.core.annotations.Problem",
    "davel.data.annotations.inspect_annotations": "davel.formats.inspect_annotations",
    "davel.data.annotations.read_annotations": "davel.formats.read_annotations",
    "davel.data.annotations.write_annotations": "davel.formats.write_annotations",
    "davel.data.dataset.join": "davel.data.augment.join",
    "davel.data.dataset.random_crop": "davel.data.augment.random_crop",
    "davel.data.dataset.swap_audio": "davel.data.augment.swap_audio",
    "davel.detection.windows.Found": "davel.detection.windows.Detections",
    "davel.features.reading.extractor": "davel.features.reading.PROCESS.get",
    "davel.features.spec.I3D_VGGISH": "davel.features.i3d_vggish.SPEC",
    "davel.features.spec.ONE_PEACE": "davel.features.one_peace.SPEC",
    "davel.models.pyramid.Runs": "davel.models.detector.Detector",
    "davel.models.published.from_published": "davel.models.from_published",
    "davel.train.checkpoint_activations": "davel.models.detector.Network.recompute_activations",
    "davel.web.app.Settings": "davel.web.settings.ServerSettings",
}


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_an_old_name_gives_the_new_one_and_says_so(old, new):
    module, _, name = old.rpartition(".")
    with pytest.warns(DeprecationWarning, match=f"{old} is {new} now"):
        assert callable(getattr(import_module(module), name)) or name.isupper()


@pytest.mark.parametrize("module", sorted({old.rpartition(".")[0] for old in MOVED}))
def test_a_name_that_never_was_is_none(module):
    with pytest.raises(AttributeError, match=f"'{module}' has no attribute 'nothing'"):
        _ = import_module(module).nothing


def test_what_had_another_name_is_the_same_thing():
    getattr_ = attributes("here", moved={"Old": "davel.core.events:Event"})
    with pytest.warns(DeprecationWarning, match=r"here\.Old is davel\.core\.events\.Event now"):
        assert getattr_("Old").__name__ == "Event"


def test_the_configurations_by_name_are_still_there():
    import davel.models

    with pytest.warns(DeprecationWarning, match="CONFIGS is davel.models.MODELS"):
        assert davel.models.CONFIGS["ccnet"] is davel.models.CCNetConfig
