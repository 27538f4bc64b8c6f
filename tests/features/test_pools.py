"""Local processes and a Dask cluster: dead workers, poisoned clips, the same bytes everywhere."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from demeanor.data.errors import InputError
from demeanor.features.base import Clip
from demeanor.features.engine import StreamRequest, extract_streams
from tests.features.media_samples import PoisonedClip, voice

REQUEST = {"audio.functionals": StreamRequest(extractor="opensmile_functionals")}
#: For what is about the workers alone: an extractor that takes no time to import.
LIGHT = {"audio.waveform": StreamRequest(extractor="waveform")}


def clips(count: int, poisoned: int | None = None, seconds: float = 0.4) -> list[Clip]:
    made: list[Clip] = []
    for n in range(count):
        kind = PoisonedClip if n == poisoned else Clip
        sound = (voice(seconds, pitch=100 + n) * 32767).astype(np.int16)
        made.append(kind(f"u{n}", recorded=sound))
    return made


def run(given: list[Clip], folder: Path, request: dict[str, StreamRequest] = REQUEST, **more):
    streams, aside = extract_streams(given, request, folder / "cache", folder / "out", progress=False, **more)
    (stream,) = streams.values()
    return stream, aside


@pytest.mark.parametrize("more", [{"workers": 2}, {"workers": 2, "cluster": "local"}], ids=["processes", "dask"])
def test_a_clip_that_kills_its_workers_is_set_aside_alone(tmp_path: Path, more: dict):
    if "cluster" in more:
        pytest.importorskip("distributed")
    stream, aside = run(clips(40, poisoned=7), tmp_path / "a", LIGHT, **more)
    assert list(aside["utterance_id"]) == ["u7"]
    assert "died 3 times" in aside["reason"][0]
    assert ((stream.ragged.lengths > 0) == (np.arange(40) != 7)).all()
    healthy, none = run([clip for clip in clips(40) if clip.utterance_id != "u7"], tmp_path / "b", LIGHT, workers=1)
    assert none.empty
    for clip in healthy.ragged.ids:
        np.testing.assert_array_equal(stream.ragged[clip], healthy.ragged[clip])


def test_a_worker_killed_on_the_cluster_loses_nothing(tmp_path: Path):
    distributed = pytest.importorskip("distributed")
    given = clips(96, seconds=1.5)
    local, _ = run(given, tmp_path / "local", workers=1)
    killed: list[int] = []
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit=0
    )

    def kill_one() -> None:
        cache = tmp_path / "dask" / "cache"
        deadline = time.monotonic() + 60
        while not list(cache.glob("*/*.safetensors")) and time.monotonic() < deadline:
            time.sleep(0.01)
        victim = next(iter(cluster.workers.values())).pid
        os.kill(victim, signal.SIGKILL)
        killed.append(victim)

    with cluster:
        killer = threading.Thread(target=kill_one)
        killer.start()
        remote, aside = run(given, tmp_path / "dask", cluster=cluster.scheduler_address)
        killer.join()
    assert killed
    assert aside.empty
    paths = [tmp_path / name / "out" / "audio.functionals.safetensors" for name in ("local", "dask")]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert local.content_sha256 == remote.content_sha256


def test_no_scheduler_at_that_address(tmp_path: Path):
    pytest.importorskip("distributed")
    from demeanor.features.cluster import DaskPool

    with pytest.raises(InputError, match="no Dask scheduler"):
        DaskPool("nonsense://127.0.0.1:1")._connected()
