"""`davel evaluate` and `davel compare` as their users call them."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from davel import formats
from davel.core.events import Event, EventList, Video
from davel.data.simulate import draw_annotations, simulate
from davel.data.sources import DataConfig
from davel.data.unav100 import ANNOTATIONS
from davel.evaluate import differences, evaluate, predict, predict_published, score
from davel.evaluate.report import html, latex, markdown
from davel.formats import activitynet
from davel.models import build
from davel.models.saved import ModelInfo, load_model, save_model

SIMULATED = "simulated i3d-vggish features, seed 0"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return simulate(tmp_path_factory.mktemp("data") / "set", draw_annotations(20, 3), lazy=True)


@pytest.fixture
def model(tmp_path, data):
    """A fresh model in a folder of its own."""
    torch.manual_seed(0)
    network = build({"num_classes": 3, "width": 8, "class_width": 4, "max_length": 192}).eval()
    with torch.no_grad():
        network.decoder.classify.start_at(-1.0)
        network.decoder.regress.out.bias.fill_(1.5)
    config = DataConfig.unav100(data)
    labels = config.annotated().labels
    spec = config.open(config.annotated().videos).spec
    info = ModelInfo(name="m<1>", config=network.config, features=spec, labels=labels, threshold=0.2, figures={})
    save_model(tmp_path / "model", network, info)
    return tmp_path / "model"


@pytest.fixture(scope="module")
def truth(data):
    return DataConfig.unav100(data).annotated().subset("test")


def jittered(truth, size: float, seed: int = 0) -> dict[str, EventList]:
    """The true events, moved at random, with scores."""
    rng = np.random.default_rng(seed)
    found = {}
    for key, video in truth.items():
        segments = (video.events.segments + rng.normal(0, size, video.events.segments.shape)).clip(0)
        segments[:, 1] = np.maximum(segments[:, 1], segments[:, 0] + 0.1)
        found[key] = replace(video.events, segments=segments, scores=rng.random(len(segments)))
    return found


def videos(found: dict[str, EventList]) -> list[Video]:
    return [Video(key, events) for key, events in found.items()]


class Tags(HTMLParser):
    """Every tag is closed where it should be, and nothing is loaded from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.seen.append(tag)
        assert not {"src", "href"} & {name for name, _ in attributes}
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.seen.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_a_model_is_evaluated_and_its_data_named(run, model, data, tmp_path):
    code, out, err = run("evaluate", model, "--data", data, "-o", "out")
    assert code == 0, err
    assert "m<1>: mAP on 4 videos (test)" in out
    assert SIMULATED in out
    names = ["figures.json", "predictions.json", "report.html", "rows.md", "rows.tex"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == names
    figures = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert figures["notes"] == [SIMULATED]
    for name in names[1:]:
        assert SIMULATED in (tmp_path / "out" / name).read_text()
    code, out, _ = run("evaluate", "out/predictions.json", "--data", data, "--json")
    again = json.loads(out)
    assert again["notes"] == [SIMULATED]
    assert again["average_mAP"] == pytest.approx(figures["average_mAP"], abs=1e-4)


def test_the_command_and_the_library_find_the_same(run, model, data, truth):
    _, out, _ = run("evaluate", model, "--data", data, "--json", "--bootstrap", 0)
    dataset = DataConfig.unav100(data).open(truth)
    network, _, _ = load_model(model)
    figures = json.loads(out)
    expected = score(predict(network, dataset), truth, 3)
    assert {key: figures[key] for key in expected} == expected
    assert "intervals" not in figures
    _, out, _ = run("evaluate", model, "--data", data, "--json", "--bootstrap", 0, "--published-batching")
    figures = json.loads(out)
    expected = score(predict_published(network, dataset), truth, 3)
    assert {key: figures[key] for key in expected} == expected
    assert "published batching: 16 videos at a time" in figures["notes"][1]


def test_predictions_of_others_are_evaluated(run, data, truth, tmp_path):
    (tmp_path / "theirs.json").write_text(activitynet.dump_results(videos(jittered(truth, 0.0))))
    code, out, err = run("evaluate", "theirs.json", "--annotations", data / ANNOTATIONS, "--json")
    assert (code, err) == (0, "")
    figures = json.loads(out)
    assert figures["average_mAP"] == 1
    assert figures["intervals"]["average_mAP"] == [1, 1]
    assert figures["name"] == "theirs"
    assert "f1" not in figures
    part = dict(list(jittered(truth, 0.0).items())[:2]) | {"unknown": next(iter(jittered(truth, 0).values()))}
    (tmp_path / "part.json").write_text(activitynet.dump_results(videos(part)))
    code, out, err = run("evaluate", "part.json", "--annotations", data / ANNOTATIONS)
    assert code == 0
    assert "videos without predictions: 2" in out
    assert "1 predicted videos are not annotated: unknown" in err
    code, _, err = run("evaluate", "part.json", "--annotations", data / ANNOTATIONS, "--subset", "train")
    assert code == 4
    assert "has none of the 12 videos of the subset 'train'" in err


def test_every_figure_stands_beside_floors_and_oracles(run, model, data, tmp_path):
    code, out, err = run("evaluate", model, "--data", data, "-o", "out")
    assert code == 0, err
    figures = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert figures["averages"]["0.1-0.9"] == figures["average_mAP"]
    upper = [figures["mAP"][t] for t in ("0.5", "0.6", "0.7", "0.8", "0.9")]
    assert figures["averages"]["0.5-0.9"] == pytest.approx(np.mean(upper), abs=1e-5)
    assert figures["intervals"]["averages"]["0.1-0.9"] == figures["intervals"]["average_mAP"]
    assert list(figures["floors"]) == ["whole video", "first to last"]
    assert list(figures["oracles"]) == ["right class", "right extent", "right class and extent"]
    assert {"F1", "mIoU", "CountF1"} <= figures["reported"].keys()
    assert {"segment_F1", "segment_mAP", "event_F1"} <= figures["seconds"].keys()
    assert all("found@0.5" in row for row in figures["durations"] if row["events"])
    for name in ("floor: whole video", "floor: first to last", "oracle: both right", "found at 0.5", "CountF1"):
        assert name in out
    for file in ("rows.md", "rows.tex"):
        text = (tmp_path / "out" / file).read_text()
        assert "Avg. 0.1–0.9" in text
        assert "floor: first to last" in text
    report = (tmp_path / "out" / "report.html").read_text()
    for text in (
        "right classes, first onset to last offset",
        "told the right extent",
        "CountF1",
    ):
        assert text in report


def test_the_score_from_which_events_are_reported_may_be_given(run, data, truth, tmp_path):
    (tmp_path / "p.json").write_text(activitynet.dump_results(videos(jittered(truth, 0.0))))
    common = ("evaluate", "p.json", "--data", data, "--json", "--bootstrap", 0)
    some = json.loads(run(*common)[1])
    every = json.loads(run(*common, "--threshold", 0)[1])
    assert (some["reported"]["score"], every["reported"]["score"]) == (0.5, 0)
    assert every["reported"]["mIoU"] == every["reported"]["CountF1"] == every["f1"]["micro"] == 1
    assert every["seconds"]["segment_F1"] == 1
    assert some["reported"]["mIoU"] < 1
    assert every["mAP"] == some["mAP"]


def test_a_model_that_was_trained_on_simulated_features_says_so(run, model, data, tmp_path):
    content = json.loads((model / "model.json").read_text())
    content["figures"] = {"data": "simulated features of another seed"}
    (model / "model.json").write_text(json.dumps(content))
    figures = json.loads(run("evaluate", model, "--data", data, "--json", "--bootstrap", 0)[1])
    assert figures["notes"] == [SIMULATED, "trained on simulated features of another seed"]


def test_thresholds_are_fitted_on_validation_and_kept_with_the_model(run, model, data, tmp_path):
    weights = (model / "model.safetensors").read_bytes()
    code, out, err = run("evaluate", model, "--data", data, "--fit-thresholds")
    assert code == 0
    assert "(validation)" in out
    assert "F1 at the model's thresholds" in out
    assert "kept with" in err
    _, info, _ = load_model(model)
    assert len(info.thresholds) == 3
    assert (model / "model.safetensors").read_bytes() == weights
    code, out, _ = run("evaluate", model, "--data", data, "--json")
    assert "f1" in json.loads(out)
    content = json.loads((model / "model.json").read_text())
    content["thresholds"] = [0.5]
    (model / "model.json").write_text(json.dumps(content))
    code, _, err = run("evaluate", model, "--data", data)
    assert code == 4
    assert "has 1 thresholds for 3 labels" in err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["scenes", "--fit-thresholds", "--data", "x", "--subset", "test"], 4, "never used for selection"),
        (["scenes"], 2, "name either --data or --annotations"),
        (["scenes", "--data", "x", "--annotations", "y"], 2, "name either --data or --annotations"),
        (["p.json", "--annotations", "y", "--videos", "z"], 2, "predictions need --data or --annotations only"),
        (["p.json", "--annotations", "y", "--fit-thresholds"], 2, "predictions need"),
        (["scenes", "--annotations", "y"], 2, "name either `videos` or `features`"),
        (["scenes", "--data", "x", "--published-batching", "--without", "audio"], 2, "takes both modalities"),
        (["nobody", "--data", "x"], 5, "no model 'nobody'"),
        (["scenes", "--data", "x", "--fit-thresholds", "--threshold", "0.3"], 2, "--fit-thresholds finds the scores"),
    ],
)
def test_mistakes_are_refused(run, arguments, code, message):
    got, out, err = run("evaluate", *arguments)
    assert (got, out) == (code, ""), err
    assert message in " ".join(err.replace("│", " ").split())


def test_a_built_in_model_stays_as_it_is():
    from davel.core.errors import ConfigError
    from davel.models.saved import BUILTIN, keep_thresholds

    _, info, _ = load_model("scenes")
    with pytest.raises(ConfigError, match="is built in and stays as it is"):
        keep_thresholds(BUILTIN / "scenes", info, (0.5,) * len(info.labels))


def test_runs_are_compared_on_the_same_videos(run, data, truth, tmp_path):
    (tmp_path / "run").mkdir()
    text = activitynet.dump_results(videos(jittered(truth, 0.2)), SIMULATED)
    (tmp_path / "run" / "predictions.json").write_text(text)
    (tmp_path / "rough.json").write_text(activitynet.dump_results(videos(jittered(truth, 3.0))))
    common = ("--annotations", data / ANNOTATIONS, "--bootstrap", 200)
    code, out, _ = run("compare", "run", "rough.json", *common)
    assert code == 0
    assert f"run: {SIMULATED}" in out
    assert "rough − run" in out
    assert "floor: " in out
    _, out, _ = run("compare", "run", "rough.json", "run/predictions.json", *common, "--json")
    content = json.loads(out)
    worse, same = content["differences"]
    assert list(content["floors"]) == ["whole video", "first to last"]
    assert all({"averages", "oracles"} <= each.keys() for each in content["runs"])
    assert worse["averages"]["0.1-0.9"] == worse["average_mAP"]
    assert worse["average_mAP"]["difference"] < 0
    assert worse["average_mAP"]["interval"][1] < 0
    assert worse["better"] < 0.05
    assert same["average_mAP"] == {"difference": 0, "interval": [0, 0]}
    assert run("compare", "run", *common)[0] == 2


def test_runs_on_different_videos_are_not_compared(truth):
    from davel.core.errors import ConfigError

    labels = next(iter(truth.values())).events.labels
    first = evaluate({}, truth, labels, resamples=0)
    second = evaluate({}, dict(list(truth.items())[1:]), labels, resamples=0)
    with pytest.raises(ConfigError, match="different videos"):
        differences(first, second)


def test_a_report_holds_any_name_and_needs_nothing_but_itself(truth):
    labels = ("<script>", "a & b", 'c"d')
    renamed = {
        f"<b>{key}": replace(video, events=replace(video.events, labels=labels), decoys=EventList.of([], labels))
        for key, video in truth.items()
    }
    found = jittered(renamed, 1.0)
    evaluation = evaluate(found, renamed, labels, name="x_1 & <y>", notes=["50 % | $"], thresholds=0.3, resamples=50)
    tags = Tags(html(evaluation))
    assert tags.seen.count("h3") == len(truth)
    assert "script" not in tags.seen
    assert "b" not in tags.seen
    assert "svg" in tags.seen
    assert "x\\_1 \\& <y> & " in latex([evaluation])
    assert "| x_1 & <y> |" in markdown([evaluation])
    assert len(markdown([evaluation, evaluation]).splitlines()) == 8  # head, rule, two, the floors, and a note


def test_a_report_of_nothing_is_a_report(truth):
    labels = next(iter(truth.values())).events.labels
    Tags(html(evaluate({}, truth, labels, resamples=10)))
    empty = {key: replace(video, events=EventList.of([], labels)) for key, video in truth.items()}
    found = {key: EventList.of([Event(labels[0], 0, 1, 0.5)], labels) for key in truth}
    Tags(html(evaluate(found, empty, labels, resamples=0, thresholds=0.5)))


def test_predictions_and_truth_may_be_in_any_format(run, data, truth, tmp_path):
    found = videos(jittered(truth, 0.3))
    text = activitynet.dump_results(found)
    (tmp_path / "p.json").write_text(text)
    expected = json.loads(run("evaluate", "p.json", "--data", data, "--json", "--bootstrap", 0)[1])
    formats.write(found, tmp_path / "p.csv")
    formats.write(found, tmp_path / "p.jsonl")
    formats.write(list(truth.values()), tmp_path / "t.jsonl")  # without subsets: all are meant
    (tmp_path / "predictions").write_text(text)  # without an ending, nothing can be told of it
    for source, given in (("p.csv", data / ANNOTATIONS), ("p.jsonl", "t.jsonl"), ("p.json", "t.jsonl")):
        code, out, err = run("evaluate", source, "--annotations", given, "--json", "--bootstrap", 0)
        assert code == 0, err
        assert json.loads(out)["average_mAP"] == pytest.approx(expected["average_mAP"], abs=2e-3)
    code, _, err = run("evaluate", "predictions", "--data", data)
    assert code == 4
    assert "predictions: not a file of events that davel knows" in err
    assert "p.rttm: cannot read" in run("evaluate", "p.rttm", "--data", data)[2]
    assert "no model 'nothing'" in run("evaluate", "nothing", "--data", data)[2]


def test_truth_needs_no_duration_for_predictions(run, truth, tmp_path):
    formats.write(list(truth.values()), tmp_path / "t.csv")
    formats.write(videos(jittered(truth, 0)), tmp_path / "p.results.json")
    code, out, err = run("evaluate", "p.results.json", "--annotations", "t.csv", "--json")
    assert code == 0, err
    assert json.loads(out)["average_mAP"] > 0.9


def test_classes_are_matched_by_name(run, model, tmp_path):
    stored = simulate(tmp_path / "set", draw_annotations(5, 3))
    evaluated = ("evaluate", model, "--data", stored, "--subset", "train", "--json", "--bootstrap", 0)
    expected = json.loads(run(*evaluated)[1])
    content = json.loads((stored / ANNOTATIONS).read_text())

    def rename(labels):
        names = dict(zip(content["labels"], labels, strict=True))
        content["labels"] = sorted(labels, reverse=True)
        for event in (event for video in content["database"].values() for event in video["annotations"]):
            event["label"] = names[event["label"]]
            event["label_id"] = content["labels"].index(event["label"])
        (stored / ANNOTATIONS).write_text(json.dumps(content))

    rename(content["labels"])
    assert content["labels"] == ["class 2", "class 1", "class 0"]
    code, out, err = run(*evaluated)
    assert code == 0, err
    assert json.loads(out) == expected
    rename(["cow", "class 1", "class 0"])
    code, _, err = run(*evaluated)
    assert code == 4
    assert (
        "has other classes than the model: the data has class 'cow', which the model does not know; "
        "the model knows class 'class 2', which the data does not have" in err
    )
