"""What `demeanor robustness` found of the models of a run: a receipt that lies beside the report, and its section.

The command makes recordings worse and scores models on them, which takes longer than all of the evaluation; the
evaluation writes the report anew each time. So the command keeps what it found with the hash of each model's weights,
and the report shows it for as long as these are the weights that it speaks of.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from pydantic import ValidationError

from demeanor.data.settings import Settings
from demeanor.data.task import Task

if TYPE_CHECKING:
    from demeanor.evaluation.report import Section
    from demeanor.evaluation.robustness_figure import Course

TITLE = "Worse recordings"
WORDS = (
    "The recordings themselves were made worse and their features extracted again. area is the mean score from clean "
    "to the hardest step (area under the curve, divided by its length); lost is how much worse that is than clean. "
    "Dashed: what the model is worth without the modality that gets worse; a line on the wrong side of it says that "
    "leaving this modality out would be better. Bands are 95 % bootstrap intervals.",
    "Noise is mixed in at a ratio of root mean squares over each clip; other voices are six other clips of the split "
    "at once. Lost pictures are those that the model would have looked at. Misheard words: 60 % another word, 20 % "
    "none, 20 % one too many, also in the turns around. Late sound: silence first, its end cut off.",
)
AGAIN = "`demeanor robustness --output FOLDER` scores the champions of today."


class ScoredModel(Settings):
    """Which model was scored; weights_sha256 is that of its bundle."""

    branch: str
    seed: int | None = None
    weights_sha256: str
    task: Task


class WorseRecordings(Settings):
    """The receipt of one run of the command.

    champions  were the champions scored, as the command does by itself, or models that somebody named?
    models     name in the tables -> which model that is
    curves     rows of demeanor.inference.degraded.curves, a clean level as null
    areas      rows of demeanor.evaluation.robustness.areas, with model, task and kind
    """

    corpus: str
    split: Literal["valid", "test"]
    clips: int
    seed: int
    champions: bool
    data_hash: str = ""
    code_revision: str = ""
    models: dict[str, ScoredModel]
    curves: list[dict[str, Any]]
    areas: list[dict[str, Any]]

    @property
    def scored(self) -> str:
        """How many clips of which split."""
        return f"{self.clips} clips of {'the sealed test, as was asked' if self.split == 'test' else 'validation'}"

    @property
    def tasks(self) -> dict[str, Task]:
        """Name -> task of each model, in the order in which they were scored."""
        return {name: self.models[name].task for name in dict.fromkeys(row["model"] for row in self.curves)}

    def of(self, names: Collection[str]) -> WorseRecordings:
        """What it says of these models alone."""
        kept: dict[str, Any] = {
            "models": {name: model for name, model in self.models.items() if name in names},
            "curves": [row for row in self.curves if row["model"] in names],
            "areas": [row for row in self.areas if row["model"] in names],
        }
        return self.model_copy(update=kept)


def rows_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON has them; what is undefined is null."""
    made: list[dict[str, Any]] = json.loads(table.to_json(orient="records", double_precision=12))
    return made


def tables_of(kept: WorseRecordings) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(curves, areas) of a receipt, with NaN for what is undefined."""
    curves, areas = (pd.DataFrame(rows) for rows in (kept.curves, kept.areas))
    for table in (curves, areas):
        for column in table:
            if column not in ("model", "task", "kind", "modalities", "metric"):
                table[column] = table[column].astype(np.float64)
    return curves, areas


def courses(kinds: Collection[str]) -> list[Course]:
    """What the figure has to know of each kind, in the order in which the command goes through them."""
    from demeanor.evaluation.robustness_figure import Course
    from demeanor.features.degrading import degradations

    return [
        Course(kind.name, kind.title, kind.modality, kind.axis, kind.levels, kind.clean)
        for kind in degradations()
        if kind.name in kinds
    ]


def figure_of(kept: WorseRecordings) -> Any:
    """The curves as a matplotlib figure."""
    from demeanor.evaluation.robustness_figure import robustness_figure

    curves, _ = tables_of(kept)
    return robustness_figure(kept.tasks, curves, courses(set(curves["kind"])), title=f"{kept.corpus}: {kept.scored}")


def section_of(kept: WorseRecordings, more: Sequence[str] = ()) -> Section:
    """The part of the report: a table for each model, the figure, and further words."""
    from demeanor.evaluation.report import Section
    from demeanor.evaluation.robustness_figure import arrow
    from demeanor.features.degrading import degradations

    curves, areas = tables_of(kept)
    titles = {kind.name: kind.title for kind in degradations()}
    tables = {}
    for name, task in kept.tasks.items():
        mine = areas[areas["model"] == name]
        counts = mine["modalities"].str.count(r"\+")
        full = mine.loc[counts == counts.max(), ["kind", "clean", "hardest", "area", "lost"]]
        caption = f"{name} ({task.name}), all modalities, {arrow(task)}: {kept.scored}, seed {kept.seed}."
        tables[caption] = full.assign(kind=full["kind"].map(titles)).rename(columns={"kind": "made worse by"})
    rows = []
    whole = curves[curves["present"] == curves.groupby("model")["present"].transform("max")]
    for (model_name, kind), own in whole.groupby(["model", "kind"], sort=False):
        if "surer_without" in own and own["surer_without"].notna().any():
            steps = dict(zip(["clean", *(f"step_{n}" for n in range(1, len(own)))], own["surer_without"], strict=True))
            rows.append({"model": str(model_name), "made worse by": titles[str(kind)], **steps})
    if rows:
        tables["Share of cases in which taking a modality away raises the confidence by more than 0.01"] = pd.DataFrame(
            rows
        )
    return Section(TITLE, (*WORDS, *more), tables, {"The score over how bad the recordings are.": figure_of(kept)})


def kept_section(found: Mapping[str, Any], champions: Collection[str], every: Collection[str]) -> tuple[Section, ...]:
    """The section that a report of the run shows: nothing without a receipt, and of one those models that still are
    what they were when they were scored; others are named.

    found      the receipt's content, empty where there is none
    champions  hashes of the weights of the run's champions; `every`: of all its bundles
    """
    from demeanor.evaluation.report import Section

    if not found:
        return ()
    try:
        kept = WorseRecordings.model_validate(dict(found))
    except ValidationError as error:
        first = error.errors()[0]
        where = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        return (Section(TITLE, (f"What was kept of worse recordings cannot be read ({where}). {AGAIN}",)),)
    known = champions if kept.champions else every
    same = [name for name in kept.tasks if kept.models[name].weights_sha256 in known]
    gone = [f"{name} ({task.name})" for name, task in kept.tasks.items() if name not in same]
    what = "the champion" if kept.champions else "a model of this run"
    more = [f"Left out, for it is no longer {what}: {', '.join(gone)}. {AGAIN}"] if gone else []
    return (section_of(kept.of(same), more),) if same else (Section(TITLE, more),)
