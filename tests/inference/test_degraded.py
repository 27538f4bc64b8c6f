"""A model whose label is in the pitch of a voice: noise takes it away, and the curves say so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from demeanor.commands.robustness import short_names
from demeanor.data.errors import InputError
from demeanor.evaluation.robustness import areas
from demeanor.evaluation.robustness_figure import robustness_figure
from demeanor.features.degrading import degradations
from demeanor.inference.degraded import Degraded, curves
from demeanor.inference.model import TrainedModel
from demeanor.pipelines.evaluation.worse import courses
from tests.toy import SENTIMENT


@pytest.fixture(scope="module")
def model_and_clips(voice, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainedModel, Degraded]:
    folder = tmp_path_factory.mktemp("worse")
    bundle, examples = voice
    ids = list(examples.split("valid").ids)
    return TrainedModel.load(bundle), Degraded.of(examples, ids, folder, folder / "work", seed=1)


def test_noise_costs_and_late_sound_costs_nothing_until_the_voice_is_gone(model_and_clips, tmp_path: Path):
    model, degraded = model_and_clips
    tables = []
    kinds = degradations(["white", "misalignment"])
    for kind in kinds:
        for level in (None, kind.levels[0], kind.levels[-1]):
            tables.append(curves({"voice": model}, degraded, kind, level, resamples=50))
    table = pd.concat(tables, ignore_index=True)
    white = table[table["kind"] == "white"].set_index("level")["MAE"]
    clean, mild, hard = white.iloc[0], white[20.0], white[-10.0]
    assert clean < hard
    assert mild < hard
    assert hard > 1.5 * clean
    late = table[(table["kind"] == "misalignment") & (table["level"] == 1.0)]
    alone = model.outputs(degraded.examples, [()])[0, :, 0]
    error = np.abs(alone - degraded.examples.utterances["sentiment"]).mean()
    assert late["MAE"].iloc[0] == pytest.approx(error), "0.6 s of sound, a second late: nothing is heard"
    again = curves({"voice": model}, degraded, kinds[0], -10.0, resamples=50)
    assert again["MAE"].iloc[0] == hard
    with_words = curves({"voice": model}, degraded, degradations(["words"])[0], None)
    assert with_words.empty, "it reads no words"


def test_areas_figure_and_report(model_and_clips):
    model, _ = model_and_clips
    metric = SENTIMENT.selection_metric[0]
    rows = [
        {"model": "m", "kind": "white", "level": level, "modalities": name, "present": name.count("+") + 1,
         metric: value, f"{metric}_low": value - 0.1, f"{metric}_high": value + 0.1, "confidence": 0.7,
         "surer_without": 0.25}
        for name, values in (("audio + text", (1.0, 1.0, 2.0, 2.0, 3.0)), ("text", (1.5,) * 5))
        for level, value in zip((np.nan, 20.0, 10.0, 0.0, -10.0), values, strict=True)
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    white = degradations(["white"])
    made = areas(SENTIMENT, table, white[0].levels).set_index("modalities")
    assert made.loc["audio + text", "area"] == pytest.approx((1 + 1.5 + 2 + 2.5) / 4)
    assert made.loc["audio + text", "lost"] == pytest.approx(0.75)
    assert made.loc["audio + text", "hardest"] == 3.0
    assert made.loc["text", "lost"] == 0.0
    figure = robustness_figure({"m": SENTIMENT}, table, courses({"white"}), title="tones")
    labels = [text.get_text() for axes in figure.axes for text in axes.get_xticklabels()]
    assert labels == ["clean", "20", "10", "0", "-10"]
    assert [text.get_text() for text in figure.axes[0].texts] == ["without audio"]
    assert short_names({"models:/a@champion": model}) == {"models:/a@champion": "voice"}
    assert len(set(short_names({"one": model, "other": model}).values())) == 2


def test_no_clip_is_an_error(model_and_clips, tmp_path: Path):
    _, degraded = model_and_clips
    with pytest.raises(InputError, match="no clip"):
        Degraded.of(degraded.examples, [], tmp_path, tmp_path)
