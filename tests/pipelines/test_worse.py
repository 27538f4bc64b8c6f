"""What `demeanor robustness` found stays in the report while models are the same, and is named when they are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from demeanor.datasets import FoundFacts
from demeanor.evaluation.robustness import areas
from demeanor.features.degrading import degradations
from demeanor.pipelines.evaluation.worse import (
    TITLE,
    ScoredModel,
    WorseRecordings,
    kept_section,
    rows_of,
    tables_of,
)
from tests.toy import SENTIMENT


def curves_of(name: str) -> pd.DataFrame:
    """A model of words and voice whose error grows by 0.1 at each step."""
    (kind,) = degradations(["white"])
    rows = [
        {"model": name, "task": "sentiment", "kind": "white", "level": level, "modalities": modalities,
         "present": modalities.count("+") + 1, "n": 20, "MAE": mae, "MAE_low": mae - 0.1, "MAE_high": mae + 0.1,
         "surer_without": 0.25 if "+" in modalities else np.nan}
        for modalities in ("text + audio", "text", "audio")
        for mae, level in zip(np.arange(5) / 10 + 0.5, (np.nan, *kind.levels), strict=True)
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def receipt() -> WorseRecordings:
    (kind,) = degradations(["white"])
    curves = pd.concat([curves_of(name) for name in ("first", "second")], ignore_index=True)
    tables = [
        areas(SENTIMENT, curves[curves["model"] == name], kind.levels).assign(
            model=name, task="sentiment", kind="white"
        )
        for name in ("first", "second")
    ]
    models = {
        name: ScoredModel(branch=name, seed=1, weights_sha256=f"{name}'s weights", task=SENTIMENT)
        for name in ("second", "first")  # as a file has them, whose keys are sorted
    }
    return WorseRecordings(
        corpus="toy", split="valid", clips=20, seed=0, champions=True, models=models, curves=rows_of(curves),
        areas=rows_of(pd.concat(tables)),
    )  # fmt: skip


def test_a_receipt_keeps_what_it_is_given(receipt: WorseRecordings):
    again = WorseRecordings.model_validate(receipt.as_dict())
    curves, table = tables_of(again)
    assert curves["level"].isna().sum() == 6
    pd.testing.assert_frame_equal(curves[curves["model"] == "first"], curves_of("first"), check_dtype=False)
    assert table.loc[table["modalities"] == "text + audio", "area"].tolist() == pytest.approx([0.7, 0.7])


def test_the_section_stays_while_its_models_are_champions(receipt: WorseRecordings):
    everyone = {"first's weights", "second's weights"}
    (section,) = kept_section(receipt.as_dict(), everyone, everyone)
    assert section.title == TITLE
    captions = [caption for caption in section.tables if "all modalities" in caption]
    assert captions == [
        f"{name} (sentiment), all modalities, MAE ↓: 20 clips of validation, seed 0." for name in ("first", "second")
    ]
    assert section.tables[captions[0]]["lost"].tolist() == pytest.approx([0.2])
    assert len(section.figures) == 1
    assert not any("Left out" in text for text in section.words)


def test_a_model_that_is_champion_no_longer_is_left_out_and_named(receipt: WorseRecordings):
    both = {"first's weights", "second's weights"}
    (section,) = kept_section(receipt.as_dict(), {"second's weights"}, both)
    assert "Left out, for it is no longer the champion: first (sentiment)." in section.words[-1]
    assert [caption.split()[0] for caption in section.tables] == ["second", "Share"]
    # Somebody named it: it need not be a champion, but has to be a model of this run.
    named = receipt.model_copy(update={"champions": False}).as_dict()
    assert "Left out" not in " ".join(kept_section(named, {"second's weights"}, both)[0].words)
    (section,) = kept_section(named, set(), {"others'"})
    assert "no longer a model of this run: first (sentiment), second (sentiment)." in section.words[0]
    assert (dict(section.tables), dict(section.figures)) == ({}, {})


def test_there_may_be_none_and_what_cannot_be_read_is_said(receipt: WorseRecordings, tmp_path: Path):
    dataset = FoundFacts(filepath=str(tmp_path / "robustness.json"))
    assert dataset.load() == {}
    assert kept_section(dataset.load(), set(), set()) == ()
    dataset.save(receipt.as_dict())
    assert dataset.load() == receipt.as_dict()
    (section,) = kept_section({**receipt.as_dict(), "clips": "many"}, set(), set())
    assert "cannot be read (clips:" in section.words[0]
