"""Features against published ones: what differs has a cause, in words."""

from __future__ import annotations

import json

import numpy as np
import pytest

from davel.core.errors import ConfigError
from davel.features.verify import best_offset, compare, compare_folders


def features(steps: int = 113, channels: int = 128, seed: int = 0) -> np.ndarray:
    """A random walk whose steps resemble their neighbours, as those of overlapping windows do."""
    rng = np.random.default_rng(seed)
    walk = rng.standard_normal((steps + 8, channels)).cumsum(0)
    smooth = (walk[8:] - walk[:-8]) / np.sqrt(8)
    return np.abs(smooth).astype(np.float32)


def cause(ours: np.ndarray, reference: np.ndarray, others: dict[str, np.ndarray] | None = None) -> str:
    return compare("a", "vggish", ours, reference, others or {}).cause


def test_the_same_features_match():
    result = compare("a", "vggish", features(), features(), {})
    assert result.matches
    assert (result.offset, result.length, result.reference_length) == (0, 113, 113)
    assert result.cosine == pytest.approx(1)


def test_a_little_noise_and_a_step_more_match():
    noisy = features() + 0.02 * np.random.default_rng(1).standard_normal((113, 128)).astype(np.float32)
    assert cause(noisy, features()[:-1]) == ""


def test_a_hop_of_0_96_s_is_named():
    dense = features()
    assert "38 steps against 113: our steps are three times as long: hop 0.96 s" in cause(dense[::3], dense)
    assert "the reference has a hop of 0.96 s" in cause(dense, dense[::3])


def alike(steps: int, seed: int) -> np.ndarray:
    """Features that have nearly all in common, as those of real networks do."""
    return 5 + 0.05 * features(steps, 1024, seed)


def test_streams_that_look_all_the_same_are_told_apart():
    rgb, flow = alike(60, 1), alike(60, 2)
    assert compare("a", "rgb", flow, rgb, {}).cosine > 0.99
    assert "the streams are exchanged" in compare("a", "rgb", flow, rgb, {"flow": flow}).cause
    assert "shifted by 2 steps" in compare("a", "rgb", rgb[2:], rgb[:-2], {"flow": flow}).cause
    assert "another stride" in compare("a", "rgb", rgb[::2], rgb, {"flow": flow}).cause
    assert compare("a", "rgb", rgb, rgb, {"flow": flow}).matches


def test_lengths_alone_name_the_hop_where_numbers_differ():
    assert "hop 0.96 s" in cause(features(32, seed=5), features(97))


def test_exchanged_streams_are_named():
    rgb, flow = features(seed=1), features(seed=2)
    assert "this is the reference's 'flow': the streams are exchanged" in cause(flow, rgb, {"flow": flow})


def test_another_frame_rate_is_named():
    dense = features(400)
    slower = dense[(np.arange(300) * 1.2).round().astype(int)]
    assert "another frame rate (as 25 fps for 30)" in cause(slower, dense[:360])


def test_a_shift_is_named_with_its_seconds():
    long = features(120)
    result = compare("a", "vggish", long[3:], long[:-3], {})
    assert result.offset == 3
    assert "shifted by 3 steps (+0.96 s" in result.cause


def test_a_cut_video_is_named():
    assert "to where the shorter one ends" in cause(features()[:90], features())


def test_other_weights_are_named():
    signed = np.random.default_rng(0).standard_normal((2, 50, 128)).astype(np.float32)
    assert "unrelated" in cause(signed[0], signed[1])


def test_other_colours_are_suggested():
    noisy = features() + 0.25 * np.random.default_rng(1).standard_normal((113, 128)).astype(np.float32)
    assert "try --colours bt601" in cause(noisy, features())


def test_postprocessed_vggish_is_named():
    quantised = (features() * 40).round().clip(0, 255)
    assert "VGGish's postprocessing" in cause(np.abs(features(seed=3)), quantised)


def test_other_channels_are_named():
    assert "128 channels against 64: these are different features" in cause(features(), features(channels=64))


def test_silence_is_like_silence():
    assert best_offset(np.zeros((9, 128), np.float32), np.zeros((9, 128), np.float32)) == (0, 1.0)


@pytest.fixture
def folders(tmp_path):
    for name in ("mine", "theirs"):
        (tmp_path / name).mkdir()
        for seed, (stream, channels) in enumerate((("rgb", 1024), ("flow", 1024), ("vggish", 128))):
            np.save(tmp_path / name / f"a_b_{stream}.npy", features(40, channels, seed))
    return tmp_path / "mine", tmp_path / "theirs"


def test_folders_are_compared_stream_by_stream(folders, run):
    results = compare_folders(*folders)
    assert [(r.key, r.stream) for r in results] == [("a_b", "flow"), ("a_b", "rgb"), ("a_b", "vggish")]
    code, out, _ = run("features", "verify", *folders)
    assert code == 0
    assert "rgb: 1 of 1 match, median cosine 1.0000" in out


def test_exchanged_files_end_with_4(folders, run):
    mine, theirs = folders
    (mine / "a_b_rgb.npy").rename(mine / "x.npy")
    (mine / "a_b_flow.npy").rename(mine / "a_b_rgb.npy")
    (mine / "x.npy").rename(mine / "a_b_flow.npy")
    code, out, _ = run("features", "verify", mine, theirs, "--json")
    assert code == 4
    causes = {r["stream"]: r["cause"] for r in json.loads(out)}
    assert "'flow': the streams are exchanged" in causes["rgb"]
    assert "'rgb': the streams are exchanged" in causes["flow"]
    assert causes["vggish"] == ""


def test_two_files_are_compared(folders, run):
    mine, theirs = folders
    code, out, _ = run("features", "verify", mine / "a_b_vggish.npy", theirs / "a_b_vggish.npy")
    assert code == 0
    assert "vggish: 1 of 1 match" in out


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"nothing", "is not a whole .npy file of numbers"),
        (np.zeros(3), r"expected \(steps, channels\) of numbers, got \(3,\)"),
        (np.full((3, 128), np.nan), "has values that are NaN or infinite"),
    ],
)
def test_broken_files_are_refused(folders, content, complaint):
    mine, theirs = folders
    if isinstance(content, bytes):
        (mine / "a_b_vggish.npy").write_bytes(content)
    else:
        np.save(mine / "a_b_vggish.npy", content)
    with pytest.raises(ConfigError, match=complaint):
        compare_folders(mine, theirs)


def test_folders_without_a_common_file_are_refused(folders, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="have no file in common"):
        compare_folders(folders[0], tmp_path / "empty")
    with pytest.raises(ConfigError, match="there is no such file or folder"):
        compare_folders(folders[0], tmp_path / "gone")
    with pytest.raises(ConfigError, match="name two files or two folders"):
        compare_folders(folders[0], folders[1] / "a_b_rgb.npy")
