"""The table of seeds: published rows give the published mean, in the published order."""

from __future__ import annotations

import pytest

from demeanor.data.errors import InputError
from demeanor.data.task import Task
from demeanor.evaluation.receipts import Receipt
from demeanor.evaluation.seeds import COLUMNS, seeds_to_markdown

MOSI = Task(name="sentiment", kind="regression", column="sentiment")
#: MMML on CMU-MOSI as its README prints it (docs/systems/mmml.md#results).
PUBLISHED = {
    1: (0.8921, 0.8918, 0.9131, 0.9131, 0.5991, 0.5248, 0.5687, 0.8803),
    11: (0.8790, 0.8786, 0.8979, 0.8978, 0.5889, 0.5160, 0.5677, 0.8790),
    111: (0.8834, 0.8832, 0.8994, 0.8995, 0.6122, 0.5408, 0.5356, 0.8878),
}
MEAN = (0.8848, 0.8845, 0.9035, 0.9035, 0.6001, 0.5272, 0.5573, 0.8824)


def receipt(seed: int, values: tuple, **changes) -> Receipt:
    metrics = dict(zip(COLUMNS["mosi"], values, strict=True))
    given = {"branch": "mmml", "system": "mmml", "task": "sentiment", "corpus": "mosi", "split": "test"}
    return Receipt(**{**given, "seed": seed, "metrics": metrics, "n": 686, "data_hash": "0", **changes})


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_published_seeds_give_the_published_mean():
    receipts = [receipt(seed, values) for seed, values in reversed(PUBLISHED.items())]
    receipts += [
        receipt(1, MEAN, modalities=("text",)),
        receipt(1, MEAN, task="emotion"),
        receipt(1, MEAN, split="valid"),
    ]
    lines = seeds_to_markdown(MOSI, receipts).splitlines()
    assert [cell.split()[0] for cell in cells(lines[0])] == ["system", "seed", *COLUMNS["mosi"]]
    assert [cells(line)[1] for line in lines[2:]] == ["1", "11", "111", "mean"]
    assert cells(lines[2])[2:] == [f"{value:.4f}" for value in PUBLISHED[1]]
    assert [float(cell) for cell in cells(lines[-1])[2:]] == pytest.approx(list(MEAN), abs=1.01e-4)


def test_an_undefined_metric_is_a_dash_and_so_is_its_mean():
    values = (*PUBLISHED[1][:-1], float("nan"))
    lines = seeds_to_markdown(MOSI, [receipt(1, values), receipt(11, PUBLISHED[11])]).splitlines()
    assert [cells(line)[-1] for line in lines[2:]] == ["-", "0.8790", "-"]


def test_two_receipts_of_one_seed_are_refused():
    with pytest.raises(InputError, match="mmml has several receipts of seed 1"):
        seeds_to_markdown(MOSI, [receipt(1, MEAN), receipt(1, MEAN)])


def test_chinese_columns_and_a_single_seed():
    sims = Task(name="sentiment", kind="regression", column="sentiment", low=-1, high=1, convention="sims")
    metrics = dict.fromkeys(COLUMNS["sims"], 0.5)
    lines = seeds_to_markdown(sims, [receipt(1, MEAN, metrics=metrics)]).splitlines()
    assert len(lines) == 3
    assert [cell.split()[0] for cell in cells(lines[0])[2:]] == list(COLUMNS["sims"])


def test_classes_are_shown_by_their_primary_metrics(evaluation):
    task = Task(name="emotion", kind="classification", column="emotion", classes=("a", "b"))
    metrics = {"weighted_F1": 0.25, "accuracy": 0.5, "UAR": 0.5, "macro_F1": 0.5}
    assert "0.2500" in seeds_to_markdown(task, [receipt(1, MEAN, task="emotion", metrics=metrics)])
    lines = seeds_to_markdown(evaluation.task, evaluation.receipts).splitlines()
    assert len(lines) == 2 + 3 * (3 + 1)
