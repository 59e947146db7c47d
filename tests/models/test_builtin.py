"""The model that is shipped, and the demo that shows it."""

from __future__ import annotations

import json
import sys

import pytest

import davel
from davel import cli
from davel.data.scenes.render import LABELS, render_scenes
from davel.evaluate.metrics import decoys_reported, pair
from davel.formats import read_annotations
from davel.models.saved import BUILTIN, find_model


def test_the_shipped_model_is_small_and_knows_the_scenes_classes():
    folder = BUILTIN / "scenes"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 10e6
    localizer = davel.load("scenes")
    assert localizer.info.labels == LABELS
    assert localizer.info.figures["test"]["average_mAP"] >= 0.75
    assert localizer.info.figures["test"]["decoys_reported"] <= 0.05


@pytest.mark.slow
def test_the_shipped_model_finds_the_events_of_unseen_scenes_and_leaves_the_decoys(tmp_path):
    annotations = read_annotations(render_scenes(tmp_path, num_videos=3, seed=31, subset="test", workers=1))
    localizer = davel.load()
    found = {key: localizer.localize(tmp_path / "videos" / f"{key}.mp4").events for key in annotations.videos}
    rows = [row for key, video in annotations.videos.items() for row in pair(video.events, found[key])]
    right = sum(overlap >= 0.5 for _, _, overlap in rows)
    assert right >= 0.7 * len(rows), rows
    reported, decoys = decoys_reported(found, {key: video.decoys for key, video in annotations.videos.items()})
    assert decoys >= 3
    assert reported <= 0.2 * decoys


def test_the_demo_prints_found_against_true_and_says_where_its_files_are(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["davel", "demo", "-o", "out", "--seed", "31"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code
    out = capsys.readouterr().out
    result = json.loads((tmp_path / "out" / "scene-31-00000.json").read_text())
    truth = read_annotations(tmp_path / "out" / "annotations.json").videos["scene-31-00000"].events
    for event in [*result["events"], *({"label": e.label, "start": e.start, "end": e.end} for e in truth)]:
        assert event["label"] in out
        assert f"{event['start']:.2f} - {event['end']:.2f}" in out
    assert "out/scene-31-00000.png" in out
    assert (tmp_path / "out" / "scene-31-00000.png").read_bytes().startswith(b"\x89PNG")


def test_a_folder_of_the_shipped_models_name_that_holds_no_model_does_not_hide_it(tmp_path, monkeypatch):
    (tmp_path / "scenes" / "videos").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert find_model("scenes").parent.name == "builtin"
