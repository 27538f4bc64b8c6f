"""Label spaces and the maps between them: nothing is invented, and what is lost is said and counted."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from pydantic import ValidationError

from demeanor.corpora.base import Card, Corpus, CorpusSettings
from demeanor.corpora.iemocap import CLASSES
from demeanor.corpora.mapped_labels import LabelMapping, map_labels
from demeanor.corpora.meld import EMOTIONS as MELD
from demeanor.corpora.ravdess import EMOTIONS as RAVDESS
from demeanor.data.errors import InputError
from demeanor.data.label_spaces import MAPS, SPACES, LabelMap, find_map
from demeanor.data.task import Task
from demeanor.data.utterances import make_table


def test_spaces_are_those_of_the_readers():
    assert set(SPACES["meld"].classes) == set(MELD)
    assert set(SPACES["ravdess"].classes) == set(RAVDESS)
    assert set(SPACES["iemocap_6"].classes) == set(CLASSES["six"])


@pytest.mark.parametrize("ends", MAPS, ids="-".join)
def test_every_map_stays_in_its_spaces_and_says_what_it_loses(ends):
    one = MAPS[ends]
    assert set(one.pairs) <= set(one.source.classes)
    assert set(one.pairs.values()) <= set(one.target.classes)
    if one.source.classes:
        labels = pd.Series([*one.source.classes, "no such label", None])
        mapped = one(labels)
        assert mapped.iloc[-2:].isna().all()
        assert int(mapped.notna().sum()) == len(one.pairs)
        # One to one and onto is the only map without a loss.
        onto = len(one.pairs) == len(one.source.classes) == len(one.target.classes) == len(set(one.pairs.values()))
        assert bool(one.lost) == (not onto or bool(one.why))


def test_what_is_lost_is_read_off_the_map():
    ravdess = find_map("ravdess", "iemocap_4")
    assert ravdess.dropped == ("fear", "disgust", "surprise")
    assert ravdess.merged == {"neutral": ("neutral", "calm")}
    assert find_map("iemocap_4", "meld").unreached == ("surprise", "fear", "disgust")
    assert "fear, disgust, surprise: no label" in ravdess.lost
    whole = LabelMap(SPACES["ekman"], SPACES["ekman"], {name: name for name in SPACES["ekman"].classes})
    assert whole.lost == ()


def test_a_number_keeps_its_side_alone():
    mapped = find_map("sentiment", "polarity")(pd.Series([-0.2, 0.0, 3.0, 3.4, None]))
    assert mapped.tolist() == ["negative", "neutral", "positive", None, None]


def test_two_steps_say_what_one_says():
    """Where both ways exist, a detour through a third space loses at least as much, and contradicts nothing."""
    for (start, middle), first in MAPS.items():
        for (other, end), second in MAPS.items():
            if other == middle and (start, end) in MAPS and first.source.classes:
                labels = pd.Series(first.source.classes)
                detour, straight = second(first(labels)), MAPS[start, end](labels)
                both = detour.notna()
                assert (detour[both] == straight[both]).all(), (start, middle, end)


def test_an_unknown_map_is_refused_with_those_there_are():
    with pytest.raises(InputError, match=r"no space 'eckman'.* Did you mean 'ekman'"):
        find_map("meld", "eckman")
    with pytest.raises(InputError, match="no map leads from polarity to ekman: polarity has none"):
        find_map("polarity", "ekman")
    with pytest.raises(ValidationError, match="no map leads from meld to sentiment: meld has maps to ekman"):
        CorpusSettings(
            reader="meld",
            options={"path": "x"},
            labels={"number": {"column": "emotion", "space": "meld", "to": "sentiment"}},
        )


def test_a_corpus_gets_a_column_and_the_count_of_what_it_cost():
    emotions = ["joy", "neutral", "anger", "shame", None]
    rows = [
        {
            "utterance_id": f"u{n}",
            "corpus": "c",
            "split": "train",
            "dialogue": "d",
            "turn": n,
            "text": "a",
            "emotion": one,
        }
        for n, one in enumerate(emotions)
    ]
    corpus = Corpus("c", make_table(rows), Path(), Card("c"))
    mapped = map_labels(corpus, {"ekman": LabelMapping(column="emotion", space="meld", to="ekman")})
    assert mapped.utterances["ekman"].where(mapped.utterances["ekman"].notna(), None).tolist() == [
        "joy", None, "anger", None, None,
    ]  # fmt: skip
    assert mapped.utterances["emotion"].tolist()[:4] == emotions[:4]
    (finding,) = mapped.findings
    assert "2 have one, 2 lose theirs, 1 of these because they are none of meld (neutral: no label)" in finding.message
    task = Task(name="ekman", kind="classification", column="ekman", classes=SPACES["ekman"].classes)
    assert task.targets(mapped.utterances).tolist() == [3, -1, 0, -1, -1]
    for name, column, told in (("text", "emotion", "choose another"), ("x", "emotoin", "Did you mean 'emotion'")):
        with pytest.raises(InputError, match=told):
            map_labels(corpus, {name: LabelMapping(column=column, space="meld", to="ekman")})


def test_a_column_mapped_onto_its_own_name_leaves_the_old_one_beside_it():
    rows = [{"utterance_id": f"u{n}", "corpus": "c", "split": "train", "dialogue": "d", "turn": n, "emotion": one}
            for n, one in enumerate(["calm", "happiness"])]  # fmt: skip
    corpus = Corpus("c", make_table(rows), Path(), Card("c"))
    asked = LabelMapping(column="emotion", space="ravdess", to="meld")
    side = LabelMapping(column="emotion", space="ravdess", to="ekman")
    table = map_labels(corpus, {"emotion": asked, "ekman": side}).utterances
    assert table["emotion"].tolist() == ["neutral", "joy"]
    assert table["emotion_ravdess"].tolist() == ["calm", "happiness"]
    assert table["ekman"].iloc[1] == "joy", "the second map read what the first had made"
    with pytest.raises(InputError, match="has a column 'emotion_ravdess'"):
        map_labels(Corpus("c", table, Path(), Card("c")), {"emotion": asked})
