"""`davel extract`: many files, each done once, each failure told, whatever ends the run."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from media_files import grey, make_media, tone
from small_networks import published
from waiting import WAIT_SECONDS, eventually

from davel.compute.cluster import Cluster
from davel.core.annotations import Annotations
from davel.core.errors import ConfigError
from davel.core.events import Event, EventList, Video
from davel.data.sources import DataConfig
from davel.features import batch as archive
from davel.features import reading as extract
from davel.features import weights
from davel.features.batch import estimate, extract_files, plan, read_manifest
from davel.features.i3d_vggish import SPEC as I3D_VGGISH
from davel.features.reading import Settings
from davel.features.store import FeatureStore
from davel.formats import write_annotations

STREAMS = ("rgb", "flow", "vggish")


@pytest.fixture
def networks(monkeypatch, tmp_path_factory):
    """The published features, by networks that are no work."""
    return published(monkeypatch, tmp_path_factory.mktemp("home"))


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def clip(tmp_path):
    return make_media(tmp_path / "clip.mkv", seconds=2.6)


def test_a_clip_gives_the_three_published_files_and_their_description(clip, networks, run, tmp_path):
    code, out, err = run("extract", clip, "-o", "out")
    assert code == 0, err
    assert "clip.mkv: 6 steps" in out
    assert "1 done, 0 were done before, 0 failed: out" in out
    arrays = [np.load(tmp_path / "out" / f"clip_{stream}.npy") for stream in STREAMS]
    assert [a.shape for a in arrays] == [(6, 1024), (6, 1024), (6, 128)]
    assert all(a.dtype == np.float32 for a in arrays)
    facts = json.loads((tmp_path / "out" / "clip.features.json").read_text())
    assert facts["spec"] == I3D_VGGISH.to_dict()
    names = ("i3d-rgb", "i3d-flow", "raft", "vggish")
    assert facts["made_with"] == {"precision": "float32", "weights": {name: digest(name) for name in names}}
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "clip.features.json", "clip_flow.npy", "clip_rgb.npy", "clip_vggish.npy", "manifest.jsonl"
    ]  # fmt: skip
    entry = read_manifest(tmp_path / "out")["clip"]
    assert (entry["status"], entry["num_steps"], entry["size_bytes"]) == ("done", 6, clip.stat().st_size)


def test_on_disk_and_in_memory_features_are_the_same(clip, networks, tmp_path):
    settings = Settings.named("i3d-vggish")
    direct = extract.extract(clip, settings)
    kept = FeatureStore(tmp_path / "out").extracted(clip, "clip", settings)
    np.testing.assert_array_equal(kept.visual, direct.visual)
    np.testing.assert_array_equal(kept.audio, direct.audio)
    assert (kept.spec, kept.info, kept.coverage) == (direct.spec, direct.info, direct.coverage)


def test_unequal_streams_are_cut_to_the_shortest_and_told(networks, run, tmp_path):
    clip = make_media(tmp_path / "a.mkv", seconds=4, samples=tone(2, 16000))
    code, _, err = run("extract", clip, "-o", "out")
    assert code == 0
    assert "a.mkv: the streams have unequal lengths (rgb 10, flow 10, vggish 4), cut to 4 steps" in err
    assert len(np.load("out/a_rgb.npy")) == len(np.load("out/a_vggish.npy")) == 4


def test_what_is_done_is_skipped_until_input_or_settings_change(clip, networks, run, tmp_path):
    def statuses(*options: object) -> str:
        code, out, err = run("extract", clip, "-o", "out", *options)
        assert code == 0, err
        return out.splitlines()[-1][:24]

    done, skipped = "1 done, 0 were done befo", "0 done, 1 were done befo"
    assert statuses() == done
    assert statuses() == skipped
    os.utime(clip, (1, 1))  # touched, but the same
    assert statuses() == skipped
    assert statuses("--colours", "bt601") == done
    assert statuses("--colours", "bt601", "--flow-updates", "12") == done
    assert statuses("--colours", "bt601", "--flow-updates", "12") == skipped
    make_media(clip, seconds=3, picture=lambda t: grey(int(200 - 20 * t)))
    assert statuses("--colours", "bt601", "--flow-updates", "12") == done
    (tmp_path / "out" / "clip_flow.npy").unlink()
    assert statuses("--colours", "bt601", "--flow-updates", "12") == done


def test_other_weights_make_features_anew(clip, networks, run):
    run("extract", clip, "-o", "out")
    weights.find("raft").write_text("others")
    assert "1 done" in run("extract", clip, "-o", "out")[1]


def test_a_failure_leaves_nothing_and_is_tried_again(networks, run, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"nothing")
    code, out, err = run("extract", "bad.mp4", "-o", "out")
    assert code == 3
    assert "bad.mp4: not a media file" in err
    assert "0 done, 0 were done before, 1 failed" in out
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["manifest.jsonl"]
    assert "not a media file" in read_manifest(tmp_path / "out")["bad"]["error"]
    make_media(tmp_path / "bad.mp4", seconds=2)
    assert run("extract", "bad.mp4", "-o", "out")[0] == 0
    assert read_manifest(tmp_path / "out")["bad"]["status"] == "done"


def test_what_nobody_foresaw_fails_one_file(networks, run, tmp_path, monkeypatch):
    for name in ("a", "b"):
        make_media(tmp_path / f"{name}.mkv", seconds=1.5)
    real = FeatureStore.write

    def write(self: FeatureStore, path: Path, *rest: object) -> object:
        if path.stem == "a":
            raise RuntimeError("the moon")
        return real(self, path, *rest)

    monkeypatch.setattr(FeatureStore, "write", write)
    code, out, err = run("extract", tmp_path, "-o", "out")
    assert code == 3
    assert "unexpected RuntimeError: the moon" in err
    assert "1 done" in out


def test_a_full_disk_ends_it_all(clip, networks, run, tmp_path, monkeypatch):
    def write(*_: object) -> None:
        raise OSError(28, "No space left on device", "out/clip_rgb.npy")

    monkeypatch.setattr(FeatureStore, "write", write)
    code, _, err = run("extract", clip, "-o", "out")
    assert code == 4
    assert "out/clip_rgb.npy: cannot write: No space left on device: make room or name another folder" in err


def test_a_manifest_that_was_cut_off_is_still_read(tmp_path):
    (tmp_path / "manifest.jsonl").write_text('{"id": "a", "status": "done"}\n{"id": "b", "sta')
    assert list(read_manifest(tmp_path)) == ["a"]
    assert read_manifest(tmp_path / "none") == {}


def test_a_line_that_was_cut_off_does_not_take_the_next_with_it(clip, networks, run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.jsonl").write_text('{"id": "b", "sta')
    assert run("extract", clip, "-o", "out")[0] == 0
    assert list(read_manifest(tmp_path / "out")) == ["clip"]


def test_two_files_of_one_name_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"would both be written to a_\*\.npy: use two folders"):
        plan([tmp_path / "x" / "a.mp4", tmp_path / "y" / "a.mkv"], tmp_path, Settings.named("light"))


def test_files_of_one_stem_in_two_folders_of_a_glob_stay_apart_and_are_trained_on(run, tmp_path):
    for name in ("cam1", "cam2"):
        (tmp_path / name).mkdir()
        make_media(tmp_path / name / "0001.mkv", seconds=2)
    make_media(tmp_path / "cam2" / "0002.mkv", seconds=2)
    code, out, err = run("extract", "cam*/*.mkv", "-o", "out", "--features", "light", "--workers", 1)
    assert code == 0, err
    assert "3 done" in out
    ids = ["0002", "cam1/0001", "cam2/0001"]
    assert sorted(read_manifest(tmp_path / "out")) == ids
    settings = Settings.named("light")
    for job in plan([tmp_path / "cam*" / "*.mkv"], tmp_path / "out", settings):
        assert job.is_finished()
    labels = ("bark",)
    videos = {id: Video(id, EventList.of([Event("bark", 0, 1)], labels), 2.0, subset="train") for id in ids}
    write_annotations(tmp_path / "a.json", Annotations.of(labels, videos))
    config = DataConfig(annotations=tmp_path / "a.json", features=tmp_path / "out")
    dataset = config.open(config.annotated().videos)
    assert sorted(dataset.videos) == ids
    visual, _ = dataset.read("cam2/0001")
    np.testing.assert_array_equal(visual, FeatureStore(tmp_path / "out").read("cam2/0001").visual)


@pytest.mark.parametrize(
    ("options", "code", "complaint"),
    [
        (["--features", "heavy"], 4, "unknown features 'heavy': choose from light, i3d-vggish"),
        (["--colours", "sepia"], 4, "colours is 'sepia': choose from declared, bt601"),
        (["--resampler", "sox"], 4, "resampler is 'sox': choose from soxr, resampy-0.2.2"),
        (["--features", "light", "--flow-updates", "3"], 4, "features 'light': no option 'flow_updates': choose from"),
        (["--precision", "int8"], 2, "expected float32, bfloat16 or float16"),
        (["--ray-cpus", "2"], 2, "are for --ray"),
        (["--ray", "local", "--workers", "2"], 2, "a cluster has its own"),
        (["--ray", "local", "--ray-cpus", "0"], 2, "a task takes some of either"),
    ],
)  # fmt: skip
def test_options_that_cannot_be_are_refused(clip, run, options, code, complaint):
    ended, _, err = run("extract", clip, "-o", "out", *options)
    assert ended == code
    assert complaint in " ".join(err.replace("│", " ").split())


def test_missing_weights_end_with_5_and_leave_nothing(clip, run, tmp_path, monkeypatch):
    monkeypatch.setenv("DAVEL_HOME", str(tmp_path / "home"))
    code, _, err = run("extract", clip, "-o", "out")
    assert code == 5
    assert "the weights 'i3d-rgb' are not there: run `davel weights fetch i3d-rgb`" in err
    assert not (tmp_path / "out").exists()


def test_a_long_run_is_estimated_from_its_first_steps(networks, tmp_path):
    settings = Settings.named("i3d-vggish")
    paths = [make_media(tmp_path / f"{i}.mkv", seconds=s) for i, s in enumerate((0.5, 3.0))]
    (tmp_path / "bad.mp4").write_bytes(b"nothing")
    jobs = plan([tmp_path / "bad.mp4", *paths], tmp_path / "out", settings)
    forecast = estimate(jobs)
    assert forecast is not None
    assert forecast.media_seconds == pytest.approx(3.5, abs=0.3)
    assert 0 < forecast.work_seconds < 60
    assert "of media: about" in str(forecast)
    assert estimate(jobs, least_seconds=10) is None
    list(extract_files(jobs))
    assert estimate(jobs[1:]) is None or estimate(jobs[1:]).media_seconds < 1


def test_pictures_that_are_too_narrow_are_refused(networks, run, tmp_path):
    make_media(tmp_path / "a.mkv", seconds=2, picture=lambda t: grey(9, (20, 200)))
    code, _, err = run("extract", "a.mkv", "-o", "out")
    assert code == 3
    assert "a.mkv: its pictures of 200x20 pixels are too long and narrow: cut them to 8:1" in err


def light_clips(target: Path, good: int, bad: int) -> list[str]:
    """Short clips of two kinds of broken files between good ones; the names of the broken ones."""
    target.mkdir()
    models = [make_media(target / f"m{i}.mkv", seconds=1.2, picture=lambda t, i=i: grey(20 * i + 9)) for i in range(4)]
    for i in range(good - len(models)):
        shutil.copy(models[i % 4], target / f"c{i:03}.mkv")
    names = []
    for i in range(bad):
        content = models[0].read_bytes()
        names.append(f"c{i:03}x.mkv")
        (target / names[-1]).write_bytes(content[: len(content) // 2] if i % 2 else b"\0" * 99)
    return names


@pytest.mark.slow
def test_two_hundred_clips_with_five_broken_ones(run, tmp_path):
    bad = light_clips(tmp_path / "clips", good=195, bad=5)
    code, out, err = run("extract", "clips", "-o", "out", "--features", "light", "--workers", "2")
    assert code == 3
    assert "195 done, 0 were done before, 5 failed" in out
    listed = err[err.index("5 of 200 files failed") :]
    assert all(name in listed for name in bad)
    entries = read_manifest(tmp_path / "out")
    assert len(entries) == 200
    assert sorted(f"{key}.mkv" for key, entry in entries.items() if entry["status"] == "failed") == sorted(bad)
    assert len(list((tmp_path / "out").glob("*_light-visual.npy"))) == 195
    code, out, _ = run("extract", "clips", "-o", "out", "--features", "light", "--workers", "2")
    assert code == 3
    assert "0 done, 195 were done before, 5 failed" in out


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_was_ended_loses_the_files_at_work_alone(tmp_path, end):
    light_clips(tmp_path / "clips", good=120, bad=0)
    arguments = ["extract", "clips", "-o", "out", "--features", "light", "--workers", "2"]
    command = [sys.executable, "-m", "davel", *arguments]
    first = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    manifest = tmp_path / "out" / "manifest.jsonl"

    def has_begun() -> bool:
        assert first.poll() is None, "it ended before it could be interrupted"
        return manifest.exists() and manifest.read_text().count("\n") >= 3

    def is_alone() -> bool:
        try:
            os.killpg(first.pid, 0)
        except ProcessLookupError:
            return True
        return False

    eventually(has_begun)
    first.send_signal(end)
    code = first.wait(timeout=WAIT_SECONDS)
    assert code == (130 if end == signal.SIGINT else -9)
    eventually(is_alone, "its processes see that they are alone")
    finished = {path.name.removesuffix(".features.json") for path in (tmp_path / "out").glob("*.features.json")}
    assert 3 <= len(finished) < 120, "it ended before it could be interrupted"
    for key in finished:  # what is there is whole
        features = FeatureStore(tmp_path / "out").read(key)
        assert len(features) == 1
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{120 - len(finished)} done, {len(finished)} were done before, 0 failed" in done.stdout
    assert not list((tmp_path / "out").glob(".*"))


@pytest.mark.slow
def test_two_workers_of_a_ray_cluster_do_the_same(tmp_path, run, monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", str(Path(archive.__file__).parents[2]))
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    address = ray.get_runtime_context().gcs_address
    monkeypatch.setattr(ray, "shutdown", lambda: None)  # it is this test's
    monkeypatch.setattr(ray, "init", lambda *a, **k: None)
    try:
        bad = light_clips(tmp_path / "clips", good=6, bad=1)
        code, out, err = run("extract", "clips", "-o", "out", "--features", "light", "--ray", address)
        assert code == 3, err
        assert "6 done, 0 were done before, 1 failed" in out
        assert bad[0] in err
        here = [Settings.named("light"), tmp_path / "clips" / "m1.mkv"]
        np.testing.assert_array_equal(np.load("out/m1_light-visual.npy"), extract.extract(here[1], here[0]).visual)
        code, out, err = run("localize", "clips/m0.mkv", "clips/m1.mkv", "-o", "events", "--ray", address)
        assert code == 0, err
        assert sorted(os.listdir("events")) == ["m0.json", "m1.json"]
    finally:
        monkeypatch.undo()
        ray.shutdown()


def test_without_ray_a_cluster_is_missing(clip, run, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _, err = run("extract", clip, "-o", "out", "--features", "light", "--ray", "auto")
    assert code == 5
    assert "Ray is not installed: pip install 'davel[ray]'" in err


def test_settings_name_what_this_davel_can_do():
    with pytest.raises(ConfigError, match="version is 1 in this davel but 2 in what is asked for"):
        Settings(replace(I3D_VGGISH, version=2))
    assert Settings.named("i3d-vggish").spec == I3D_VGGISH
    assert Cluster().address == "auto"
