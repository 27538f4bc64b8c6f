"""Sweeps: which trainings there are, what each leaves in the table, and what leaving a corpus out costs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from demeanor.data.errors import InputError
from demeanor.data.examples import Examples
from demeanor.data.ragged import Ragged
from demeanor.data.stream import Stream
from demeanor.evaluation.probe import probe
from demeanor.inference.model import TrainedModel
from demeanor.representations.word_matrix import WordMatrixSettings
from demeanor.training.pretraining.settings import RepresentationSettings
from demeanor.training.pretraining.sweep import cost_of_leaving_out, planned, sweep
from tests.toy import SENTIMENT, toy_examples


def test_every_mixture_and_every_set_of_modalities_once():
    names = [combination.name for combination in planned(["x", "y"], ["audio", "text"], "both")]
    assert names == ["x+y audio+text", "x audio+text", "y audio+text", "x+y audio", "x+y text"]
    assert len(planned(["x", "y"], ["audio", "text"], "product")) == 9
    # The released checkpoints: seven mixtures of three corpora, and six further sets of modalities.
    assert len(planned(["mosei", "mosi", "iemocap"], ["audio", "text", "vision"], "both")) == 7 + 6


def corpora() -> dict[str, Examples]:
    found = {}
    for seed, name in enumerate(("here", "there")):
        examples = toy_examples(seed=seed).split("train", "valid")
        table = examples.utterances.assign(corpus=name, utterance_id=[f"{name}{i}" for i in examples.ids])
        streams = {
            key: Stream(
                key,
                Ragged.from_sequences(
                    dict(zip(table["utterance_id"], stream.ragged, strict=True)), dimension=stream.dimension
                ),
                stream.provenance,
            )
            for key, stream in examples.streams.items()
        }
        found[name] = Examples.of(table, streams)
    return found


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_sweep_probes_on_the_target_alone():
    logged: list[tuple[str, dict]] = []

    @contextmanager
    def around(combination) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(log_metrics=lambda metrics, step=None: logged.append((combination.name, metrics)))

    probed: list[set[str]] = []

    def scores(bundle, examples) -> dict[str, float]:
        probed.append(set(examples.utterances["corpus"]))
        return {"MAE": probe(TrainedModel.load(bundle).embed(examples), examples, SENTIMENT)["MAE"]}

    matrix = WordMatrixSettings(streams={"audio": "audio.frames", "text": "text.words"}, components={})
    settings = RepresentationSettings(
        representation="principal_components", model={"components": 4}, word_matrix=matrix
    )
    table = sweep(settings, corpora(), "here", "both", scores, around)
    assert list(table["corpora"]) == ["here+there", "here", "there", "here+there", "here+there"]
    assert list(table["with_target"]) == [True, True, False, True, True]
    assert probed == [{"here"}] * 5
    assert np.isfinite(table["MAE"]).all()
    assert np.isfinite(table["latent_variance"]).all()
    assert table["reconstruction.audio"].isna().tolist() == [False, False, False, False, True]
    assert {name for name, _ in logged} == {f"{row.corpora} {row.modalities}" for row in table.itertuples()}
    cost = cost_of_leaving_out(table, "here", "MAE")
    assert cost["corpora"].tolist() == ["there"]
    by_name = dict(zip(zip(table["corpora"], table["modalities"], strict=True), table["MAE"], strict=True))
    difference = by_name[("here+there", "audio+text")] - by_name[("there", "audio+text")]
    assert cost["difference"].iloc[0] == pytest.approx(difference)
    with pytest.raises(InputError, match="'elsewhere' is not among here, there"):
        sweep(settings, corpora(), "elsewhere", "both", scores, around)


def test_nothing_left_out_costs_nothing():
    table = pd.DataFrame({"corpora": ["a"], "modalities": ["text"], "MAE": [1.0]})
    assert not len(cost_of_leaving_out(table, "a", "MAE"))
