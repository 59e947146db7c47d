"""I3D, RAFT and VGGish against the published implementations: `tests/golden/{i3d,raft,vggish,vggish_hop032}.npz`."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from golden_values import GOLDEN, published_state
from hypothesis import given
from hypothesis import strategies as st

from davel.core.errors import ConfigError
from davel.features import i3d, raft, vggish


def golden(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / f"{name}.npz") as stored:
        return dict(stored)


def departure(ours, theirs: np.ndarray) -> float:
    return float(np.abs(np.asarray(ours) - theirs).max() / theirs.std())


@pytest.fixture(scope="module")
def windows() -> dict[str, torch.Tensor]:
    """A window of frames and one of flow, as the golden values were made of: (1, C, 24, 224, 224) each."""
    rng = np.random.default_rng(int(golden("i3d")["seed"]))
    rgb = torch.from_numpy(rng.integers(0, 256, (24, 256, 341, 3)))
    flow = torch.from_numpy((rng.standard_normal((24, 256, 341, 2)) * 12).astype(np.float32))
    return {
        "rgb": i3d.rgb_input(rgb.permute(3, 0, 1, 2))[None],
        "flow": i3d.flow_input(flow.permute(3, 0, 1, 2))[None],
    }


@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_i3d_is_the_published_one(windows, stream):
    expected = golden("i3d")
    model = i3d.I3D.from_published(published_state(f"i3d_{stream}"))
    with torch.inference_mode():
        pooled = model.pooled(windows[stream])
        logits = model.conv3d_0c_1x1["conv3d"](pooled[..., None, None]).flatten(2).mean(2)
    assert departure(pooled.mean(2), expected[f"{stream}_feature"]) < 1e-4
    assert departure(logits, expected[f"{stream}_logits"]) < 1e-4


def test_i3d_weighs_its_last_three_steps_1_2_1():
    torch.manual_seed(0)
    model = i3d.I3D(2).eval()
    x = torch.rand(2, 2, 24, 224, 224)
    with torch.inference_mode():
        pooled, feature = model.pooled(x), model(x)
        torch.testing.assert_close(feature, pooled.mean(2))
        torch.testing.assert_close(
            model.classify(x), model.conv3d_0c_1x1["conv3d"](pooled[..., None, None]).mean((2, 3, 4))
        )
    assert feature.shape == (2, i3d.FEATURE_DIM)
    assert pooled.shape[2] == 2


def test_i3d_needs_sixteen_frames():
    with pytest.raises(ValueError, match="at least 16 frames, got 15"):
        i3d.I3D(3)(torch.zeros(1, 3, 15, 224, 224))


def test_i3d_pads_by_kernel_and_stride_alone():
    assert i3d.same_padding((7, 7, 7), (2, 2, 2)) == [2, 3] * 3
    assert i3d.same_padding((1, 3, 3), (1, 2, 2)) == [0, 1, 0, 1, 0, 0]
    assert i3d.same_padding((2, 2, 2), (2, 2, 2)) == [0] * 6


def test_flow_is_cut_and_quantised_half_to_even():
    flow = torch.tensor([-25.0, -20, -1, 0, 1, 20, 25])
    levels = (i3d.flow_input(flow[:, None, None].expand(7, 224, 224))[:, 0, 0] + 1) * 255 / 2
    assert levels.round().tolist() == [0, 0, 122, 128, 134, 256, 256]


def test_the_centre_is_cropped_from_the_left_and_the_top_down():
    x = torch.arange(455).expand(256, 455)
    assert i3d.centre_crop(x)[0, [0, -1]].tolist() == [115, 338]
    assert i3d.centre_crop(x.T.contiguous())[0].tolist() == [115] * 224


@pytest.fixture(scope="module")
def flow_network() -> raft.RAFT:
    return raft.RAFT.from_published(published_state("raft"))


def test_raft_is_the_published_one(flow_network):
    expected = golden("raft")
    frames = [raft.pad_to_scale(torch.from_numpy(expected[name]).float()) for name in ("frame1", "frame2")]
    with torch.inference_mode():
        flow = flow_network(*frames, updates=int(expected["iters"]))
    left, right, top, bottom = expected["pad"]
    cropped = flow[..., top : flow.shape[2] - bottom, left : flow.shape[3] - right]
    assert departure(cropped, expected["flow"]) < 1e-3


def test_raft_does_the_same_frame_by_frame(flow_network):
    frames = torch.randint(0, 256, (3, 3, 128, 136), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        maps, contexts = flow_network.encode(frames), flow_network.context(frames[:-1])
        shared = flow_network.flow(maps[:-1], maps[1:], contexts, updates=3)
        pairs = [flow_network(frames[i, None], frames[i + 1, None], updates=3) for i in range(2)]
    torch.testing.assert_close(shared, torch.cat(pairs), rtol=1e-3, atol=1e-3)


def to_torchvision(key: str) -> str | None:
    """A name of the authors' as torchvision has it, None for what it leaves out."""
    if ".norm3." in key:
        return None
    network, _, rest = key.partition(".")
    if network in ("fnet", "cnet"):
        rest = re.sub(r"(layer\d\.\d)\.conv(\d)\.", r"\1.convnormrelu\2.0.", rest)
        rest = re.sub(r"(layer\d\.\d)\.norm(\d)\.", r"\1.convnormrelu\2.1.", rest)
        rest = re.sub(r"^conv1\.", "convnormrelu.0.", rest)
        rest = re.sub(r"^norm1\.", "convnormrelu.1.", rest)
        rest = re.sub(r"^conv2\.", "conv.", rest)
        return {"fnet": "feature_encoder.", "cnet": "context_encoder."}[network] + rest
    rest = re.sub(r"^encoder\.convc(\d)", r"motion_encoder.convcorr\1.0", rest)
    rest = re.sub(r"^encoder\.convf(\d)", r"motion_encoder.convflow\1.0", rest)
    rest = re.sub(r"^encoder\.conv\.", "motion_encoder.conv.0.", rest)
    rest = re.sub(r"^gru\.conv(\w)(\d)", r"recurrent_block.convgru\2.conv\1", rest)
    if rest.startswith("mask."):
        return rest.replace("mask.0.", "mask_predictor.convrelu.0.").replace("mask.2.", "mask_predictor.conv.")
    return f"update_block.{rest}"


def test_raft_reads_both_public_layouts(flow_network):
    theirs = {to_torchvision(key): tensor for key, tensor in published_state("raft").items()}
    theirs.pop(None, None)
    assert len(theirs) == 169
    again = raft.RAFT.from_published(theirs)
    prefixed = raft.RAFT.from_published({f"module.{key}": x for key, x in published_state("raft").items()})
    for other in (again.state_dict(), prefixed.state_dict()):
        for key, tensor in flow_network.state_dict().items():
            assert torch.equal(other[key], tensor)
    assert sum(p.numel() for p in again.parameters()) == 5_257_536


def test_raft_is_equal_to_the_packaged_one(flow_network):
    models = pytest.importorskip("torchvision.models.optical_flow")
    packaged = models.raft_large(weights=None).eval()
    packaged.load_state_dict({to_torchvision(key): x for key, x in flow_network.state_dict().items()})
    frames = torch.randint(0, 256, (2, 1, 3, 128, 136)).float()
    with torch.inference_mode():
        theirs = packaged(*(2 * frames / 255 - 1), num_flow_updates=4)[-1]
        torch.testing.assert_close(flow_network(*frames, updates=4), theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 3, 128, 130), (1, 3, 120, 128)])
def test_raft_refuses_sizes_it_cannot_take(flow_network, shape):
    with pytest.raises(ValueError, match="a multiple of 8 and at least 128"):
        flow_network(torch.zeros(shape), torch.zeros(shape))


@given(st.integers(1, 40), st.integers(1, 40))
def test_frames_are_padded_evenly_to_multiples_of_eight(H, W):
    x = torch.rand(1, 1, H, W)
    padded = raft.pad_to_scale(x)
    rows, columns = padded.shape[2] - H, padded.shape[3] - W
    assert padded.shape[2] % 8 == padded.shape[3] % 8 == 0
    assert 0 <= rows < 8
    assert torch.equal(padded[..., rows // 2 : rows // 2 + H, columns // 2 : columns // 2 + W], x)
    assert torch.equal(padded[0, 0, 0, :1], x[0, 0, 0, :1])


@pytest.fixture(scope="module")
def audio_network() -> vggish.VGGish:
    return vggish.VGGish.from_published(published_state("vggish"))


@pytest.mark.parametrize("name", ["vggish", "vggish_hop032"])
def test_vggish_is_the_published_one(audio_network, name):
    expected = golden(name)
    hop = float(expected["hop_seconds"])
    examples = vggish.examples(vggish.log_mel(expected["waveform"]), hop)
    np.testing.assert_allclose(examples, expected["log_mel"], atol=1e-5)
    features = vggish.embed(audio_network, expected["waveform"], hop, batch_size=2)
    assert departure(features, expected["embedding"]) < 1e-4
    assert (features >= 0).all()


def test_vggish_has_all_published_weights(audio_network):
    assert sum(p.numel() for p in audio_network.parameters()) == 72_141_184


def test_silence_is_the_logarithm_of_the_offset():
    spectra = vggish.log_mel(np.zeros(16000, np.float32))
    assert spectra.shape == (98, 64)
    assert spectra == pytest.approx(np.log(0.01))


def test_a_constant_is_no_sound():
    assert (vggish.mel_weights()[0] == 0).all()


@given(st.integers(0, 40000))
def test_examples_are_as_many_as_fit(N):
    spectra = vggish.log_mel(np.zeros(N))
    n = max(1 + (N - 400) // 160, 0)
    assert spectra.shape == (n, 64)
    assert len(vggish.examples(spectra)) == max((n - 96) // 32 + 1, 0)


def test_sound_too_short_has_no_features(audio_network):
    assert vggish.embed(audio_network, np.zeros(15000)).shape == (0, 128)
    with pytest.raises(ValueError, match=r"expected mono samples \(N,\), got \(2, 9\)"):
        vggish.log_mel(np.zeros((2, 9)))


@pytest.mark.parametrize("network", [i3d.I3D, raft.RAFT, vggish.VGGish])
def test_a_checkpoint_of_something_else_is_refused(network):
    for state in ({}, {"a": torch.zeros(1)}, {"conv3d_1a_7x7.conv3d.weight": torch.zeros(64, 3, 7, 7, 7)}):
        with pytest.raises(ConfigError, match=r"not an? .* checkpoint"):
            network.from_published(state)
