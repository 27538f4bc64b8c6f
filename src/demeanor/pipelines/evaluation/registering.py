"""The champions into the model registry, and the words with which a run ends."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import pandas as pd

from demeanor.data.examples import Examples
from demeanor.data.progress import with_progress
from demeanor.data.task import Tasks
from demeanor.pipelines.evaluation.nodes import AllBundles
from demeanor.pipelines.evaluation.settings import EvaluationSettings, ceiling_of

logger = logging.getLogger(__name__)


def register_champions(
    champions: dict[str, dict[str, Any]],
    receipts: list[dict[str, Any]],
    utterances: pd.DataFrame,
    root: str,
    settings: EvaluationSettings,
    bundles: AllBundles,
    development: Examples,
    slices: pd.DataFrame,
) -> dict[str, dict[str, Any]]:
    """Each task's best as a new version in the MLflow model registry: alias `champion`, or `challenger` where the
    version that answers now is better or cannot be compared (demeanor.serving.standing)."""
    from demeanor.data.raw_rows import example_row
    from demeanor.serving.registry import RegistryUnreachable, register, registered_name, told_if_unreachable
    from demeanor.serving.standing import Judged
    from demeanor.training import tracking

    if not settings.register_champions:
        return {}
    tracking.current().flush()  # the registry looks for the runs that trained
    registered = {}
    for name, champion in with_progress(list(champions.items()), "registering the champions", "models"):
        bundle = bundles[champion["branch"]][champion["seed"]]
        card = bundle.card
        if not card.recomputable:
            logger.warning("%s reads imported features: registered, but it cannot score a recording", name)
        scored = [r for r in receipts if r["weights_sha256"] == bundle.weights_sha256]
        tags = {
            "corpus": card.protocol["corpus"],
            "task": name,
            "branch": champion["branch"],
            "system": card.system,
            "code_revision": card.code_revision,
        }
        metrics = {f"{r['corpus']}.{key}" if r["learnt_from"] else key: value for r in scored
                   for key, value in r["metrics"].items() if value is not None}  # fmt: skip
        # MLflow tries what it is given, and tells at length what did not work.
        example = example_row(utterances, root) if card.recomputable else None
        judged = Judged(champion["metric"], champion["value"], card.data_hash)
        model = registered_name(card, settings.registered_as)
        try:
            with told_if_unreachable(f"The champion for {name}", "kedro run --pipelines evaluation"):
                mine = slices[(slices["task"] == name) & (slices["branch"] == champion["branch"])]
                registered[name] = register(bundle, model, tags, metrics, example, judged, development, mine)
        except RegistryUnreachable as error:
            logger.warning("%s", error)
            break  # the others would wait for the same server
    return registered


def registered_as(made: Mapping[str, Any] | None) -> str:
    """Where a model stands in the registry, as the end of a sentence; nothing where it was not registered."""
    if made is None:
        return ""
    where = f", registered as {made['name']} version {made['version']}"
    if made["version"] == made["champion"]:
        # By now the version that was the champion is `previous`: how the two compare is worth a line.
        return f"{where} ({made['reason']})" if made["previous"] is not None else where
    return f"{where}, the challenger: version {made['champion']} goes on to answer ({made['reason']})"


def summarise(
    comparison: pd.DataFrame,
    verdicts: dict[str, str],
    champions: dict[str, dict[str, Any]],
    registration: dict[str, dict[str, Any]],
    tasks: Tasks,
    settings: EvaluationSettings,
) -> str:
    """The short closing table: systems, champion, and where to look next."""
    from demeanor.evaluation.metrics import primary_metrics
    from demeanor.evaluation.tables import to_markdown
    from demeanor.training import tracking

    lines = []
    for name, champion in champions.items():
        task = tasks[name]
        mine = comparison[comparison["task"] == name].drop(columns="task")
        metrics = primary_metrics(task)[:3]
        ceiling = ceiling_of(settings, name, all_rows=False)
        for corpus, table in mine.groupby("corpus", sort=False):
            lines += [f"Tested on {corpus}:", ""] if mine["corpus"].nunique() > 1 else []
            shown = table.reset_index(drop=True)
            lines += [to_markdown(task, shown, metrics=metrics, notes=False, reference=ceiling), ""]
        lines.append(
            f"Champion for {name}, chosen on validation ({champion['metric']} {champion['mean']:.3f}): "
            f"{champion['branch']} {champion['seed'].replace('_', ' ')}{registered_as(registration.get(name))}."
        )
        lines += [verdicts[name], ""]
    lines += [
        'Next: demeanor predict CLIP.mp4 --text "..."   scores a recording with the champion',
        "      make mlflow                              the runs and the model registry",
        "      make viz                                 the five pipelines",
    ]
    text = "\n".join(lines)
    tracking.current().set_tags({"mlflow.note.content": text})
    return text
