"""CONTRIBUTING.md is followed word by word: its model trains, its reader reads."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from demeanor.corpora import READERS
from demeanor.corpora.base import CorpusSettings, ReaderSettings
from demeanor.data.errors import InputError
from demeanor.data.task import Tasks
from demeanor.models import SYSTEMS
from demeanor.models.base import System
from demeanor.training.settings import BranchSettings
from tests.models import test_contract as contract
from tests.models.examples import FORMS, TASKS, example_batch, specifications
from tests.project import PROJECT, parameters_of

PAGE = Path(__file__).resolve().parents[1] / "CONTRIBUTING.md"


def written(name: str) -> Any:
    """What the page's block that defines `name` defines under it."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (block,) = (text for text in blocks if f"class {name}(" in text)
    space: dict[str, Any] = {"__name__": "contributing"}
    exec(compile(block, str(PAGE), "exec"), space)
    return space[name]


@pytest.mark.parametrize("kind", TASKS)
def test_its_model_learns(kind: str):
    kind_of_model: type[System] = written("MeanOfVoice")
    torch.manual_seed(0)
    system = kind_of_model(kind_of_model.Settings(), specifications(kind_of_model), TASKS[kind])
    batch = example_batch(system)
    optimiser = torch.optim.AdamW([group for group in system.parameter_groups(1e-2, 0.0) if group["params"]])
    losses = []
    for _ in range(20):
        optimiser.zero_grad()
        loss = system.loss(system(batch), batch)["total"]
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    "demand",
    [
        contract.test_gradients_reach_every_parameter,
        contract.test_neither_padding_nor_other_rows_change_a_prediction,
        contract.test_any_subset_of_modalities_may_be_absent,
        contract.test_rubbish_in_the_padding_is_not_seen,
        contract.test_half_precision_stays_finite,
    ],
)
def test_its_model_keeps_the_contract(demand: Callable[..., None], monkeypatch: pytest.MonkeyPatch):
    module = ModuleType("demeanor.models.mean_of_voice")
    module.MeanOfVoice = written("MeanOfVoice")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(SYSTEMS, "mean_of_voice", f"{module.__name__}:MeanOfVoice")
    monkeypatch.setitem(FORMS, "mean_of_voice", ("mean_of_voice", {}))
    tokens = (False,) if "tokens" in signature(demand).parameters else ()
    demand("mean_of_voice", *tokens)


def test_its_reader_reads(tmp_path: Path):
    reader = written("SplitTablesReader")
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.csv").write_text("text;sentiment\nI like it.;1,5\nNo.;-2\n", encoding="utf-16")
    corpus = reader().read(ReaderSettings(path=tmp_path, name="split tables"), tmp_path / "streams")
    assert corpus.counts == {"train": 2, "valid": 2, "test": 2}
    assert list(corpus.utterances["sentiment"]) == [1.5, -2.0] * 3
    (tmp_path / "valid.csv").unlink()
    with pytest.raises(InputError, match=r"valid\.csv"):
        reader().read(ReaderSettings(path=tmp_path, name="split tables"), tmp_path / "streams")


def test_its_environment_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With the file, the line in READERS and the one yml, the corpus is read and its branch is understood."""
    page = PAGE.read_text(encoding="utf-8")
    (environment,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    name, place = re.findall(r'`"(\w+)": "([\w.]+:\w+)"` in `READERS`', page)[0]
    module = ModuleType(place.partition(":")[0])
    setattr(module, place.partition(":")[2], written("SplitTablesReader"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(READERS, name, place)
    shutil.copytree(PROJECT / "conf/base", tmp_path / "conf/base")
    (tmp_path / "conf" / name).mkdir()
    (tmp_path / "conf" / name / "parameters.yml").write_text(environment, encoding="utf-8")
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.csv").write_text("text,sentiment\nI like it.,1.5\n", encoding="utf-8")
    parameters = parameters_of(name, tmp_path / "conf", corpus={"options": {"path": str(tmp_path)}})
    assert CorpusSettings.model_validate(parameters["corpus"]).read(tmp_path / "streams").counts["train"] == 1
    tasks = Tasks.model_validate(parameters["tasks"])
    (branch,) = (BranchSettings.model_validate(block) for block in parameters["branches"].values())
    assert branch.task in tasks.root
    assert set(branch.streams.values()) <= set(parameters["features"]["text"])
