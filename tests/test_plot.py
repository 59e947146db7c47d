"""Pictures hold what they should; how they look is for eyes."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
from media_files import make_media
from tiny import LABELS, tiny_model

import davel
from davel.cli import main
from davel.core.events import Event, EventList
from davel.core.timeline import Curve, Timing
from davel.data.simulate import draw_annotations, simulate
from davel.evaluate.compare import Compared
from davel.features.i3d_vggish import SPEC as I3D_VGGISH
from davel.models import CCNetConfig, UnavConfig, build
from davel.models.saved import ModelInfo, save_model
from davel.plot import draw, draw_compared, waveform_peaks

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plot")
    clip = make_media(folder / "a $clip$ \n.mkv", seconds=4)
    return davel.load(tiny_model(folder / "model")).localize(clip, top_k=4)


def drawn(result, tmp_path, monkeypatch, **more):
    """The picture's axes, and its bytes."""
    figures = saved_figures(monkeypatch)
    content = draw(result, tmp_path / "a.png", **more).read_bytes()
    return figures[0].axes, content


def saved_figures(monkeypatch) -> list:
    """Will hold those that are written."""
    from matplotlib.figure import Figure

    figures, save = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: figures.append(self) or save(self, *a, **k))
    return figures


def test_a_picture_has_a_lane_per_class_the_gates_and_the_sound(result, tmp_path, monkeypatch):
    (lanes, gates, sound), content = drawn(result, tmp_path, monkeypatch)
    assert content.startswith(b"\x89PNG")
    labels = [text.get_text() for text in lanes.get_yticklabels()]
    assert labels == list(dict.fromkeys(e.label for e in sorted(result.events, key=lambda e: e.start)))
    bars = sorted((bar.get_x(), bar.get_x() + bar.get_width()) for bar in lanes.patches)
    np.testing.assert_allclose(bars, sorted((e.start, e.end) for e in result.events))
    assert [line.get_label() for line in gates.lines] == ["gate from visual", "gate from audio"]
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


def test_models_are_drawn_under_the_truth_with_the_gates_of_those_that_have_some(tmp_path, monkeypatch):
    figures = saved_figures(monkeypatch)
    truth = EventList.of([Event("rain", 1.0, 2.5), Event("bell", 4, 9)], LABELS)
    found = {"a": EventList.of([Event("rain", 1.2, 2.5, 0.5)], LABELS), "b": EventList.of([], LABELS)}
    gate = Curve(Timing(25.0, 8, 24), np.linspace(0.2, 0.8, 30))
    video = Compared(
        "an id", 10.0, truth, found, {"a: gate from audio": gate, "a: gate from visual": gate}, "simulated"
    )
    draw_compared(video, tmp_path / "a.png")
    draw_compared(replace(video, curves={}), tmp_path / "b.png")
    lanes, gates = figures[0].axes
    assert [text.get_text() for text in lanes.get_yticklabels()] == ["rain", "bell"]
    bars = {(round(bar.get_x(), 2), round(bar.get_x() + bar.get_width(), 2)) for bar in lanes.patches}
    assert bars == {(1.0, 2.5), (4.0, 9.0), (1.2, 2.5)}
    assert [text.get_text() for text in lanes.get_legend().get_texts()] == ["true", "a", "b"]
    assert lanes.get_title(loc="left") == "an id · simulated"
    assert [line.get_label() for line in gates.lines] == ["a: gate from audio", "a: gate from visual"]
    assert gates.get_xlim() == lanes.get_xlim() == (0, 10)
    assert len(figures[1].axes) == 1


def test_the_command_draws_each_video_that_is_named(tmp_path, monkeypatch, capsys):
    data = simulate(tmp_path / "data", draw_annotations(4, 3), lazy=True)
    config = CCNetConfig(num_classes=3, max_length=192, width=8, class_width=4)
    info = ModelInfo("x", config, I3D_VGGISH, ("class 0", "class 1", "class 2"), 0.01, {})
    save_model(tmp_path / "ccnet" / "best", build(config), info)
    network = UnavConfig(num_classes=3, width=8, class_width=4)
    save_model(tmp_path / "unav" / "best", build(network), replace(info, config=network))

    def run(*arguments):
        models = ("-m", tmp_path / "ccnet" / "best", "-m", tmp_path / "unav" / "best")
        arguments = ("davel", "plot", *arguments, *models, "--data", data, "-o", tmp_path / "out", "--device", "cpu")
        monkeypatch.setattr(sys, "argv", list(map(str, arguments)))
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code or 0, capsys.readouterr()

    figures = saved_figures(monkeypatch)
    code, out = run("sim0-00001", "sim0-00002")
    assert code == 0, out.err
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["sim0-00001.png", "sim0-00002.png"]
    lanes, gates = figures[0].axes
    assert [t.get_text() for t in lanes.get_legend().get_texts()] == ["true", "ccnet/best", "unav/best"]
    assert [line.get_label() for line in gates.lines] == ["ccnet/best: gate from visual", "ccnet/best: gate from audio"]
    assert "simulated" in lanes.get_title(loc="left")
    code, out = run("nobody")
    assert code == 4
    assert out.err == "davel: nobody: is not among the 4 annotated videos\n"
