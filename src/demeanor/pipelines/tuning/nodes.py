"""Development examples in; a table of trials and the parameters with the best settings found out."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import pandas as pd
from pydantic import BaseModel

from demeanor.data.errors import InputError, nearest
from demeanor.data.examples import Examples
from demeanor.data.places import anchored
from demeanor.data.task import Tasks
from demeanor.evaluation.validation import validation_score
from demeanor.training.tuning.settings import TuningSettings

logger = logging.getLogger(__name__)


def tune_branches(
    development: Examples, tuning: TuningSettings, tasks: Tasks, checkpoints: str, parameters: dict[str, Any]
) -> tuple[pd.DataFrame, dict[str, dict[str, Any]]]:
    """Search the settings of the branches named in `tuning`.

    Returns the trials and the files of a Kedro environment: all parameters of this run with the best settings in
    their places, so that the environment says the same whichever one the search ran in.
    InputError for a branch that there is not.
    """
    from demeanor.training.tuning.search import Search

    missing = [
        f"there is no branch '{branch}'.{nearest(branch, parameters['branches'])}"
        for branch in tuning.branches
        if branch not in parameters["branches"]
    ]
    if missing:
        raise InputError("tuning.branches", missing)
    settings, tables = plain(parameters), []
    for branch in tuning.branches:
        search = Search(
            branch, settings["branches"][branch], tuning, development, tasks, validation_score,
            anchored(tuning.folder) / f"{branch}.db", anchored(checkpoints),
        )  # fmt: skip
        tuned = search.run()
        settings["branches"][branch] = tuned.block
        tables.append(tuned.trials)
    logger.info("found settings: kedro run --env %s_tuned --pipelines fusion_training", tuning.corpus)
    files = {"globals": {"corpus": tuning.corpus}, "parameters": settings}
    return pd.concat(tables, ignore_index=True), files


def plain(value: Any) -> Any:
    """What a parameter file can hold: Kedro has made models of those parameters that this pipeline's nodes take."""
    if isinstance(value, Mapping):
        return {name: plain(inner) for name, inner in value.items()}
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value
