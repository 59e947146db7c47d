"""The paper's comparisons, trained and tested anew: the methods of Table 1, and the ablations of Tables 2 to 4.

What a row of the ablations leaves out is not said in full by the paper; here it is: without CMI each modality attends
to itself in blocks of the same size, without TCG nothing is weighed, and without C2F, F2C or TDM the pyramid goes past
it. Without CMCC there is neither CMI nor TCG, without MTGC neither C2F, TDM nor F2C; the ablations of MTGC's parts keep
TDM.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from davel.compute.device import choose_device
from davel.core.annotations import Vocabulary
from davel.core.events import EventList, Video
from davel.evaluate import analysis
from davel.evaluate.evaluation import match_videos, score
from davel.evaluate.metrics import Matches
from davel.evaluate.prediction import predict
from davel.evaluate.report import SHOWN, markdown_table
from davel.formats import activitynet, read_videos, write_text
from davel.models import model_module
from davel.models.saved import load_model
from davel.train.cost import Cost, cost_of
from davel.train.loop import Reporting, train
from davel.train.recipe import TrainConfig

RESULTS = "test.results.json"
FIGURES = "test.json"
"""In a run's folder: what its best model found in the test videos, and how good that is."""


@dataclass(frozen=True)
class Row:
    key: str
    """Names the row's runs; rows of one key in several tables are the same runs."""
    cells: tuple[str, ...]
    """What stands in the table's first columns."""
    model: dict[str, Any] = field(default_factory=dict)
    """What differs from the whole network."""
    published: tuple[float, ...] | None = None
    """The paper's mAP at tIoU 0.5 to 0.9, and its mean over 0.1 to 0.9; None where a row is ours."""
    config: str | None = None
    """The shipped configuration of a row that is another method."""


@dataclass(frozen=True)
class Table:
    number: int
    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    note: str = ""


CCNET = (51.9, 47.2, 41.5, 34.1, 23.0, 49.2)
UNAV = (50.6, 45.8, 39.8, 32.4, 21.1, 47.8)
WHOLE = Row("ccnet", ("yes", "yes"), {}, CCNET)
NO_CMCC = {"cmi": False, "tcg": False}
NO_MTGC = {"c2f": False, "tdm": False, "f2c": False}
NO_C2F_F2C = {"c2f": False, "f2c": False}

METHODS = Table(
    1,
    "the methods",
    ("features", "method"),
    (
        Row("vsgn-i3d", ("I3D, VGGish", "VSGN"), {}, (24.5, 20.2, 15.9, 11.4, 6.8, 24.1), "vsgn-i3d"),
        Row("tadtr-i3d", ("I3D, VGGish", "TadTR"), {}, (30.4, 27.1, 23.3, 19.4, 14.3, 29.4), "tadtr-i3d"),
        Row(
            "actionformer-i3d",
            ("I3D, VGGish", "ActionFormer"),
            {},
            (43.5, 39.4, 33.4, 27.3, 17.9, 42.2),
            "actionformer-i3d",
        ),
        Row("unav-i3d", ("I3D, VGGish", "DAVEL"), {}, UNAV, "unav-i3d"),
        Row("ccnet-i3d", ("I3D, VGGish", "CCNet"), {}, CCNET, "ccnet-i3d"),
        Row("unav-onepeace", ("ONE-PEACE", "DAVEL"), {}, (53.8, 48.7, 42.2, 33.8, 20.4, 51.0), "unav-onepeace"),
        Row("uniav-onepeace", ("ONE-PEACE", "UniAV"), {}, (54.8, 49.4, 43.2, 35.3, 22.5, 51.7), "uniav-onepeace"),
        Row("ccnet-onepeace", ("ONE-PEACE", "CCNet"), {}, (57.3, 52.2, 46.2, 38.1, 25.6, 54.1), "ccnet-onepeace"),
    ),
)
"""Table 1 of the paper, each row from a configuration of its own."""

TABLES = {
    1: Table(
        1,
        "the baseline and CCNet",
        ("model",),
        (Row("unav", ("unav",), {"name": "unav"}, UNAV), replace(WHOLE, cells=("ccnet",))),
        "all methods: davel table1",
    ),
    2: Table(
        2,
        "the collaborations of MTGC",
        ("C2F", "F2C"),
        (
            Row("no-c2f-no-f2c", ("no", "no"), NO_C2F_F2C, (50.5, 45.6, 39.8, 33.1, 22.9, 47.9)),
            Row("no-f2c", ("yes", "no"), {"f2c": False}, (51.3, 46.1, 40.0, 32.8, 22.4, 48.3)),
            Row("no-c2f", ("no", "yes"), {"c2f": False}, (50.8, 46.2, 40.6, 34.0, 23.4, 48.2)),
            WHOLE,
        ),
    ),
    3: Table(
        3,
        "the branches of CMCC",
        ("CMI", "TCG"),
        (
            Row("no-cmcc", ("no", "no"), NO_CMCC),
            Row("no-tcg", ("yes", "no"), {"tcg": False}, (50.8, 46.1, 40.6, 33.6, 22.6, 48.1)),
            Row("no-cmi", ("no", "yes"), {"cmi": False}, (49.9, 45.3, 40.0, 33.2, 22.8, 47.6)),
            WHOLE,
        ),
    ),
    4: Table(
        4,
        "the order of MTGC's collaborations",
        ("MTGC",),
        (
            Row("f2c-c2f", ("F2C, then C2F",), {"order": "f2c-c2f"}, (49.9, 45.3, 40.1, 32.7, 21.8, 47.1)),
            replace(WHOLE, cells=("C2F, then F2C",)),
        ),
    ),
    5: Table(
        5,
        "the modules, and TDM (ours, not the paper's)",
        ("CMCC", "MTGC"),
        (
            Row("no-cmcc-no-mtgc", ("no", "no"), NO_CMCC | NO_MTGC),
            Row("no-mtgc", ("yes", "no"), NO_MTGC),
            Row("no-cmcc", ("no", "yes"), NO_CMCC),
            Row("no-tdm", ("yes", "without TDM"), {"tdm": False}),
            WHOLE,
        ),
    ),
}


@dataclass(frozen=True)
class Run:
    """One trained model, tested."""

    figures: dict[str, Any]
    """`davel.evaluate.score` on the test subset."""
    matches: Matches | None = None
    """Which of its events are right, for what is held against it."""
    cost: Cost | None = None


@dataclass(frozen=True)
class Measured:
    """A row and what its runs reached on the test subset, one for each seed."""

    row: Row
    runs: tuple[Run, ...]

    def mean(self, threshold: str | None = None) -> tuple[float, float]:
        """Mean over the seeds and their standard deviation, of the mAP at a tIoU or of the average mAP; in 0..1."""
        figures = [run.figures for run in self.runs]
        values = [f["average_mAP"] if threshold is None else f["mAP"][threshold] for f in figures]
        return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def measure_rows(
    table: Table,
    configs: Callable[[Row], TrainConfig],
    *,
    seeds: Sequence[int] = (0,),
    device: str | torch.device = "auto",
    report: Callable[[str], Reporting] = lambda run: Reporting(),
) -> Iterator[Measured]:
    """Train each row of a table with each seed and test its best epoch, row by row.

    Runs are kept in the output of a row's configuration, by row and seed: those that are there are gone on with, and
    tables share them.
    """
    for row in table.rows:
        base, runs = configs(row), []
        for seed in seeds:
            name = f"{row.key}/seed-{seed}"
            own = replace(
                base,
                name=row.key,
                output=base.output / row.key / f"seed-{seed}",
                recipe=replace(base.recipe, seed=seed),
            )
            runs.append(measure(own, train(own, resume=True, device=device, report=report(name)), device))
        yield Measured(row, tuple(runs))


def changed(model: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The network with a row's changes; another network takes the fields that it has."""
    if "name" not in changes:
        return model | changes
    known = model_module(changes["name"]).Config.__dataclass_fields__
    return {key: value for key, value in model.items() if key in known} | changes


def measure(config: TrainConfig, best: Path, device: str | torch.device = "auto") -> Run:
    """How good a trained model is on the test subset of its data; what it finds there is kept in the run's folder."""
    model, info, digest = load_model(best)
    data = replace(config.data, skip_broken=False)  # a test without its broken videos is another test
    dataset = data.open(data.annotated().subset(data.test))
    kept, results = config.output / FIGURES, config.output / RESULTS
    found = _found(kept, results, digest, info.labels)
    if found is None:
        model = model.to(choose_device(device))
        found = predict(model, dataset, config.detection, precision=config.compute.precision)
        videos = [Video(key, events) for key, events in found.items()]
        write_text(results, activitynet.dump_results(videos, dataset.origin, model=config.name, subset=data.test))
        cost = cost_of(model, dataset)
        write_text(kept, json.dumps({"weights": digest, "cost": cost.to_dict()}) + "\n")
    cost = Cost(**json.loads(kept.read_text(encoding="utf-8"))["cost"])
    origin = {"data": dataset.origin} if dataset.origin else {}
    figures = score(found, dataset.videos, len(info.labels)) | origin
    return Run(figures, match_videos(found, dataset.videos, len(info.labels)), cost)


def _found(kept: Path, results: Path, digest: str, labels: Sequence[str]) -> Mapping[str, EventList] | None:
    """What these very weights found before, if it was kept."""
    try:
        if json.loads(kept.read_text(encoding="utf-8"))["weights"] != digest:
            return None
        videos, _ = read_videos(results, vocabulary=Vocabulary(tuple(labels)))
    except (OSError, ValueError, KeyError):
        return None
    return {video.id: video.events for video in videos}


def paired(first: Measured, second: Measured, resamples: int = 1000) -> tuple[float, float, float]:
    """By how much the average mAP of the second is better, in 0..1, and the 95 % interval of that: means over the
    seeds, on the same resampled videos."""

    def drawn(measured: Measured) -> tuple[np.ndarray, float]:
        matches = [run.matches for run in measured.runs if run.matches is not None]
        draws = analysis.resamples(len(matches[0].truth.keys), resamples)
        means = [analysis.mean_average_precision(m.resampled(draws))[:, -1] for m in matches]
        exact = [float(analysis.mean_average_precision(m.average_precision())[-1]) for m in matches]
        return np.mean(means, axis=0), float(np.mean(exact))

    (ours, better), (theirs, worse) = drawn(second), drawn(first)
    low, high = analysis.interval((ours - theirs)[:, None], np.array([better - worse]))
    return better - worse, float(low[0]), float(high[0])


@dataclass(frozen=True)
class Report:
    """A table's rows, the scale at which they were trained, and how it is written."""

    table: Table
    scale: tuple[str, ...]
    rows: tuple[Measured, ...]

    @property
    def title(self) -> str:
        note = f" ({self.table.note})" if self.table.note else ""
        return f"Table {self.table.number}, {self.table.title}{note}: mAP on the test subset; {', '.join(self.scale)}"

    def lines(self) -> list[list[str]]:
        """Cells of the head and of each row, in per cent; under each the paper's, where it has them."""
        columns = len(self.table.columns)
        lines = [[*self.table.columns, *SHOWN, "Avg."]]
        for m in self.rows:
            cells = []
            for threshold in (*SHOWN, None):
                mean, deviation = m.mean(threshold)
                cells.append(f"{100 * mean:.1f}" + (f" ± {100 * deviation:.1f}" if len(m.runs) > 1 else ""))
            lines.append([*m.row.cells, *cells])
            if m.row.published:
                lines.append([*[""] * (columns - 1), "the paper", *(f"{value:.1f}" for value in m.row.published)])
        return lines

    def comparison(self) -> list[list[str]]:
        """Cells of the head and of each row: what a network takes, and how its average mAP differs from that of the
        last row of the same features, with a 95 % interval over the test videos."""
        lines = [[*self.table.columns, "M param.", "GFLOP", "s / 40 s", "against", "Avg.", "95 %"]]
        for m in self.rows:
            last = [other for other in self.rows if other.row.cells[:-1] == m.row.cells[:-1]][-1]
            cost = m.runs[0].cost
            cells = ["", "", ""] if cost is None else cost.cells()
            if last is m or last.runs[0].matches is None:
                cells += ["", "", ""]
            else:
                difference, low, high = paired(last, m)
                interval = f"{100 * low:+.1f} to {100 * high:+.1f}"
                cells += [last.row.cells[-1], f"{100 * difference:+.1f}", interval]
            lines.append([*m.row.cells, *cells])
        return lines

    def save(self, folder: Path) -> None:
        """Write table-N.json and table-N.md."""
        content = {
            "table": self.table.number,
            "scale": list(self.scale),
            "rows": [
                {
                    "key": m.row.key,
                    "published": dict(zip((*SHOWN, "average_mAP"), m.row.published, strict=True))
                    if m.row.published
                    else None,
                    "runs": [run.figures for run in m.runs],
                    "cost": [run.cost.to_dict() for run in m.runs if run.cost],
                }
                for m in self.rows
            ],
        }
        stem = f"table-{self.table.number}"
        write_text(folder / f"{stem}.json", json.dumps(content, indent=1) + "\n")
        parts = [self.title, markdown_table(self.lines())]
        if self.rows[0].runs[0].cost:
            parts.append(markdown_table(self.comparison()))
        write_text(folder / f"{stem}.md", "\n\n".join(parts))
