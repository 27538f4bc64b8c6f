"""What goes on while requests come: a champion is exchanged, and a signal asks the server to end."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import httpx
import pytest
import uvicorn

from demeanor.data.bundle import Bundle, BundleCard
from demeanor.data.cells import Reach
from demeanor.inference.model import TrainedModel
from demeanor.server import extraction
from demeanor.server.app import create_app
from demeanor.server.command import DrainingServer
from demeanor.server.engine import Engine
from demeanor.server.models import Address
from demeanor.server.orders import Order
from demeanor.server.refusals import Refusal
from tests.server.conftest import on_loop
from tests.server.test_door import post

ROWS = [{"text": "what a lovely day"}]


def test_a_new_champion_takes_its_place_without_a_dropped_request(door, monkeypatch):
    """Requests come without a pause while the alias moves: each is answered, by the version that it says."""
    engine = door.app.state.engine
    former = engine.shelf.all[0]
    before = former.address, former.version
    other = Bundle(former.card, {name: 1.5 * value for name, value in former.bundle.tensors.items()})
    expected = {
        version: float(TrainedModel.load(bundle).score(ROWS)["sentiment"][0])
        for version, bundle in (("1", former.bundle), ("2", other))
    }
    assert expected["1"] != expected["2"]
    current = ["1"]
    monkeypatch.setattr(Address, "current", lambda address: current[0])
    monkeypatch.setattr(Address, "load", lambda address, version: {"1": former.bundle, "2": other}[version])
    former.address, former.version = Address("models:/fusion@champion", "fusion", alias="champion"), "1"
    on_loop(door, engine._announce, former, 1)
    seen: list[str] = []

    def ask() -> None:
        while len(seen) < 400 and seen[-3:] != ["2"] * 3:
            answered = post(door, ROWS)
            assert answered.status_code == 200
            version = answered.json()["model"]["version"]
            assert answered.json()["predictions"][0]["sentiment"] == pytest.approx(expected[version], abs=1e-4)
            seen.append(version)

    try:
        with ThreadPoolExecutor(2) as pool:
            askers = [pool.submit(ask) for _ in range(2)]
            while len(seen) < 2:
                assert not any(asker.done() for asker in askers)
                time.sleep(0.01)
            current[0] = "2"
            for asker in askers:
                asker.result()
    finally:
        former.address, former.version = before
        engine.shelf.put([former])
    assert (seen[0], seen[-1]) == ("1", "2")


def test_a_worker_lets_go_what_no_served_model_needs(monkeypatch):
    """Those of a former champion stay until the next change: requests that began with it are still on their way."""
    made = Mock(spec=extraction.Extraction)
    monkeypatch.setattr(extraction, "Extraction", lambda card, reach: made)
    bench, card = extraction.Workbench(Reach()), BundleCard.model_construct()

    def warm(digest: str, *others: str) -> list[str]:
        bench.extraction(Order(digest, card, None, warm=True, others=frozenset(others)))
        return sorted(bench._extractions)

    assert [warm("one", "two"), warm("two", "one")] == [["one"], ["one", "two"]]
    assert warm("three", "one", "two") == ["one", "three", "two"]
    bench.extraction(Order("two", card, []))  # a request has no say in it
    assert warm("four", "one", "three") == ["four", "one", "three"]


def test_a_signal_ends_the_server_once_the_open_requests_are_answered(settings):
    """SIGTERM, as a container's host sends it: not ready at once, then nobody new, and whoever is inside is served."""

    async def scene() -> None:
        engine = Engine([], settings)  # never started: how requests end does not depend on models
        app = create_app(engine)
        inside, let_go = asyncio.Event(), asyncio.Event()

        @app.get("/slow")
        async def slow() -> dict[str, bool]:
            inside.set()
            await let_go.wait()
            return {"answered": True}

        config = uvicorn.Config(app, port=0, lifespan="off", log_config=None, timeout_graceful_shutdown=30)
        server = DrainingServer(config, engine, notice=0.0)
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        async with httpx.AsyncClient(base_url=address, timeout=30) as client:
            waiting = asyncio.create_task(client.get("/slow"))
            await inside.wait()
            os.kill(os.getpid(), signal.SIGTERM)
            while not engine.draining:
                await asyncio.sleep(0.01)
            with pytest.raises(Refusal, match="about to stop"):
                engine.require_open()
            while any(each.is_serving() for each in server.servers):
                await asyncio.sleep(0.01)
            async with httpx.AsyncClient(base_url=address) as late:
                with pytest.raises(httpx.ConnectError):
                    await late.get("/health/live")
            assert not serving.done()
            let_go.set()
            assert (await waiting).json() == {"answered": True}
        await serving

    asyncio.run(scene())
