"""Local processes and a Dask cluster: dead workers, poisoned clips, the same bytes everywhere."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from demeanor.data.errors import InputError
from demeanor.features import find_extractor
from demeanor.features.base import Clip
from demeanor.features.cluster import GPU
from demeanor.features.engine import StreamRequest, extract_streams
from demeanor.features.tasks import Task, after_death, work_elsewhere
from tests.features.media_samples import PoisonedClip, voice
from tests.project import PROJECT, environment

#: For what is about the workers alone: an extractor that takes no time to import.
LIGHT = {"audio.waveform": StreamRequest(extractor="waveform")}


def clips(count: int, poisoned: int | None = None, seconds: float = 0.4) -> list[Clip]:
    made: list[Clip] = []
    for n in range(count):
        kind = PoisonedClip if n == poisoned else Clip
        sound = (voice(seconds, pitch=100 + n) * 32767).astype(np.int16)
        made.append(kind(f"u{n}", recorded=sound))
    return made


def run(given: list[Clip], folder: Path, request: dict[str, StreamRequest] = LIGHT, **more):
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


def test_what_a_worker_had_finished_and_not_handed_over_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    distributed = pytest.importorskip("distributed")
    original, lost = distributed.Future.result, []

    def result(self, *arguments, **more):
        if not lost:
            lost.append(self.status)
            raise distributed.KilledWorker(self.key, None, 0)
        return original(self, *arguments, **more)

    monkeypatch.setattr(distributed.Future, "result", result)
    with distributed.LocalCluster(
        n_workers=1, processes=False, threads_per_worker=1, dashboard_address=None
    ) as cluster:
        stream, aside = run(clips(6), tmp_path, LIGHT, workers=1, cluster=cluster.scheduler_address)
    assert lost == ["finished"]
    assert aside.empty
    assert (stream.ragged.lengths > 0).all()


def test_a_worker_killed_on_the_cluster_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Nor do the values of an encoder change, whose clips are worked on in groups; those that are worked on one by one
    are killed above."""
    distributed = pytest.importorskip("distributed")
    name = "text.sentence"
    request = {name: StreamRequest(extractor="hf_sentence")}
    given = [Clip(f"t{n}", text=f"Well, this was film number {n}.") for n in range(700)]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as many as a worker has
    try:
        local, _ = run(given, tmp_path / "local", request, workers=1)
    finally:
        torch.set_num_threads(threads)
    # With the encoder, the process that asks works on nothing itself.
    monkeypatch.setattr("demeanor.features.pools.HerePool.run", None)
    killed: list[int] = []
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit=0, resources={GPU: 1}
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
        remote, aside = run(given, tmp_path / "dask", request, cluster=cluster.scheduler_address)
        killer.join()
    assert killed
    assert aside.empty
    paths = [tmp_path / place / "out" / f"{name}.safetensors" for place in ("local", "dask")]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert local.content_sha256 == remote.content_sha256


def test_clips_of_an_encoder_are_tried_again_together_before_one_is_to_blame():
    task = Task("hf_sentence", "{}", (Clip("a", text="a"), Clip("b", text="b")), ("a", "b"), whole=True)
    for attempt in (2, 3):
        outcome, (task,) = after_death(task, BrokenPipeError())
        assert outcome is None
        assert (task.keys, task.attempt, task.alone) == (("a", "b"), attempt, True)
    outcome, alone = after_death(task, BrokenPipeError())
    assert [(single.keys, single.attempt) for single in alone] == [(("a",), 1), (("b",), 1)]


def test_a_worker_with_other_weights_is_refused():
    extractor = find_extractor("hf_sentence")
    other = extractor.provenance().model_copy(update={"weights_sha256": "0" * 64})
    task = Task("hf_sentence", json.dumps(extractor.settings.as_dict()), (Clip("a", text="a"),), ("a",), other)
    with pytest.raises(InputError, match=r"worker on .*hf_sentence(.|\n)*weights_sha256"):
        work_elsewhere(task)


def test_workers_of_a_run_that_was_killed_while_it_held_their_lock_end_as_well(tmp_path: Path):
    script = """
import os, signal
from demeanor.features.pools import ProcessPool
from demeanor.features.tasks import Task
from tests.features.test_pools import clips
pool = ProcessPool(2)
outcomes = pool.run([Task("waveform", "{}", (clip,), (clip.utterance_id,)) for clip in clips(20)])
next(outcomes)
pool._pool._processes_management_lock.acquire()
print(*pool._pool._processes, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=PROJECT, env=environment(PROJECT) | {"PYTHONPATH": f"src:{PROJECT}"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    workers = [psutil.Process(int(number)) for number in done.stdout.split() if psutil.pid_exists(int(number))]
    assert done.returncode == -signal.SIGKILL, done.stderr
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive


@pytest.mark.parametrize("moment", ["starting", "working"])
def test_ctrl_c_is_heard_by_the_run_alone(moment: str):
    """A terminal sends it to the workers too, which are in the middle of their imports, or of openSMILE."""
    script = """
import signal, time
from demeanor.features.pools import ProcessPool
from demeanor.features.tasks import Task
from tests.features.test_pools import clips
tasks = [Task("opensmile_functionals", "{}", (clip,), (clip.utterance_id,)) for clip in clips(400, seconds=4.0)]
pool = ProcessPool(2)
first = pool._executor
def started():
    executor = first()
    pool._executor = first
    print("starting", flush=True)
    return executor
pool._executor = started
def slowly(*_):
    time.sleep(1)  # the workers have time to complain before they are ended
    raise KeyboardInterrupt
signal.signal(signal.SIGINT, slowly)
try:
    for outcome in pool.run(tasks):
        print("working", flush=True)
except KeyboardInterrupt:
    print("stopped", flush=True)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=PROJECT, env=environment(PROJECT) | {"PYTHONPATH": f"src:{PROJECT}"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    while process.stdout.readline().strip() != moment:
        assert process.poll() is None
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)
    told, complaint = process.communicate(timeout=60)
    assert (told.split()[-1], complaint, process.returncode) == ("stopped", "", 0)


def test_no_scheduler_at_that_address(tmp_path: Path):
    pytest.importorskip("distributed")
    from demeanor.features.cluster import DaskPool

    with pytest.raises(InputError, match="no Dask scheduler"):
        DaskPool("nonsense://127.0.0.1:1")._connected()
