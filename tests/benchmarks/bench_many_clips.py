"""As many clips as a user has: 18,000 recordings through ingestion and features at the usual limit of open files.

    python tests/benchmarks/bench_many_clips.py [--clips 18000] [--shards 10000] [--files 1024]

Makes that many recordings of .1 s, all different, with a transcript each, and takes them through the nodes of ingestion
(every recording is opened and looked at, then decoded into `audio.waveform`) and of feature engineering (token ids and
word times, which read the sound) under `ulimit -n 1024`; then once more, when everything is there already. Last a
cache of 10,000 shards is opened, as a run that was stopped leaves it, with its index and without. Open files and maps
are counted every twentieth of a second in the process that keeps the cache; writes docs/benchmarks/many_clips.md.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import shutil
import tempfile
import threading
import time
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

PROJECT = Path(__file__).resolve().parents[2]
RESULTS = PROJECT / "docs" / "benchmarks"
WORDS = ("so", "it", "was", "not", "that", "bad", "and", "we", "all", "went", "home", "with", "a", "story")


def make_corpus(folder: Path, clips: int) -> None:
    """`clips` recordings of .1 s and their manifest; three of a dialogue, a tenth of them for validation and test."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    tone = np.sin(2 * np.pi * 200 * np.arange(1600) / 16_000)
    with open(folder / "manifest.csv", "w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["id", "audio", "text", "dialogue", "split", "sentiment"])
        for n in range(clips):
            name = f"c{n:06d}.wav"
            samples = (8000 * tone * generator.uniform(0.2, 1) + generator.normal(0, 300, 1600)).astype("<i2")
            with wave.open(str(folder / name), "wb") as recording:
                recording.setnchannels(1)
                recording.setsampwidth(2)
                recording.setframerate(16_000)
                recording.writeframes(samples.tobytes())
            said = " ".join(generator.choice(WORDS, 5)) + f" {n}"
            split = {8: "valid", 9: "test"}.get(n // 3 % 10, "train")
            writer.writerow([f"u{n:06d}", name, said, f"d{n // 3}", split, f"{generator.uniform(-3, 3):.1f}"])


class Watch:
    """The most files and maps that this process has open at once, looked at twenty times a second."""

    def __init__(self) -> None:
        self.files = self.maps = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._over.wait(0.05):
            self.files = max(self.files, len(os.listdir("/proc/self/fd")))
            self.maps = max(self.maps, Path("/proc/self/maps").read_text(encoding="utf-8").count("\n"))

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._over.set()
        self._thread.join()


def job(corpus: Path, data: Path, timed: Callable[..., Any]) -> dict[str, int]:
    """The nodes of both pipelines in their order; how many utterances each stream has something of."""
    from demeanor.corpora.base import CorpusSettings
    from demeanor.corpora.doctor import DoctorSettings
    from demeanor.pipelines.feature_engineering import nodes as features
    from demeanor.pipelines.ingestion import nodes as ingestion

    settings = CorpusSettings(reader="folder", options={"path": str(corpus)})
    imported, cache = str(data / "imported"), str(data / "cache")
    read = timed("read the corpus", ingestion.read_corpus, settings, imported)
    probes = timed("look at every recording", ingestion.probe_media, read)
    doctor = DoctorSettings()
    report, _, _ = timed("examine", ingestion.examine_corpus, read, probes, doctor)
    table = ingestion.keep_usable(read, report, doctor)
    streams, root = timed(
        "audio.waveform",
        ingestion.decode_audio_tracks,
        read,
        table,
        {},
        str(data / "imported"),
        str(data / "cache"),
        "auto",
    )
    wanted = features.FeatureSettings(
        text={
            "text.tokens": features.StreamRequest(extractor="hf_tokens"),
            "text.word_times": features.StreamRequest(extractor="uniform_word_times"),
        },
    )
    places = (root, wanted, str(data / "features"), cache, {})
    text = timed("text.tokens, text.word_times", features.extract_text, table, streams, *places)
    development, test = timed("cut", features.cut, table, streams, text, {}, {})
    timed("save both parts", lambda: [development.save(data / "development"), test.save(data / "test")])
    made = {**streams, **text}
    return {name: int((stream.ragged.lengths > 0).sum()) for name, stream in made.items()}


def make_shards(folder: Path, count: int) -> None:
    """A cache of `count` shards of 16 clips with 88 numbers each, its index with it."""
    from demeanor.features.cache import ShardCache

    cache = ShardCache(folder, 88, np.dtype(np.float32))
    for n in range(count):
        cache.add({f"{n:05d}{k:059d}": np.full((1, 88), n, np.float32) for k in range(16)})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clips", type=int, default=18_000)
    parser.add_argument("--shards", type=int, default=10_000)
    parser.add_argument("--files", type=int, default=1024)
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (options.files, options.files))
    from demeanor.features.cache import ShardCache

    seconds: dict[str, list[float]] = {}

    def timed(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        start = time.perf_counter()
        result = function(*arguments)
        seconds.setdefault(name, []).append(time.perf_counter() - start)
        return result

    with tempfile.TemporaryDirectory() as folder, Watch() as watch:
        base = Path(folder)
        make_corpus(base / "corpus", options.clips)
        held = job(base / "corpus", base / "data", timed)
        assert all(count == options.clips for count in held.values()), held
        job(base / "corpus", base / "data", timed)
        left = {path.name: len(list(path.glob("*.safetensors"))) for path in sorted((base / "data/cache").iterdir())}
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        make_shards(base / "shards", options.shards)
        arguments = (base / "shards", 88, np.dtype(np.float32))
        cache = timed("open the shards, with index", ShardCache, *arguments)
        assert len(cache) == 16 * options.shards
        (base / "shards" / "index.jsonl").unlink()
        assert len(timed("open the shards, without", ShardCache, *arguments)) == 16 * options.shards
        timed("put the shards together", cache.merge)
        shutil.rmtree(base / "shards")
    result = {
        "clips": options.clips, "shards": options.shards, "limit": options.files, "open files": watch.files,
        "maps": watch.maps, "MiB": round(memory), "cores": len(os.sched_getaffinity(0)),
        "seconds": {name: [round(value, 2) for value in values] for name, values in seconds.items()},
        "files of shards left": left,
    }  # fmt: skip
    (RESULTS / "many_clips.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    (RESULTS / "many_clips.md").write_text(as_markdown(result), encoding="utf-8")
    print(as_markdown(result))


def as_markdown(result: dict[str, Any]) -> str:
    rows = [
        f"| {name} | {values[0]:.1f} | {f'{values[1]:.1f}' if len(values) > 1 else ''} |"
        for name, values in result["seconds"].items()
    ]
    left = ", ".join(f"{name.rsplit('-', 1)[0]} {count}" for name, count in result["files of shards left"].items())
    return "\n".join(
        [
            f"# {result['clips']:,} recordings under `ulimit -n {result['limit']}`",
            "",
            f"Generated by `python tests/benchmarks/bench_many_clips.py --clips {result['clips']} "
            f"--shards {result['shards']} --files {result['limit']}` on {result['cores']} cores of a busy machine.",
            "",
            "Recordings of .1 s, all different, with a transcript each. At most "
            f"**{result['open files']} files** and {result['maps']} maps were open at once; "
            f"peak memory {result['MiB']:,} MiB. Files of shards left when the streams were complete: {left}.",
            "",
            "| step | seconds | again, all of it there |",
            "|---|---|---|",
            *rows,
            "",
            f"The last three rows are of a cache of {result['shards']:,} shards of 16 clips.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
