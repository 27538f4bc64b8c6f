"""The load generator itself: arrivals that wait for nobody, and outcomes that see what is wrong."""

from __future__ import annotations

import asyncio
import json
import math

import httpx
import numpy as np
import pytest

from tests.load import traffic
from tests.load.traffic import Outcome, Request, arrivals, difference, open_loop, summary


def test_arrivals_come_at_the_rate_at_independent_moments():
    moments = np.array(arrivals(50.0, 40.0, np.random.default_rng(1)))
    assert len(moments) == pytest.approx(2000, rel=0.1)
    assert np.all(np.diff(moments) > 0)
    gaps = np.diff(moments)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.15)  # exponential, not a clock


def test_a_slow_server_does_not_slow_the_arrivals(monkeypatch):
    """Every request waits for the one server in turn: what a person waits is seen, not what the server takes."""
    turn = asyncio.Lock()

    async def answer(request: httpx.Request) -> httpx.Response:
        async with turn:
            await asyncio.sleep(0.02)
        return httpx.Response(200, json={"predictions": [{"sentiment": 1.0}]})

    monkeypatch.setattr(traffic, "_client", lambda: httpx.AsyncClient(transport=httpx.MockTransport(answer)))
    request = Request("words", b"{}", [{"sentiment": 1.0}])
    outcomes = asyncio.run(open_loop("http://server/", [request], 100.0, 0.5))
    assert len(outcomes) == len(arrivals(100.0, 0.5, np.random.default_rng(1)))
    assert max(each.seconds for each in outcomes) > 0.2
    assert all(each.same for each in outcomes)


def test_what_differs_is_seen():
    assert difference([{"a": 1.0, "b": "x"}], [{"a": 1.5, "b": "x"}]) == 0.5
    assert difference([{"a": 1.0}], [{"a": None}]) == math.inf
    assert difference([{"a": 1.0}], [{"b": 1.0}]) == math.inf
    assert difference(json.loads("[[1, 2]]"), [[1.0, 2.25]]) == 0.25


def test_refused_late_and_failed_are_not_answered():
    answered = [Outcome("words", 1.0, 200, True), Outcome("words", 9.0, 200, False, 0.5)]
    others = [Outcome("words", seconds, status) for seconds, status in ((0.1, 429), (5.0, 504), (0.0, 0))]
    found = summary([*answered, *others], deadline=8.0)
    counts = {key: found[key] for key in ("requests", "answered", "refused", "late", "failed", "byte_equal", "wrong")}
    assert list(counts.values()) == [5, 2, 1, 1, 1, 1, 1]
    assert found["p50"] == 5.0
    assert not found["in_time"]
