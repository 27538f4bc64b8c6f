"""Processor seconds of a timeline by part, in the process that plans it and in those that score; and memory of all."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

from demeanor.analyser import BundleScorer
from demeanor.data.bundle import Bundle

#: Part -> processor seconds of this process that no other part has; part -> seconds of wall clock, all included.
SPENT: dict[str, float] = defaultdict(float)
WALL: dict[str, float] = defaultdict(float)
_open: list[str] = []
SOUND, PICTURES, MODEL = "decoding sound", "decoding pictures", "models"


@contextmanager
def part(name: str) -> Iterator[None]:
    """What happens within counts to `name`, and not to the part around it. All threads of the process are counted."""
    spent, wall = time.process_time(), time.monotonic()
    _open.append(name)
    try:
        yield
    finally:
        _open.pop()
        _charge(name, time.process_time() - spent)
        WALL[name] += time.monotonic() - wall


def _charge(name: str, seconds: float) -> None:
    SPENT[name] += seconds
    if _open:
        SPENT[_open[-1]] -= seconds


def timed(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    def call(*arguments: Any, **keywords: Any) -> Any:
        with part(name):
            return function(*arguments, **keywords)

    return call


def timed_items(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Of a generator, in whichever thread it runs: the time that it takes to give its next item."""

    def call(*arguments: Any, **keywords: Any) -> Iterator[Any]:
        items = iter(function(*arguments, **keywords))
        while True:
            begun = time.thread_time()
            item = next(items, call)
            _charge(name, time.thread_time() - begun)
            if item is call:
                return
            yield item

    return call


def watch_planning() -> None:
    """Have what finds voice and words be counted; once, in the process that plans."""
    from demeanor.timeline import hearing, planning, words

    planning.hear = timed(planning.hear, "voice activity")
    words._recognised = timed(words._recognised, "words")
    for module in (hearing, words):
        module.stream_samples = timed_items(module.stream_samples, SOUND)  # type: ignore[attr-defined]


class TimedScorer(BundleScorer):
    """Scores, and keeps beside what it spent on each part, by process, in `folder`."""

    def __init__(self, bundles: Mapping[str, Bundle], folder: Path):
        super().__init__(bundles, explained=True, transcribe=False)
        from demeanor.features import film, media
        from demeanor.features.base import Clip
        from demeanor.inference import predict

        Clip._samples = timed(Clip._samples, SOUND)  # type: ignore[method-assign]
        for module in (film, media):
            module.timed_frames = timed_items(module.timed_frames, PICTURES)  # type: ignore[attr-defined]
        predict.forward_subsets = timed(predict.forward_subsets, MODEL)
        named = {
            type(extractor): stream
            for model in self.models
            for stream, extractor in model.extraction.extractors.items()
        }
        for kind, stream in named.items():
            kind.extract_clip = timed(kind.extract_clip, f"features: {stream}")  # type: ignore[method-assign]
        self.place = folder / f"{os.getpid()}.json"
        self.loaded = time.process_time()

    def score(self, rows: Sequence[Mapping[str, Any]]) -> Sequence[pd.DataFrame]:
        with part("scoring, what remains"):
            tables = super().score(rows)
        self.place.write_text(json.dumps({**SPENT, "loading": self.loaded}), "utf-8")
        return tables


def spent_by_all(folder: Path, own: Mapping[str, float]) -> dict[str, float]:
    """Of this process and of those that scored; loading is that of all processes together."""
    total = defaultdict(float, own)
    for path in folder.glob("*.json"):
        if path.stem != str(os.getpid()):
            for name, seconds in json.loads(path.read_text("utf-8")).items():
                total[name] += seconds
    return dict(total)


class Memory:
    """The most memory that this process and all below it hold at once, in bytes: pages that they share count once."""

    def __init__(self, every: float = 0.5):
        self.peak, self.largest, self.processes = 0, 0, 0
        self._every = every
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        own = psutil.Process()
        while not self._over.wait(self._every):
            held = []
            for process in (own, *own.children(recursive=True)):
                try:
                    held.append(process.memory_full_info().pss)
                except (psutil.NoSuchProcess, psutil.AccessDenied):  # it has ended meanwhile
                    continue
            self.peak, self.largest = max(self.peak, sum(held)), max(self.largest, *held)
            self.processes = max(self.processes, len(held))

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._over.set()
        self._thread.join()
