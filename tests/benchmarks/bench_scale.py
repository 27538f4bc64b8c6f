"""Many clips from tar files to a scored branch, killed on the way: what it costs, and what grows with them.

    python tests/benchmarks/bench_scale.py [--clips 100000] [--part 10000] [--workers 2]

Makes clips of half a second at 8 kHz with words and a label each, in tar files of 1,000, and takes them through the
nodes of ingestion, an extractor of sound and one of text, a training and its score; every step in a process of its own,
first for a part of the clips, then for all. On the way the extraction of all clips is killed (`kill -9`) half-way and
started again, and on a Dask cluster of the same cores a worker is killed; both must end with the bytes of a run that
was left alone. Writes docs/benchmarks/scale.md.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import resource
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import wave
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import psutil

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT))
import demeanor  # noqa: E402, F401  # before pandas, as `kedro` has it: it says by what Arrow allocates
from tests.benchmarks import scale_page  # noqa: E402
from tests.benchmarks.bench_many_clips import WORDS, Watch  # noqa: E402

RESULTS = PROJECT / "docs" / "benchmarks"
PER_TAR, RATE, SECONDS = 1_000, 8_000, 0.5
#: Cheap columns: 20 mel bands, their statistics over the clip.
SOUND = {"log_mel": 20, "mfcc": 0, "chroma": False, "spectral": False, "pitch": False}
FUNCTIONALS, TOKENS = "audio.functionals", "text.tokens"


def make_corpus(folder: Path, clips: int) -> None:
    """Tar files with `clips` utterances: a sound, its words, and JSON with dialogue, speaker, split and label."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    moments = np.arange(round(RATE * SECONDS)) / RATE
    for first in range(0, clips, PER_TAR):
        with tarfile.open(folder / f"clips-{first // PER_TAR:06d}.tar", "w") as archive:
            for n in range(first, min(first + PER_TAR, clips)):
                label = float(generator.uniform(-3, 3))
                tone = np.sin(2 * np.pi * (250 + 50 * label) * moments) * 8000 * generator.uniform(0.3, 1)
                sound = io.BytesIO()
                with wave.open(sound, "wb") as recording:
                    recording.setparams((1, 2, RATE, 0, "NONE", ""))
                    recording.writeframes((tone + generator.normal(0, 300, len(tone))).astype("<i2").tobytes())
                split = {8: "valid", 9: "test"}.get(n // 3 % 10, "train")
                told = {"sentiment": round(label, 1), "split": split, "dialogue": f"d{n // 3}", "speaker": f"s{n % 97}"}
                said = " ".join(generator.choice(WORDS, 5)) + f" {n}"
                parts = {"wav": sound.getvalue(), "txt": said.encode(), "json": json.dumps(told).encode()}
                for suffix, content in parts.items():
                    entry = tarfile.TarInfo(f"u{n:07d}.{suffix}")
                    entry.size = len(content)
                    archive.addfile(entry, io.BytesIO(content))


def ingest(base: Path, clips: int, workers: int, timed: Callable[..., Any]) -> float:
    """Table and sound; the bytes that a row of the table takes in memory."""
    from demeanor.corpora.base import CorpusSettings
    from demeanor.corpora.doctor import DoctorSettings
    from demeanor.pipelines.ingestion import nodes

    pattern = base / "corpus" / f"clips-{{000000..{(clips - 1) // PER_TAR:06d}}}.tar"
    settings = CorpusSettings(reader="shards", options={"path": str(pattern)})
    work = base / f"{clips}"
    corpus = timed("read the tar files", nodes.read_corpus, settings, str(work / "streams"))
    probes = timed("look at every recording", nodes.probe_media, corpus)
    doctor = DoctorSettings()
    report, _, _ = timed("examine", nodes.examine_corpus, corpus, probes, doctor)
    table = nodes.keep_usable(corpus, report, doctor)
    places = (str(work / "streams"), str(work / "cache"), str(workers))
    streams, _ = timed("audio.waveform", nodes.decode_audio_tracks, corpus, table, {}, *places)
    assert len(table) == clips == int((streams["audio.waveform"].ragged.lengths > 0).sum())
    table.to_parquet(work / "utterances.parquet", index=False)
    return float(table.memory_usage(deep=True).sum()) / len(table)


def extract(base: Path, clips: int, workers: int, timed: Callable[..., Any], cluster: str | None, place: str) -> None:
    """Streams of sound and of text, into a cache of their own (`place`)."""
    from demeanor.data.stream import load_streams
    from demeanor.data.table_on_disk import read_parquet
    from demeanor.features.clips import clips_of
    from demeanor.features.engine import StreamRequest, extract_streams

    work = base / f"{clips}"
    table = read_parquet(work / "utterances.parquet")
    given = timed("clips of the table", clips_of, table, "/", load_streams(work / "streams"))
    sound = {FUNCTIONALS: StreamRequest(extractor="librosa_functionals", parameters=SOUND)}
    text = {TOKENS: StreamRequest(extractor="hf_tokens")}
    folders = (base / place / "cache", base / place / "features")
    for name, wanted in ((FUNCTIONALS, sound), (TOKENS, text)):
        timed(name, lambda wanted=wanted: extract_streams(given, wanted, *folders, workers, False, cluster))


def train(base: Path, clips: int, timed: Callable[..., Any], place: str) -> float:
    """The cut, two epochs of one branch, and the mean absolute error on the sealed test."""
    from demeanor.data.stream import load_streams
    from demeanor.data.table_on_disk import read_parquet
    from demeanor.data.task import Task
    from demeanor.evaluation.metrics import score
    from demeanor.inference.model import TrainedModel
    from demeanor.pipelines.feature_engineering.nodes import cut
    from demeanor.training.fit import fit
    from demeanor.training.settings import BranchSettings

    table = read_parquet(base / f"{clips}" / "utterances.parquet")
    task = Task(name="sentiment", kind="regression", column="sentiment", low=-3.0, high=3.0)
    development, test = timed("cut", cut, table, load_streams(base / place / "features"), {}, {}, {})
    timed("data hash", lambda: development.data_hash)
    timed("save both parts", lambda: [part.save(base / place / str(len(part))) for part in (development, test)])
    training = {"seeds": (1,), "epochs": 2, "patience": 2, "batch_size": 64, "learning_rate": 1e-3}
    branch = BranchSettings(system="audio_only", streams={"audio": FUNCTIONALS}, training=training)
    trained = timed("train two epochs", lambda: fit("audio", branch, task, development, 1, score, progress=False))
    model = TrainedModel(trained.bundle)
    answers = timed("answer for the test split", model.predict, test)
    return score(task, answers, task.targets(test.utterances))["MAE"]


def step(options: argparse.Namespace) -> dict[str, Any]:
    """One step in this process: seconds by name, peak memory of it and of its largest worker in MiB, open files."""
    seconds: dict[str, float] = {}
    processor: dict[str, float] = {}

    def spent() -> float:
        return time.process_time() + of_the_children()[0]

    def timed(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        start, used = time.perf_counter(), spent()
        value = function(*arguments)
        seconds[name], processor[name] = round(time.perf_counter() - start, 2), round(spent() - used, 3)
        return value

    base, error, row = options.base, None, None
    with Watch() as watch:
        if options.step == "ingest":
            row = ingest(base, options.clips, options.workers, timed)
        elif options.step == "extract":
            extract(base, options.clips, options.workers, timed, options.cluster, options.place)
        else:
            error = train(base, options.clips, timed, options.place)
    return {
        "seconds": seconds, "cpu": processor, "cpu_seconds": round(spent(), 1), "files": watch.files, "MAE": error,
        "row bytes": row, "MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        "worker MiB": of_the_children()[1],
    }  # fmt: skip


def of_the_children() -> tuple[float, int]:
    """CPU seconds of the processes that this one has started, and peak MiB of the largest that is still there."""
    ended, largest = resource.getrusage(resource.RUSAGE_CHILDREN), 0
    seconds = ended.ru_utime + ended.ru_stime
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError, IndexError):  # it has just ended
            used = child.cpu_times()
            seconds += used.user + used.system
            status = Path(f"/proc/{child.pid}/status").read_text(encoding="utf-8")
            largest = max(largest, int(status.partition("VmHWM:")[2].split()[0]) >> 10)
    return seconds, largest


class Steps:
    """Starts steps as processes below one folder."""

    def __init__(self, base: Path, workers: int):
        self.base, self.workers = base, workers

    def start(self, name: str, clips: int, *more: str) -> subprocess.Popen[str]:
        command = [sys.executable, __file__, "--step", name, "--base", str(self.base), "--clips", str(clips)]
        surroundings = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT)}
        return subprocess.Popen(
            [*command, "--workers", str(self.workers), *more], env=surroundings, stdout=subprocess.PIPE, text=True
        )

    def __call__(self, name: str, clips: int, *more: str) -> dict[str, Any]:
        began = time.perf_counter()
        process = self.start(name, clips, *more)
        said, _ = process.communicate()
        if process.returncode:
            raise SystemExit(f"{name} of {clips} clips ended with {process.returncode}")
        result = {**json.loads(said.splitlines()[-1]), "wall": round(time.perf_counter() - began, 1)}
        print(name, clips, *more, result, flush=True)
        return result

    def made(self, place: str) -> int:
        """Clips that the shards of sound hold."""
        total = 0
        for index in (self.base / place / "cache").glob("librosa_functionals-*/index.jsonl"):
            for line in index.read_text(encoding="ascii").splitlines():
                names, _, complete = line.partition('"ids": [')[2].partition("]")
                total += names.count(",") + 1 if complete else 0
        return total

    def shards(self, place: str) -> int:
        """Files of sound in the cache."""
        return len(list((self.base / place / "cache").glob("librosa_functionals-*/*.safetensors")))

    def killed(self, clips: int, place: str) -> dict[str, Any]:
        """Extraction that is killed when half of the clips are there, and started again."""
        process = self.start("extract", clips, "--place", place)
        while self.made(place) < clips // 2 and process.poll() is None:
            time.sleep(1)
        process.send_signal(signal.SIGKILL)
        process.wait()
        kept, began, waited = self.made(place), time.perf_counter(), []
        # Not by the index: a run that starts first notes there what the killed one had written but not noted.
        files = self.shards(place)

        def look() -> None:
            while self.shards(place) <= files:
                time.sleep(0.2)
            waited.append(round(time.perf_counter() - began, 1))

        threading.Thread(target=look, daemon=True).start()
        result = self("extract", clips, "--place", place)
        return {**result, "clips kept": kept, "seconds until it went on": waited[0]}

    def on_a_cluster(self, clips: int, place: str) -> dict[str, Any]:
        """Extraction on a Dask cluster of the same cores, one of whose workers is killed."""
        from distributed import LocalCluster

        def kill_one() -> None:
            while self.made(place) < clips // 3:
                time.sleep(0.2)
            os.kill(next(iter(cluster.workers.values())).pid, signal.SIGKILL)

        with LocalCluster(
            n_workers=self.workers, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit=0
        ) as cluster:
            killer = threading.Thread(target=kill_one)
            killer.start()
            result = self("extract", clips, "--place", place, "--cluster", cluster.scheduler_address)
            killer.join()
        return result


def same(base: Path, one: str, other: str) -> bool:
    """Have both places the same bytes of every stream?"""
    names = sorted(path.name for path in (base / one / "features").glob("*.safetensors"))
    return bool(names) and all(
        (base / one / "features" / name).read_bytes() == (base / other / "features" / name).read_bytes()
        for name in names
    )


def size_of(folder: Path) -> int:
    """MiB of the files below it."""
    return round(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20)


def measured(base: Path, clips: int, part: int, workers: int) -> dict[str, Any]:
    """Every step of `part` clips and of all, and whether the streams of killed runs are those of a plain one."""
    run = Steps(base, workers)
    steps = {"ingest": run("ingest", part), "extract": run("extract", part, "--place", "plain")}
    interrupted = {"part": run.killed(part, "killed"), "worker": run.on_a_cluster(part, "cluster")}
    steps["train"] = run("train", part, "--place", "plain")
    whole = {"ingest": run("ingest", clips), "extract": run("extract", clips, "--place", "all")}
    interrupted["all"] = run.killed(clips, "all_killed")
    for one, other in (("plain", "killed"), ("plain", "cluster"), ("all", "all_killed")):
        assert same(base, one, other), f"{other}: other bytes than the plain run"
    whole["train"] = run("train", clips, "--place", "all")
    disk = {
        "tar files": size_of(base / "corpus"), "audio.waveform": size_of(base / f"{clips}" / "streams"),
        **{f"{place} of both": size_of(base / "all" / place) for place in ("features", "cache")},
    }  # fmt: skip
    files = len(list((base / "all" / "cache").glob("*/*.safetensors")))
    return {"steps": {str(part): steps, str(clips): whole}, "killed": interrupted, "disk": disk, "shards left": files}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clips", type=int, default=100_000)
    parser.add_argument("--part", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--step", choices=("ingest", "extract", "train"), help=argparse.SUPPRESS)
    parser.add_argument("--base", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--place", default="plain", help=argparse.SUPPRESS)
    parser.add_argument("--cluster", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        print(json.dumps(step(options)))
        return
    began, loads = time.perf_counter(), [os.getloadavg()[0]]
    over = threading.Event()

    def watch_the_load() -> None:
        while not over.wait(15):
            loads.append(os.getloadavg()[0])

    watching = threading.Thread(target=watch_the_load, daemon=True)
    watching.start()
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        make_corpus(base / "corpus", options.clips)
        result = measured(base, options.clips, options.part, options.workers)
    over.set()
    result |= {
        "date": date.today().isoformat(), "machine": scale_page.machine(), "nice": os.nice(0),
        "load": [round(value, 1) for value in (min(loads), float(np.median(loads)), max(loads))],
        "clips": options.clips, "part": options.part, "workers": options.workers,
        "minutes": round((time.perf_counter() - began) / 60, 1),
    }  # fmt: skip
    (options.out / "scale.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    (options.out / "scale.md").write_text(scale_page.written(result), encoding="utf-8")


if __name__ == "__main__":
    main()
