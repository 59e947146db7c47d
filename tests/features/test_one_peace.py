"""ONE-PEACE's encoders and preparation against the released ones: `tests/golden/one_peace/`."""

from __future__ import annotations

import json
from math import prod

import numpy as np
import pytest
import soxr
import torch
from golden_values import GOLDEN, published_state
from small_one_peace import base_state

from davel.core.errors import ConfigError
from davel.features.one_peace.audio import OnePeaceAudio, prepare_audio
from davel.features.one_peace.encoder import Encoder, check_shapes
from davel.features.one_peace.layers import distance_buckets, padded, sequence_bias
from davel.features.one_peace.published import encoders
from davel.features.one_peace.text import OnePeaceText, batch
from davel.features.one_peace.video import OnePeaceVideo, normalise, prepare_frame, scaled_size
from davel.media.resampy import Resampler

NEAR = 1e-5
"""Of the reference's spread; the specification's own implementation departs by 5e-6."""


def golden(name: str) -> tuple[dict, dict[str, np.ndarray]]:
    with np.load(GOLDEN / "one_peace" / f"{name}.npz") as stored:
        values = dict(stored)
    return json.loads(str(values.pop("meta"))), values


def departure(ours, theirs: np.ndarray) -> float:
    return float(np.abs(np.asarray(ours) - theirs).max() / theirs.std())


def sum_departure(ours: torch.Tensor, theirs: np.ndarray) -> float:
    """Of sums over channels (..., D): against the spread that a sum of so many values like these has by chance."""
    spread = ours.double().std().item() * ours.shape[-1] ** 0.5
    return float(np.abs(ours.double().sum(-1).numpy() - theirs).max() / spread)


def stages(encoder: Encoder, x: torch.Tensor) -> list[torch.Tensor]:
    """What runs through the layers, before the first and behind each."""
    seen = []
    hooks = [encoder.layers[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))]
    hooks += [layer.register_forward_hook(lambda _, __, made: seen.append(made)) for layer in encoder.layers]
    encoder(x, at_once=len(x))
    for hook in hooks:
        hook.remove()
    return seen


def clips(meta: dict) -> list[np.ndarray]:
    rng = np.random.default_rng(meta["seed"])
    return [0.1 * rng.standard_normal(n, dtype=np.float32) + np.float32(0.05) for n in meta["lengths"]]


def windows(meta: dict, side: int) -> tuple[list[torch.Tensor], list[np.ndarray]]:
    """Batches of clips, and then frames."""
    rng = np.random.default_rng(meta["seed"])
    made = []
    for B in meta["clips"]:
        noise = rng.standard_normal((B, 3, meta["frames"], side, side), dtype=np.float32)
        light = rng.standard_normal((B, 3, meta["frames"], 1, 1), dtype=np.float32)
        made.append(torch.from_numpy(noise + 2 * light))
    return made, [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in meta["sizes"]]


@pytest.mark.parametrize("name", ["audio_small", pytest.param("audio_wide", marks=pytest.mark.slow)])
def test_sound_is_embedded_as_by_the_released_encoder(name):
    meta, expected = golden(name)
    encoder = OnePeaceAudio.from_published(published_state(f"one_peace/{name}"))
    assert (encoder.sizes.heads, encoder.sizes.layers) == (meta["heads"], meta["layers"])
    with torch.inference_mode():
        for i, samples in enumerate(clips(meta)):
            prepared = prepare_audio(samples)
            assert len(prepared) == expected[f"samples_{i}"]
            assert departure(prepared[:64], expected[f"prepared_{i}"]) < NEAR
            sums = prepared.sum(dtype=np.float64), np.abs(prepared).sum(dtype=np.float64)
            np.testing.assert_allclose(sums, expected[f"prepared_sum_{i}"], atol=0.02, rtol=1e-6)
            x = torch.from_numpy(prepared)[None]
            embedded = encoder.embed(x)
            assert 1 + embedded.shape[1] == expected[f"tokens_{i}"]
            assert sum_departure(embedded[0, :60], expected[f"stage_embed_{i}"]) < NEAR
            place = encoder.position(embedded)
            assert sum_departure(place[0, :60], expected[f"stage_positions_{i}"]) < NEAR
            for n, layer in enumerate(stages(encoder, x)[1:]):
                assert sum_departure(layer[0, :60], expected[f"stage_layer_{n}_{i}"]) < NEAR
            feature = encoder(x)[0]
            assert departure(feature, expected[f"feature_{i}"]) < NEAR
            assert feature.norm().item() == pytest.approx(1, abs=1e-6)


def test_a_window_of_sound_does_not_depend_on_its_batch():
    encoder = OnePeaceAudio.from_published(published_state("one_peace/audio_small"))
    rng = np.random.default_rng(0)
    x = torch.from_numpy(np.stack([prepare_audio(rng.standard_normal(16000)) for _ in range(3)]))
    with torch.inference_mode():
        alone = torch.cat([encoder(row[None]) for row in x])
        for at_once in (1, 2, 3):
            torch.testing.assert_close(encoder(x, at_once=at_once), alone, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["video_small", pytest.param("video_wide", marks=pytest.mark.slow)])
def test_frames_are_embedded_as_by_the_released_encoder(name):
    meta, expected = golden(name)
    encoder = OnePeaceVideo.from_published(published_state(f"one_peace/{name}"))
    assert (encoder.sizes.grid, encoder.sizes.frames) == (meta["bucket"], meta["frames"])
    batches, _ = windows(meta, 16 * meta["bucket"])
    with torch.inference_mode():
        for i, x in enumerate(batches):
            assert sum_departure(encoder.tokens(x).flatten(0, 1), expected[f"stage_adapter_{i}"]) < NEAR
            for n, layer in enumerate(stages(encoder, x)[1:]):
                assert sum_departure(layer.flatten(0, 1), expected[f"stage_layer_{n}_{i}"]) < NEAR
            frames = encoder.frame_features(x)
            assert departure(frames.transpose(1, 2), expected[f"frames_{i}"]) < NEAR
            assert departure(frames.mean(1), expected[f"feature_{i}"]) < NEAR
            assert departure(encoder.classify(x), expected[f"logits_{i}"]) < NEAR


def test_other_sizes_of_frames_are_refused():
    encoder = OnePeaceVideo.from_published(published_state("one_peace/video_small"))
    for shape in ((1, 3, 15, 64, 64), (1, 3, 16, 80, 64)):
        with pytest.raises(ValueError, match=r"expected 16 x 64 x 64 \(frames x height x width\), got"):
            encoder(torch.zeros(shape))


def test_frames_are_prepared_to_the_byte():
    meta, expected = golden("video_small")
    for i, frame in enumerate(windows(meta, 64)[1]):
        size = scaled_size(*frame.shape[:2])
        assert [*size, *((n - 256) // 2 for n in size)] == expected[f"resized_size_{i}"].tolist()
        made, theirs = prepare_frame(frame), expected[f"cropped_{i}"]
        np.testing.assert_array_equal(made[: len(theirs)], theirs)
        np.testing.assert_array_equal(made.astype(np.int64).sum((0, 1)), expected[f"cropped_sum_{i}"])
        values = normalise(torch.from_numpy(made))[:4, :8]
        np.testing.assert_allclose(values, expected[f"normalised_{i}"], atol=1e-6)


@pytest.mark.parametrize("size", [(256, 256), (255, 257), (1, 1), (2, 900), (1080, 31)])
def test_frames_of_any_size_are_prepared(size):
    frame = np.full((*size, 3), (10, 200, 90), np.uint8)
    made = prepare_frame(frame)
    assert made.shape == (256, 256, 3)
    assert (np.abs(made.astype(int) - frame[0, 0]) <= 1).all()


def test_a_frame_of_the_right_size_stays_as_it_is():
    frame = np.random.default_rng(0).integers(0, 256, (256, 300, 3), dtype=np.uint8)
    np.testing.assert_array_equal(prepare_frame(frame), frame[:, 22:278])


@pytest.mark.parametrize("name", ["text_small", pytest.param("text_wide", marks=pytest.mark.slow)])
def test_prompts_are_embedded_as_by_the_released_encoder(name):
    meta, expected = golden(name)
    encoder = OnePeaceText.from_published(published_state(f"one_peace/{name}"))
    with torch.inference_mode():
        rows = [expected[f"tokens_{i}"].tolist() for i in range(len(meta["texts"]))]
        for i, row in enumerate(rows):
            assert departure(encoder(batch([row]))[0], expected[f"feature_{i}"]) < NEAR
        np.testing.assert_array_equal(batch(rows), expected["batch_tokens"])
        assert departure(encoder(batch(rows)), expected["batch_features"]) < NEAR


def test_sound_is_resampled_as_librosa_does_it():
    _, expected = golden("audio_small")
    mono = (expected["pcm_44100"].astype(np.float32) / 32768).mean(1)
    best = Resampler(44100, 16000, "resampy-0.4.3").resample_chunk(mono, last=True)
    assert len(best) == len(expected["resampled_kaiser_best"])
    assert departure(best, expected["resampled_kaiser_best"]) < NEAR
    assert departure(soxr.resample(mono, 44100, 16000, "HQ"), expected["resampled_soxr_hq"]) < NEAR


@pytest.mark.parametrize(("rate", "N"), [(44100, 1000), (48000, 48001), (8000, 77), (22050, 22050)])
def test_the_last_sample_that_is_begun_is_there(rate, N):
    made = Resampler(rate, 16000, "resampy-0.4.3").resample_chunk(np.ones(N), last=True)
    assert len(made) == -(-N * 16000 // rate)


def test_distances_beyond_half_of_the_table_share_buckets():
    distance = torch.arange(1024)
    buckets = distance_buckets(distance, 512)
    np.testing.assert_array_equal(buckets[:257], distance[:257])
    assert buckets.max() == 511
    assert (buckets.diff() >= 0).all()
    assert (buckets[257:].diff() == 0).any()
    np.testing.assert_array_equal(distance_buckets(-distance, 512), -buckets)


def test_the_bias_of_cls_has_rows_of_its_own_and_a_stride_for_fused_attention():
    table = torch.arange(1026.0)[:, None].expand(1026, 2)
    bias = padded(sequence_bias(table, 50), torch.float32)
    assert bias.shape == (2, 50, 50)
    assert bias.stride(1) == 56
    assert bias[1, 0, 0] == 1025
    assert (bias[0, 0, 1:] == 1023).all()
    assert (bias[0, 1:, 0] == 1024).all()
    assert bias[0, 3, 10] == 3 - 10 + 511


# What is released: names, shapes, and other branches in the same file.


@pytest.mark.parametrize(
    ("name", "parameters", "tensors"),
    [("audio", 1_532_582_960 - 1536, 885), ("text", 1_591_551_024, 850), ("video", 1_656_999_664, 1339)],
)
def test_names_and_shapes_at_full_size_are_known(name, parameters, tensors):
    shapes = json.loads((GOLDEN / "one_peace" / f"{name}.keys.json").read_text())
    assert len(shapes.keys() - {"logit_scale"}) == tensors
    (kind,) = encoders(name)
    ours = kind.branch.state({key: tuple(shape) for key, shape in shapes.items()})
    ours = {key: tuple(n for n in shape if n != 1) for key, shape in ours.items()}  # cls is (1, 1, D) there
    ours |= {"front.0.weight": (512, 1, 10)} if name == "audio" else {}
    sizes = check_shapes(kind, ours)
    assert (sizes.width, sizes.heads, sizes.layers, sizes.inner) == (1536, 24, 40, 6144)
    assert sum(map(prod, ours.values())) == parameters  # but for audio's mask, which training alone needs


def test_work_of_a_window_is_what_the_paper_s_size_gives():
    sizes = OnePeaceVideo.Sizes(
        channels=384, width=1536, inner=6144, adapter=384, heads=24, layers=40, grid=16, frames=16, classes=400
    )
    with torch.device("meta"):
        assert OnePeaceVideo(sizes).tflop == pytest.approx(17.0, abs=0.05)


def test_one_checkpoint_gives_both_of_its_branches():
    state = base_state()
    for kind, case in ((OnePeaceAudio, "audio_small"), (OnePeaceText, "text_small")):
        alone = kind.from_published(published_state(f"one_peace/{case}")).state_dict()
        both = kind.from_published(state).state_dict()
        assert alone.keys() == both.keys()
        assert all(torch.equal(x, both[name]) for name, x in alone.items())


def test_the_other_name_of_the_bias_s_table_is_known():
    state = published_state("one_peace/audio_small")
    prefix = "encoder_wrapper.audio_adapter."
    renamed = dict(state)
    renamed[f"{prefix}rel_pos_table.weight"] = renamed.pop(f"{prefix}rel_pos_table_list.0.weight")
    assert OnePeaceAudio.from_published(renamed).bias_table.shape == (1026, 4)


LAYER = "encoder_wrapper.fusion_model.layers."


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({f"{LAYER}1.gamma_2": None}, "1 tensors are missing, first 'layers.1.feed_forward_scale'"),
        ({"audio_proj.bias": None}, "1 tensors are missing, first 'head.bias'"),
        ({"audio_proj.extra": torch.ones(2)}, "1 unknown tensors, first 'audio_proj.extra'"),
        ({f"{LAYER}3.gamma_1": torch.ones(64)}, "tensors are missing, first 'layers.3."),
        (
            {f"{LAYER}0.self_attn.q_proj.bias": torch.ones(65)},
            r"'layers.0.attention.query.bias' is \(65,\), the others",
        ),
        ({f"{LAYER}0.self_attn.k_proj.bias": torch.ones(64)}, "1 unknown tensors, first 'layers.0.attention.key.bias'"),
        ({f"{LAYER}0.gamma_1": torch.ones(64, dtype=torch.int64)}, "'layers.0.attention_scale' is of torch.int64"),
        ({"encoder_wrapper.audio_adapter.rel_pos_table_list.0.weight": None}, "'bias_table' is missing"),
        ({"encoder_wrapper.audio_adapter.rel_pos_table_list.0.weight": torch.ones(3)}, "of no sizes that fit"),
    ],
)
def test_a_checkpoint_that_is_not_just_this_is_refused(changes, problem):
    state = {**published_state("one_peace/audio_small"), **changes}
    with pytest.raises(ConfigError, match=problem):
        OnePeaceAudio.from_published({name: x for name, x in state.items() if x is not None})


@pytest.mark.parametrize("other", ["ccnet_small", "one_peace/video_small"])
def test_a_checkpoint_of_another_model_is_refused(other):
    with pytest.raises(ConfigError, match="nothing of its text encoder is in it"):
        OnePeaceText.from_published(published_state(other))


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_half_precision_is_near(precision):
    encoder = OnePeaceVideo.from_published(published_state("one_peace/video_small"))
    half = OnePeaceVideo.from_published(published_state("one_peace/video_small"), precision)
    meta, _ = golden("video_small")
    x = windows(meta, 64)[0][0]
    with torch.inference_mode():
        cosine = torch.cosine_similarity(encoder(x), half(x))
    assert 0.999 < cosine.item() < 1
