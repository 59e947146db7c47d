"""The paper's comparisons, trained and tested anew: Table 1's baseline and CCNet, and the ablations of Tables 2 to 4.

What a row leaves out is not said in full by the paper; here it is: without CMI each modality attends to itself in
blocks of the same size, without TCG nothing is weighed, and without C2F, F2C or TDM the pyramid goes past it. Without
CMCC there is neither CMI nor TCG, without MTGC neither C2F, TDM nor F2C; the ablations of MTGC's parts keep TDM.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from davel.compute.device import choose_device
from davel.evaluate import predict, score
from davel.evaluate.report import SHOWN, markdown_table
from davel.formats import write_text
from davel.models import model_module
from davel.models.saved import load_model
from davel.train.loop import Reporting, train
from davel.train.options import AblateOptions
from davel.train.recipe import TrainConfig


@dataclass(frozen=True)
class Row:
    key: str
    """Names the row's runs; rows of one key in several tables are the same runs."""
    cells: tuple[str, ...]
    """What stands in the table's first columns."""
    model: dict[str, Any]
    """What differs from the whole network."""
    published: float | None = None
    """Average mAP in the paper, with I3D and VGGish features, where it is known here."""


@dataclass(frozen=True)
class Table:
    number: int
    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


WHOLE = Row("ccnet", ("yes", "yes"), {}, 49.2)
NO_CMCC = {"cmi": False, "tcg": False}
NO_MTGC = {"c2f": False, "tdm": False, "f2c": False}

TABLES = {
    1: Table(
        1,
        "the baseline and CCNet",
        ("model",),
        (Row("unav", ("unav",), {"name": "unav"}, 47.8), replace(WHOLE, cells=("ccnet",))),
    ),
    2: Table(
        2,
        "the modules",
        ("CMCC", "MTGC"),
        (
            Row("no-cmcc-no-mtgc", ("no", "no"), NO_CMCC | NO_MTGC),
            Row("no-mtgc", ("yes", "no"), NO_MTGC),
            Row("no-cmcc", ("no", "yes"), NO_CMCC),
            WHOLE,
        ),
    ),
    3: Table(
        3,
        "the branches of CMCC",
        ("CMI", "TCG"),
        (
            Row("no-cmcc", ("no", "no"), NO_CMCC),
            Row("no-tcg", ("yes", "no"), {"tcg": False}),
            Row("no-cmi", ("no", "yes"), {"cmi": False}),
            WHOLE,
        ),
    ),
    4: Table(
        4,
        "the collaborations of MTGC and their order",
        ("MTGC",),
        (
            Row("no-c2f-no-f2c", ("neither",), {"c2f": False, "f2c": False}),
            Row("no-f2c", ("C2F",), {"f2c": False}),
            Row("no-c2f", ("F2C",), {"c2f": False}),
            Row("f2c-c2f", ("F2C, then C2F",), {"order": "f2c-c2f"}),
            replace(WHOLE, cells=("C2F, then F2C",)),
        ),
    ),
}


@dataclass(frozen=True)
class Measured:
    """A row and what its runs reached on the test subset."""

    row: Row
    runs: list[dict[str, Any]] = field(default_factory=list)
    """The figures (`davel.evaluate.score`) of each seed."""

    def mean(self, threshold: str | None = None) -> tuple[float, float]:
        """Mean over the seeds and their standard deviation, of the mAP at a tIoU or of the average mAP; in 0..1."""
        values = [run["average_mAP"] if threshold is None else run["mAP"][threshold] for run in self.runs]
        return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def ablate(
    table: Table,
    config: TrainConfig,
    *,
    seeds: Sequence[int] = (0,),
    device: str | torch.device = "auto",
    report: Callable[[str], Reporting] = lambda run: Reporting(),
) -> Iterator[Measured]:
    """Train each row of a table with each seed and test its best epoch, row by row.

    Runs are kept in `config.output`, by row and seed: those that are there are gone on with, and tables share them.
    """
    for row in table.rows:
        runs = []
        for seed in seeds:
            name = f"{row.key}/seed-{seed}"
            own = replace(
                config,
                name=row.key,
                output=config.output / row.key / f"seed-{seed}",
                model=_changed(config.model, row.model),
                recipe=replace(config.recipe, seed=seed),
            )
            runs.append(measure(own, train(own, resume=True, device=device, report=report(name)), device))
        yield Measured(row, runs)


def _changed(model: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The network with a row's changes; another network takes the fields that it has."""
    if "name" not in changes:
        return model | changes
    known = model_module(changes["name"]).Config.__dataclass_fields__
    return {key: value for key, value in model.items() if key in known} | changes


def measure(config: TrainConfig, best: Path, device: str | torch.device = "auto") -> dict[str, Any]:
    """The figures of a trained model on the test subset of its data."""
    model, info, _ = load_model(best)
    data = replace(config.data, skip_broken=False)  # a test without its broken videos is another test
    dataset = data.open(data.annotated().subset(data.test))
    found = predict(model.to(choose_device(device)), dataset, config.detection, precision=config.compute.precision)
    origin = {"data": dataset.origin} if dataset.origin else {}
    return score(found, dataset.videos, len(info.labels)) | origin


@dataclass(frozen=True)
class Report:
    """A table's rows, the scale at which they were trained, and how it is written."""

    table: Table
    scale: tuple[str, ...]
    rows: tuple[Measured, ...]

    @classmethod
    def of(cls, table: Table, options: AblateOptions, rows: Sequence[Measured]) -> Report:
        origin = next((str(run["data"]) for row in rows for run in row.runs if "data" in run), options.data.name)
        seeds = ",".join(map(str, options.seeds))
        return cls(table, (f"{options.config} on {origin}", *options.changes, f"seeds {seeds}"), tuple(rows))

    @property
    def title(self) -> str:
        return f"Table {self.table.number}, {self.table.title}: mAP on the test subset; {', '.join(self.scale)}"

    def lines(self) -> list[list[str]]:
        """Cells of the head and of each row, in per cent."""
        lines = [[*self.table.columns, *SHOWN, "Avg.", "Avg. in the paper"]]
        for m in self.rows:
            cells = []
            for threshold in (*SHOWN, None):
                mean, deviation = m.mean(threshold)
                cells.append(f"{100 * mean:.1f}" + (f" ± {100 * deviation:.1f}" if len(m.runs) > 1 else ""))
            lines.append([*m.row.cells, *cells, f"{m.row.published}" if m.row.published else "–"])
        return lines

    def save(self, folder: Path) -> None:
        """Write table-N.json and table-N.md."""
        content = {
            "table": self.table.number,
            "scale": list(self.scale),
            "rows": [{"key": m.row.key, "published": m.row.published, "runs": m.runs} for m in self.rows],
        }
        write_text(folder / f"table-{self.table.number}.json", json.dumps(content, indent=1) + "\n")
        write_text(folder / f"table-{self.table.number}.md", f"{self.title}\n\n{markdown_table(self.lines())}")
