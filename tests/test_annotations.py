"""Shapes in signatures are checked: a call that contradicts them fails in every test, as it does here."""

from __future__ import annotations

import pytest
import torch
from jaxtyping import TypeCheckError

from demeanor.data.task import Task
from demeanor.models.blocks.layers import last_step
from demeanor.models.lmf import LowRankFusion


def test_a_shape_that_contradicts_its_annotation_is_an_error() -> None:
    values, mask = torch.zeros(2, 3, 4), torch.ones(2, 3, dtype=torch.bool)
    assert last_step(values, mask).shape == (2, 4)
    with pytest.raises(TypeCheckError):
        last_step(values, torch.ones(2, 5, dtype=torch.bool))
    with pytest.raises(TypeCheckError):
        last_step(values, mask.float())


def test_so_is_another_kind_of_object() -> None:
    with pytest.raises(TypeCheckError):
        LowRankFusion({"text": 4}, rank="4", outputs=1, dropout=0.0)
    assert Task(name="sentiment", kind="regression", column="label").outputs == 1
