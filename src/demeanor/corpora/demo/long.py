"""A recording of any length: conversations of the demo one after the other, joined without coding their pictures again.

Making the parts costs what coding them does; an hour is made of a few that are used again and again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import av
import numpy as np

from demeanor.corpora.demo.conversation import FORMAT, Conversation, PlantedTurn, make_conversation, rttm_of
from demeanor.corpora.demo.media import add_sound, mux_sound, read_sound
from demeanor.corpora.demo.speech import SAMPLE_RATE
from demeanor.data.files import read_json, write_atomically, write_json

#: So many different conversations are made; further ones are the same again.
PARTS = 3
#: Of sound that is coded a second time: so many that nothing more is lost.
BITS_PER_SECOND = 128_000
Stretch = tuple[float, float]


@dataclass(frozen=True)
class LongConversation:
    """What was planted, as in Conversation; stretches in seconds, one of each kind per part."""

    duration: float
    turns: tuple[PlantedTurn, ...]
    silences: tuple[Stretch, ...]
    faceless: tuple[Stretch, ...]
    overlaps: tuple[Stretch, ...]


def make_long(path: Path, seconds: float, parts: Path, count: int = PARTS, turns: int = 20) -> LongConversation:
    """Write `path` (mp4) of at least so many seconds, its truth (.json) and who speaks (.rttm).

    parts  folder where conversations are made, or were: each is used as it is
    turns  of each of them
    SynthesiserError without espeak-ng.
    """
    parts.mkdir(parents=True, exist_ok=True)
    made = [_part(parts / f"conversation_{turns}_{seed}.mp4", turns, seed) for seed in range(1, count + 1)]
    chosen: list[tuple[Path, Conversation]] = []
    starts = [0.0]
    while starts[-1] < seconds:
        chosen.append(made[len(chosen) % count])
        starts.append(round(starts[-1] + chosen[-1][1].duration, 3))
    with write_atomically(path) as temporary:
        _join([part for part, _ in chosen], starts, temporary)
    whole = LongConversation(
        starts[-1],
        tuple(_moved(turn, start) for start, (_, one) in zip(starts, chosen, strict=False) for turn in one.turns),
        *(
            tuple(_later(getattr(one, name), start) for start, (_, one) in zip(starts, chosen, strict=False))
            for name in ("silence", "faceless", "overlap")
        ),
    )
    with write_atomically(path.with_suffix(".rttm")) as temporary:
        temporary.write_text(rttm_of(path.stem, whole.turns), encoding="utf-8")
    write_json(path.with_suffix(".json"), {"format": FORMAT, "version": 1, "synthetic": True, **asdict(whole)})
    return whole


def _part(path: Path, turns: int, seed: int) -> tuple[Path, Conversation]:
    truth = path.with_suffix(".json")  # written last, so what it stands beside is whole
    if not truth.is_file():
        return path, make_conversation(path, turns, seed=seed)
    content: dict[str, Any] = read_json(truth)
    spoken = [
        PlantedTurn(**{**turn, "words": tuple((word, a, b) for word, a, b in turn["words"])})
        for turn in content["turns"]
    ]
    stretches = {name: tuple(content[name]) for name in ("silence", "faceless", "overlap")}
    return path, Conversation(content["duration"], tuple(spoken), **stretches)


def _moved(turn: PlantedTurn, start: float) -> PlantedTurn:
    words = tuple((word, *_later((a, b), start)) for word, a, b in turn.words)
    begin, end = _later((turn.start, turn.end), start)
    return replace(turn, start=begin, end=end, words=words)


def _later(stretch: Stretch, start: float) -> Stretch:
    return round(stretch[0] + start, 3), round(stretch[1] + start, 3)


def _join(parts: Sequence[Path], starts: Sequence[float], path: Path) -> None:
    """The pictures of all parts as they are coded, each so much later as its part begins; `starts` has the end of the
    last one as well. Sound is coded again, for AAC comes in blocks of 64 ms, which no part ends with."""
    sounds = {part: read_sound(part)[0] for part in dict.fromkeys(parts)}
    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact", "movflags": "+faststart"}) as whole:
        video: Any = None
        audio: Any = None
        held = np.zeros(0, np.float32)
        for part, start, stop in zip(parts, starts[:-1], starts[1:], strict=True):
            with av.open(str(part)) as container:
                if video is None:
                    video = whole.add_stream_from_template(container.streams.video[0])
                    audio = add_sound(whole, SAMPLE_RATE, BITS_PER_SECOND)
                for packet in container.demux(video=0):
                    if packet.dts is None or packet.pts is None:  # the one that ends the track
                        continue
                    later = round(start / packet.time_base)
                    packet.pts, packet.dts, packet.stream = packet.pts + later, packet.dts + later, video
                    whole.mux(packet)
            sound = sounds[part]
            own = np.zeros(round(stop * SAMPLE_RATE) - round(start * SAMPLE_RATE), np.float32)
            own[: len(sound)] = sound[: len(own)]
            held = mux_sound(
                whole, audio, np.concatenate([held, own]), round(stop * SAMPLE_RATE), last=stop == starts[-1]
            )
