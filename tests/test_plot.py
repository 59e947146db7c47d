"""Pictures hold what they should; how they look is for eyes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from media_files import make_media
from tiny import LABELS, tiny_model

import davel
from davel.events import Event, EventList
from davel.plot import draw, waveform_peaks

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plot")
    clip = make_media(folder / "a $clip$ \n.mkv", seconds=4)
    return davel.load(tiny_model(folder / "model")).localize(clip, top_k=4)


def drawn(result, tmp_path, monkeypatch, **more):
    """The picture's axes, and its bytes."""
    from matplotlib.figure import Figure

    figures = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: figures.append(self) or save(self, *a, **k))
    content = draw(result, tmp_path / "a.png", **more).read_bytes()
    return figures[0].axes, content


def test_a_picture_has_a_lane_per_class_the_gates_and_the_sound(result, tmp_path, monkeypatch):
    (lanes, gates, sound), content = drawn(result, tmp_path, monkeypatch)
    assert content.startswith(b"\x89PNG")
    labels = [text.get_text() for text in lanes.get_yticklabels()]
    assert labels == list(dict.fromkeys(e.label for e in sorted(result.events, key=lambda e: e.start)))
    bars = sorted((bar.get_x(), bar.get_x() + bar.get_width()) for bar in lanes.patches)
    np.testing.assert_allclose(bars, sorted((e.start, e.end) for e in result.events))
    assert [line.get_label() for line in gates.lines] == ["from visual", "from audio"]
    assert lanes.get_xlim() == gates.get_xlim() == sound.get_xlim() == (0, result.duration)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_true_events_are_drawn_beside_those_found(result, tmp_path, monkeypatch):
    truth = EventList.of([Event("rain", 1.0, 2.5)], LABELS)
    (lanes, *_), _ = drawn(result, tmp_path, monkeypatch, truth=truth)
    assert len(lanes.patches) == len(result.events) + 1
    assert any((bar.get_x(), bar.get_width()) == (1.0, 1.5) for bar in lanes.patches)


def test_a_result_without_events_is_drawn_too(result, tmp_path, monkeypatch):
    (lanes, *_), _ = drawn(replace(result, events=result.events[:0]), tmp_path, monkeypatch)
    assert "no events" in [text.get_text() for text in lanes.texts]


def test_the_waveforms_peaks_are_those_of_the_sound(result):
    peaks = waveform_peaks(result.info.path)
    assert len(peaks) == pytest.approx(4 * 50, abs=5)
    assert peaks[20:180].max() == pytest.approx(0.5, abs=0.1)
