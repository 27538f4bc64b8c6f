"""An open-loop generator: arrivals are drawn in advance, and a request's time counts from when it should have left.

A closed loop, in which a client sends its next request when the last one is answered, slows down with the server and
hides what waiting people see.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import psutil


@dataclass(frozen=True)
class Request:
    """One kind of request: how it is sent, what must come back, and its share of the traffic."""

    kind: str
    body: bytes
    expected: Sequence[Mapping[str, Any]]
    share: float = 1.0


@dataclass(frozen=True)
class Outcome:
    """
    seconds     from when it should have left to the last byte
    status      of HTTP; 0 where the connection failed
    same        is the answer that of the offline model, byte for byte? None where there is none
    difference  largest difference of a number in it
    """

    kind: str
    seconds: float
    status: int
    same: bool | None = None
    difference: float = 0.0


def arrivals(rate: float, seconds: float, random: np.random.Generator) -> list[float]:
    """Moments, in seconds from the start, of a Poisson process: independent people."""
    gaps = random.exponential(1.0 / rate, size=max(1, math.ceil(rate * seconds * 2 + 20)))
    moments = np.cumsum(gaps)
    return moments[moments < seconds].tolist()


async def open_loop(
    address: str, requests: Sequence[Request], rate: float, seconds: float, seed: int = 1
) -> list[Outcome]:
    """Send `rate` requests a second to an address for so many seconds; every one of them has an outcome."""
    random = np.random.default_rng(seed)
    moments = arrivals(rate, seconds, random)
    shares = np.array([request.share for request in requests])
    chosen = random.choice(len(requests), size=len(moments), p=shares / shares.sum())
    async with _client() as client:
        begun = time.perf_counter()

        async def one(moment: float, request: Request) -> Outcome:
            await asyncio.sleep(max(0.0, begun + moment - time.perf_counter()))
            return await send(client, address, request, begun + moment)

        return list(
            await asyncio.gather(*(one(at, requests[which]) for at, which in zip(moments, chosen, strict=True)))
        )


async def closed_loop(address: str, requests: Sequence[Request], clients: int, seconds: float) -> list[Outcome]:
    """So many clients, each of which sends the next request when the last one is answered: what the server can do."""
    end = time.perf_counter() + seconds
    shares = [max(1, round(10 * request.share)) for request in requests]
    order = [request for request, count in zip(requests, shares, strict=True) for _ in range(count)]
    async with _client() as client:

        async def one(number: int) -> list[Outcome]:
            found = []
            while time.perf_counter() < end:
                request = order[(number + len(found) * 7) % len(order)]
                found.append(await send(client, address, request, time.perf_counter()))
            return found

        return [each for found in await asyncio.gather(*(one(number) for number in range(clients))) for each in found]


def _client() -> httpx.AsyncClient:
    return httpx.AsyncClient(timeout=120.0, limits=httpx.Limits(max_connections=None, max_keepalive_connections=100))


async def send(client: httpx.AsyncClient, address: str, request: Request, since: float) -> Outcome:
    """Send one request and look at what comes back."""
    try:
        answer = await client.post(address, content=request.body, headers={"content-type": "application/json"})
    except httpx.HTTPError:
        return Outcome(request.kind, time.perf_counter() - since, 0)
    seconds = time.perf_counter() - since
    if answer.status_code != 200:
        return Outcome(request.kind, seconds, answer.status_code)
    given = answer.json()["predictions"]
    same = json.dumps(given) == json.dumps(request.expected)
    return Outcome(request.kind, seconds, 200, same, 0.0 if same else difference(given, request.expected))


def difference(given: Any, expected: Any) -> float:
    """The largest difference between numbers at the same place; infinite where anything else differs."""
    if isinstance(given, dict) and isinstance(expected, Mapping) and set(given) == set(expected):
        return max((difference(given[key], expected[key]) for key in given), default=0.0)
    if isinstance(given, list) and isinstance(expected, list | tuple) and len(given) == len(expected):
        return max((difference(one, other) for one, other in zip(given, expected, strict=True)), default=0.0)
    if isinstance(given, float | int) and isinstance(expected, float | int):
        return abs(given - expected)
    return 0.0 if given == expected else math.inf


class Memory:
    """Bytes of a process and its children, sampled while something runs. Shared pages count once."""

    def __init__(self, process: int):
        self.process, self.samples = psutil.Process(process), list[int]()

    def now(self) -> int:
        family = [self.process, *self.process.children(recursive=True)]
        total = 0
        for one in family:
            try:
                total += one.memory_full_info().pss
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue  # it has ended meanwhile
        return total

    async def watch(self, every: float = 2.0) -> None:
        """Until it is cancelled."""
        while True:
            self.samples.append(await asyncio.to_thread(self.now))
            await asyncio.sleep(every)


def summary(
    outcomes: Sequence[Outcome], deadline: float, percentile: Callable[..., Any] = np.percentile
) -> dict[str, Any]:
    """Of one run: how many, what was refused, seconds of those that were answered, and how right they are."""
    answered = [each for each in outcomes if each.status == 200]
    times = [each.seconds for each in answered]
    wrong = [each for each in answered if each.difference > 1e-4]
    return {
        "requests": len(outcomes),
        "answered": len(answered),
        "refused": sum(each.status == 429 for each in outcomes),
        "late": sum(each.status == 504 for each in outcomes),
        "failed": sum(each.status not in (200, 429, 504) for each in outcomes),
        **{f"p{q}": float(np.percentile(times, q)) if times else None for q in (50, 95, 99)},
        "in_time": bool(times) and float(np.percentile(times, 99)) < deadline,
        "byte_equal": sum(bool(each.same) for each in answered),
        "wrong": len(wrong),
        "largest_difference": max((each.difference for each in answered), default=0.0),
    }
