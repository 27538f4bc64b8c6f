"""A server in this process: a model that reads words, and one worker process for all tests of a session."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from starlette.testclient import TestClient

from demeanor.data.bundle import Bundle
from demeanor.data.examples import Examples
from demeanor.data.fork_server import start_fork_server
from demeanor.data.ragged import Ragged
from demeanor.data.stream import Stream
from demeanor.data.utterances import make_table
from demeanor.features import find_extractor
from demeanor.server.app import create_app
from demeanor.server.engine import Engine
from demeanor.server.settings import ServerSettings
from demeanor.server.workers import PRELOADED
from demeanor.training.fit import fit
from demeanor.training.settings import BranchSettings, TrainingSettings
from tests.project import DEMO
from tests.toy import SENTIMENT, toy_score

CLIPS = sorted((DEMO / "Raw" / "synthetic_01").glob("*.mp4"))[:6]
STREAMS = {
    "text.sentence": ("hf_sentence", {"model": "minilm"}),
    "audio.functionals": ("opensmile_functionals", {}),
    "vision.frames": ("face_descriptors", {"longest_side": 160}),
}


def trained(seed: int = 1) -> Bundle:
    """A model of words, voice and face that has learnt from noise: what it answers depends on what it is given."""
    generator = np.random.default_rng(seed)
    table = make_table(
        [
            {
                "utterance_id": f"clip_{n}", "corpus": "noise", "split": "valid" if n % 3 == 0 else "train",
                "dialogue": "one", "turn": n, "sentiment": float(n % 2),
            }
            for n in range(6)
        ]
    )  # fmt: skip
    streams = {}
    for name, (kind, parameters) in STREAMS.items():
        extractor = find_extractor(kind, parameters)
        values = {
            identity: generator.normal(size=(3, extractor.dimension)).astype(np.float32)
            for identity in table["utterance_id"]
        }
        ragged = Ragged.from_sequences(values)
        streams[name] = Stream(name, ragged, extractor.provenance())
    settings = BranchSettings(
        system="late_fusion",
        streams={name.partition(".")[0]: name for name in STREAMS},
        training=TrainingSettings(epochs=1, batch_size=4, threads=1, modality_dropout=0.2),
        recogniser="none",  # Whisper would cost every worker seconds, and has tests of its own
    )
    return fit("fusion", settings, SENTIMENT, Examples.of(table, streams), seed, toy_score, progress=False).bundle


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    start_fork_server(PRELOADED)  # beside the training
    folder = tmp_path_factory.mktemp("served")
    trained().save(folder / "bundle")
    return folder / "bundle"


@pytest.fixture(scope="session")
def settings() -> ServerSettings:
    return ServerSettings(
        workers=1, queue=3, deadline=60.0, extraction_seconds=5.0, predict_bytes=2_000_000, timeline_bytes=4_000_000,
        recording_seconds=20.0, request_rows=20, poll=0.2, notice=0.0,
    )  # fmt: skip


@pytest.fixture(scope="session")
def door(bundle_folder: Path, settings: ServerSettings) -> Iterator[TestClient]:
    """A client of a server that is ready; its engine is `door.app.state.engine`."""
    engine = Engine([str(bundle_folder)], settings)
    app = create_app(engine)
    app.state.engine = engine
    with TestClient(app, raise_server_exceptions=False) as client:
        wait_until_ready(client, engine)
        yield client


@contextmanager
def as_served() -> Iterator[None]:
    """With as many threads as a worker process has, and the thread of the model: the last bits of sums depend on that,
    and each thread of a process has a number of its own."""
    threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])


def wait_until_ready(client: TestClient, engine: Engine) -> None:
    for _ in range(1200):
        if engine.failure is not None:
            raise engine.failure
        if client.get("/health/ready").status_code == 200:
            return
        threading.Event().wait(0.1)
    raise AssertionError("the server was not ready within two minutes")


def on_loop(client: TestClient, function, *arguments):
    """Run a function of the engine in the loop that serves."""
    assert client.portal is not None

    async def run():
        result = function(*arguments)
        return await result if asyncio.iscoroutine(result) else result

    return client.portal.call(run)
