"""What the evaluation says of joining modalities, where there is nothing to compare."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from demeanor.pipelines.evaluation.nodes import fusion_verdict
from tests.toy import SENTIMENT

WORDS, VOICE = SimpleNamespace(modality="text"), SimpleNamespace(modality="audio")


def trained(*inputs: SimpleNamespace) -> dict[str, Any]:
    card = SimpleNamespace(task=SENTIMENT, inputs={str(n): value for n, value in enumerate(inputs)})
    return {"seed_1": SimpleNamespace(card=card)}


@pytest.mark.parametrize(
    ("champion", "others", "said"),
    [
        (trained(WORDS, WORDS), [trained(WORDS)], "nothing was joined"),
        (trained(WORDS), [trained(WORDS, VOICE)], "did not pay on validation"),
        (trained(WORDS, VOICE), [], "no branch of a single modality"),
    ],
)
def test_a_champion_without_a_rival_of_the_other_kind(champion: Any, others: list[Any], said: str) -> None:
    bundles = {"champion": champion, **{f"branch_{n}": other for n, other in enumerate(others)}}
    assert said in fusion_verdict(SENTIMENT, "champion", bundles, pd.DataFrame())
