"""The tuning pipeline by `kedro run`, and the environment that it writes."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.project import kedro

pytestmark = pytest.mark.slow


def test_the_environment_that_tuning_writes_reproduces_its_score(finished_project: Path, tmp_path: Path):
    folder = tmp_path / "project"
    # The demo's clips and the MLflow artifacts are most of the files and play no part.
    shutil.copytree(finished_project, folder, ignore=shutil.ignore_patterns("01_raw", "mlruns"))
    conf = yaml.safe_load((folder / "conf/base/parameters_tuning.yml").read_text(encoding="utf-8"))
    conf["tuning"] |= {"trials": 3}
    (folder / "conf/local/parameters_tuning.yml").write_text(yaml.safe_dump(conf), encoding="utf-8")
    told = kedro(folder, "run", "--pipelines", "tuning")
    assert "--env demo_tuned" in told
    trials = pd.read_csv(folder / "data/08_reporting/demo/tuning.csv")
    assert list(trials["trial"]) == [0, 1, 2]
    kedro(folder, "run", "--env", "demo_tuned", "--pipelines", "fusion_training", "--namespaces", "late_fusion")
    card = json.loads((folder / "data/06_models/demo/branches/late_fusion/seed_1/card.json").read_text())
    assert card["metrics"]["MAE"] == trials["MAE"].min()
    with sqlite3.connect(folder / "mlflow.db") as store:
        children = store.execute(
            "select r.name, p.value from runs r "
            "join tags p on p.run_uuid = r.run_uuid and p.key = 'mlflow.parentRunId' "
            "join tags t on t.run_uuid = r.run_uuid and t.key = 'tuning'"
        ).fetchall()
        parents = store.execute("select run_uuid from runs where name = 'tuning'").fetchall()
    assert {name for name, _ in children} == {f"late_fusion trial {n}" for n in range(3)}
    assert {parent for _, parent in children} == {parents[0][0]}
