"""The pool of experts by numbers worked out by hand, and what it says where some or all of them are silent."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from demeanor.data.batch import Batch, Padded
from demeanor.data.bundle import InputSpecification
from demeanor.data.task import Task
from demeanor.models.base import Output, System
from demeanor.models.log_pool import LogPool, LogPoolSettings, MemberSettings
from tests.models.examples import PROVENANCE

TWO = Task(name="emotion", kind="classification", column="emotion", classes=("joy", "anger"))
LABELS = Task(name="emotions", kind="multilabel", column="emotions", classes=("joy", "anger"))
NUMBER = Task(name="sentiment", kind="regression", column="sentiment")
MELD = Task(
    name="emotion", kind="classification", column="emotion",
    classes=("neutral", "joy", "sadness", "anger", "surprise", "fear", "disgust"),
)  # fmt: skip


class Said(System):
    """In the place of a member's network: it says what it was given, and nonsense of a row that lacks its stream."""

    def __init__(self, system: Any, values: list[list[float]]):
        nn.Module.__init__(self)
        self.card, self.inputs, self.values = system.card, system.inputs, torch.tensor(values)

    def forward(self, batch: Batch) -> Output:
        (only,) = batch.inputs.values()
        return Output(torch.where(only.present[:, None], self.values, torch.full_like(self.values, float("nan"))))


def pool(task: Task, words: list[list[float]], voice: list[list[float]], own: Any = None, **settings: Any) -> LogPool:
    """A pool of two experts that say these values, a row each; `own` by member, beside system and roles."""
    small = {"hidden": 8, "dropout": 0.1}
    members = {
        name: MemberSettings(system=system, settings=small, roles=(role,), **(own or {}).get(name, {}))
        for name, system, role in (("words", "text_only", "text"), ("voice", "audio_only", "audio"))
    }
    inputs = {
        f"{name}.{role}": InputSpecification(stream=f"{role}.frames", dimension=3, provenance=PROVENANCE)
        for name, role in (("words", "text"), ("voice", "audio"))
    }
    made = LogPool(LogPoolSettings(members=members, **settings), inputs, task).eval()
    for name, values in (("words", words), ("voice", voice)):
        made.members[name] = Said(made.members[name], values)
    return made


def batch(text: list[bool], audio: list[bool]) -> Batch:
    def rows(there: list[bool]) -> Padded:
        return Padded(torch.zeros(len(there), 2, 3), torch.tensor(there)[:, None].expand(-1, 2))

    count = len(text)
    return Batch(
        inputs={"words.text": rows(text), "voice.audio": rows(audio)}, ids=tuple(map(str, range(count))),
        rows=torch.arange(count), dialogue=torch.arange(count), turn=torch.zeros(count, dtype=torch.long),
        speaker=torch.full((count,), -1),
    )  # fmt: skip


def chances(system: LogPool, given: Batch) -> torch.Tensor:
    with torch.inference_mode():
        return system(given).prediction.softmax(dim=1)


def logs(*values: float) -> list[float]:
    return [math.log(value) for value in values]


EVERYWHERE = batch([True, True, False, False], [True, False, True, False])


def test_equal_weights_are_the_geometric_mean_of_whoever_speaks_and_nobody_is_the_prior():
    system = pool(TWO, [logs(0.8, 0.2)] * 4, [logs(0.5, 0.5)] * 4, prior=(0.3, 0.7))
    # sqrt(.8 * .5) : sqrt(.2 * .5) is 2 : 1
    expected = torch.tensor([[2 / 3, 1 / 3], [0.8, 0.2], [0.5, 0.5], [0.3, 0.7]])
    torch.testing.assert_close(chances(system, EVERYWHERE), expected, atol=1e-5, rtol=0)


def test_two_that_say_the_same_are_no_surer_together():
    system = pool(TWO, [logs(0.9, 0.1)], [logs(0.9, 0.1)])
    torch.testing.assert_close(chances(system, batch([True], [True])), torch.tensor([[0.9, 0.1]]), atol=1e-5, rtol=0)
    system = pool(TWO, [logs(0.9, 0.1)], [logs(0.9, 0.1)], divided=True)
    torch.testing.assert_close(
        chances(system, batch([True], [True])), torch.tensor([[81 / 82, 1 / 82]]), atol=1e-5, rtol=0
    )


def test_a_temperature_is_that_of_what_the_row_has():
    own = {"words": {"temperatures": {"": 4.0, "text": 2.0}}, "voice": {"temperatures": {"": 1.0}}}
    system = pool(TWO, [logs(0.9, 0.1)], [logs(0.5, 0.5)], own)
    # logits halved: 9 : 1 becomes 3 : 1
    torch.testing.assert_close(chances(system, batch([True], [False])), torch.tensor([[0.75, 0.25]]), atol=1e-5, rtol=0)


def test_learnt_weights_count_where_just_these_members_speak():
    weights = {"voice+words": {"words": 1.0, "voice": 0.5}}
    system = pool(TWO, [logs(0.8, 0.2)] * 4, [logs(0.2, 0.8)] * 4, weights=weights)
    both = 0.8 * 0.2**0.5 / (0.8 * 0.2**0.5 + 0.2 * 0.8**0.5)
    found = chances(system, EVERYWHERE)[:, 0]
    torch.testing.assert_close(found, torch.tensor([both, 0.8, 0.2, 0.5]), atol=1e-5, rtol=0)


def test_priors_taken_out_are_counted_once():
    """Both say no more than their priors: together it is the mean of these. A voice that doubles the odds doubles
    them."""
    own = {"words": {"prior": (0.9, 0.1)}, "voice": {"prior": (0.5, 0.5)}}
    said = ([logs(0.9, 0.1)] * 4, [logs(0.5, 0.5)] * 4)
    system = pool(TWO, *said, own, divided=True, prior=(0.6, 0.4))
    expected = torch.tensor([3 / 4, 0.9, 0.5, 0.6])  # sqrt(9 * 1) : 1
    torch.testing.assert_close(chances(system, EVERYWHERE)[:, 0], expected, atol=1e-5, rtol=0)
    system = pool(TWO, said[0], [logs(2 / 3, 1 / 3)] * 4, own, divided=True)
    torch.testing.assert_close(chances(system, EVERYWHERE)[0, 0], torch.tensor(6 / 7), atol=1e-5, rtol=0)
    learnt = {"voice+words": {"words": 1.0, "voice": 2.0}}
    system = pool(TWO, said[0], [logs(2 / 3, 1 / 3)] * 4, own, divided=True, weights=learnt)
    expected = torch.tensor([12 / 13, 0.9, 2 / 3, 0.5])
    torch.testing.assert_close(chances(system, EVERYWHERE)[:, 0], expected, atol=1e-5, rtol=0)


def test_priors_that_are_kept_are_counted_by_the_weights():
    both = {"voice+words": {"words": 1.0, "voice": 1.0}}
    kept = pool(TWO, [logs(0.9, 0.1)], [logs(0.9, 0.1)], weights=both)
    found = chances(kept, batch([True], [True]))[:, 0]
    torch.testing.assert_close(found, torch.tensor([0.81 / 0.82]), atol=1e-5, rtol=0)


def test_any_of_several_labels_are_pooled_by_their_log_odds():
    system = pool(LABELS, [[2.0, -1.0]] * 4, [[0.0, 3.0]] * 4, prior=(0.5, 0.2))
    with torch.inference_mode():
        found = system(EVERYWHERE).prediction
    expected = torch.tensor([[1.0, 1.0], [2.0, -1.0], [0.0, 3.0], [0.0, math.log(0.25)]])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_numbers_weigh_by_their_intervals():
    own = {"words": {"widths": {"": 1.0}}, "voice": {"widths": {"": 9.0, "audio": 2.0}}}
    system = pool(NUMBER, [[2.0]] * 4, [[-3.0]] * 4, own, middle=0.25)
    with torch.inference_mode():
        found = system(EVERYWHERE).prediction[:, 0]
    # (2 / 1 - 3 / 4) / (1 / 1 + 1 / 4) is 1
    torch.testing.assert_close(found, torch.tensor([1.0, 2.0, -3.0, 0.25]), atol=1e-5, rtol=0)


def test_a_member_of_other_classes_speaks_by_the_map():
    classes = ("neutral", "calm", "happiness", "sadness", "anger", "fear", "disgust", "surprise")
    becomes = {name: {"calm": "neutral", "happiness": "joy"}.get(name, name) for name in classes}
    own = {"voice": {"classes": classes, "becomes": becomes}}
    said = logs(0.1, 0.2, 0.3, 0.1, 0.1, 0.1, 0.05, 0.05)
    system = pool(MELD, [[0.0] * 7], [said], own)
    expected = torch.tensor([[0.3, 0.3, 0.1, 0.1, 0.05, 0.1, 0.05]])
    torch.testing.assert_close(chances(system, batch([False], [True])), expected, atol=1e-5, rtol=0)


def test_of_a_class_that_none_of_its_own_becomes_a_member_says_nothing():
    prior = (0.4, 0.2, 0.1, 0.1, 0.1, 0.05, 0.05)
    classes = ("anger", "happiness", "sadness", "neutral")
    becomes = {"anger": "anger", "happiness": "joy", "sadness": "sadness", "neutral": "neutral"}
    own = {"voice": {"classes": classes, "becomes": becomes}}
    system = pool(MELD, [[0.0] * 7], [logs(0.7, 0.1, 0.1, 0.1)], own, prior=prior)
    found = chances(system, batch([False], [True]))[0]
    torch.testing.assert_close(found[4:], torch.tensor([0.1, 0.05, 0.05]), atol=1e-5, rtol=0)
    torch.testing.assert_close(found[:4], torch.tensor([0.1, 0.1, 0.1, 0.7]) * 0.8, atol=1e-5, rtol=0)


def test_no_expert_is_so_sure_that_it_silences_the_others():
    system = pool(TWO, [[0.0, -1000.0]], [logs(1e-4, 1 - 1e-4)])
    found = chances(system, batch([True], [True]))
    assert torch.isfinite(found).all()
    # 1 : 1e-6 against 1e-4 : 1, each to the half: sqrt(1e-4) : sqrt(1e-6) is 10 : 1
    torch.testing.assert_close(found[0, 1], torch.tensor(1 / 11), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"weights": {"words": {"voice": 1.0}}}, "weights of words"),
        ({"weights": {"other+words": {"words": 1.0, "other": 1.0}}}, "weights of other"),
    ],
)
def test_weights_of_others_than_its_members_are_refused(wrong: dict[str, Any], said: str):
    with pytest.raises(ValueError, match=said):
        pool(TWO, [[0.0, 0.0]], [[0.0, 0.0]], **wrong)


def test_a_temperature_of_zero_is_refused():
    with pytest.raises(ValueError, match="above zero"):
        pool(TWO, [[0.0, 0.0]], [[0.0, 0.0]], {"words": {"temperatures": {"": 0.0}}})
