"""A turn with those before it: who says them, what is cut, what is pooled."""

from __future__ import annotations

import pytest
import torch

from demeanor.data.raw_rows import conversations, read_rows, utterances_of
from demeanor.features import find_extractor
from demeanor.features.base import Clip
from demeanor.features.tokens import Tokens
from demeanor.models.mmml.words import first_turn

SAID = ("where is it", None, "over there", "oh no")
WHO = ("Ann", "Bob", "Bob", "Ann")


def clip(turn: int, speakers: tuple[str | None, ...] = WHO) -> Clip:
    return Clip(f"u{turn}", text=SAID[turn], dialogue=SAID, turn=turn, speakers=speakers)


def read(found, tokens: Tokens) -> str:
    pieces = {number: piece for piece, number in tokens.tokenizer.get_vocab().items()}
    return " ".join(pieces[number] for number in found[:, 0])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"before": 3}, "[CLS] me : oh no [SEP] you : over there [SEP] me : where is it [SEP]"),
        ({"before": 2, "speakers": "names"}, "[CLS] ann : oh no [SEP] bob : over there [SEP]"),
        ({"before": 0, "speakers": "none"}, "[CLS] oh no [SEP]"),
        ({"before": 3, "speakers": "none", "max_length": 6}, "[CLS] oh no [SEP] over [SEP]"),
    ],
)
def test_the_own_turn_stands_first_and_the_past_is_cut(settings, expected):
    extractor = find_extractor("hf_turn_tokens", settings)
    assert read(extractor.extract_clip(clip(3)), extractor) == expected


def test_what_is_unknown_is_not_invented():
    extractor = find_extractor("hf_turn_tokens")
    assert read(extractor.extract_clip(clip(3, ())), extractor) == "[CLS] oh no [SEP] over there [SEP]"
    assert read(extractor.extract_clip(clip(3, (None,) * 4)), extractor).startswith("[CLS] me : oh no [SEP] you :")
    assert read(extractor.extract_clip(Clip("alone", text="oh no")), extractor) == "[CLS] oh no [SEP]"
    assert len(extractor.extract_clip(clip(1))) == 0


def test_rows_of_a_conversation_bring_their_speakers():
    rows = [{"text": "hi", "dialogue": "d", "turn": 2, "speaker": "Bob"}, {"text": "yes", "dialogue": "d", "turn": 1}]
    found = conversations(utterances_of(read_rows(rows)))
    assert {(one.transcripts, one.speakers) for one in found.values()} == {(("yes", "hi"), (None, "Bob"))}


def test_another_speaker_is_other_content_for_those_alone_who_ask():
    one, other = clip(3), clip(3, ("Ann", "Cleo", "Cleo", "Ann"))
    assert one.content(frozenset({"dialogue", "speakers"})) != other.content(frozenset({"dialogue", "speakers"}))
    assert one.content(frozenset({"dialogue"})) == other.content(frozenset({"dialogue"}))
    assert one.only(frozenset({"dialogue"})).speakers == ()


def test_a_turn_ends_at_its_first_separator():
    ids = torch.tensor([[7, 1, 2, 9, 3, 9, 0], [7, 1, 9, 0, 0, 0, 0]])
    mask = torch.tensor([[True] * 6 + [False], [True] * 3 + [False] * 4])
    assert first_turn(ids, mask).tolist() == [[True] * 4 + [False] * 3, [True] * 3 + [False] * 4]
