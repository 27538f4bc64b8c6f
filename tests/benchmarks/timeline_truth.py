"""What a timeline found of a conversation of the demo, against what was planted in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from demeanor.timeline.table import Span, Timeline
from tests.benchmarks.bench_speech import spoken, word_errors

#: Seconds of a step in which speech is compared, and by which an edge may lie beside the planted one.
STEP, NEAR = 0.01, 0.25


def compared(timeline: Timeline, truth: dict[str, Any]) -> dict[str, float]:
    """Turns, course, words and the stretch without a face; shares in [0, 1], times in seconds."""
    turns, spans = truth["turns"], timeline.utterances
    found = _speech([(turn["start"], turn["end"]) for turn in turns], spans, truth["duration"])
    edges = np.array([[span.start, span.end] for span in spans])
    beside = [
        abs(edges[:, place] - turn[name]).min() for turn in turns for place, name in enumerate(("start", "end"))
    ]  # fmt: skip
    of_turns = [_over(spans, turn["start"], turn["end"]) for turn in turns]
    found |= {
        "turns": len(turns), "utterances": len(spans),
        "turns_found": float(np.mean([bool(own) for own in of_turns])),
        "edges_near": float(np.mean(np.array(beside) <= NEAR)), "edge_median": float(np.median(beside)),
        "silences_kept": float(np.mean([not _over(spans, a + 0.3, b - 0.3) for a, b in truth["silences"]])),
    }  # fmt: skip
    found |= _course(turns, of_turns) | _emotions(turns, of_turns) | _words(turns, spans)
    unseen = [span for turn, own in zip(turns, of_turns, strict=True) if not turn["face"] for span, _ in own]
    found["faceless_from_the_rest"] = float(
        np.mean([bool(span.modalities) and "vision" not in span.modalities for span in unseen])
    )
    return found


def _over(spans: Sequence[Span], start: float, end: float) -> list[tuple[Span, float]]:
    """Spans that lie over a stretch, and by how many seconds; those of which it covers at least a third of either."""
    shared = [(span, min(span.end, end) - max(span.start, start)) for span in spans]
    return [(span, size) for span, size in shared if size > min(span.seconds, end - start) / 3]


def _speech(planted: Sequence[tuple[float, float]], spans: Sequence[Span], duration: float) -> dict[str, float]:
    """Precision and recall of the time in which somebody speaks."""

    def steps(stretches: Sequence[tuple[float, float]]) -> np.ndarray:
        """[steps]"""
        held = np.zeros(round(duration / STEP) + 1, dtype=bool)
        for start, end in stretches:
            held[round(start / STEP) : round(end / STEP)] = True
        return held

    said, heard = steps(planted), steps([(span.start, span.end) for span in spans])
    both = (said & heard).sum()
    return {"speech_precision": float(both / heard.sum()), "speech_recall": float(both / said.sum())}


def _course(turns: Sequence[dict[str, Any]], of_turns: Sequence[list[tuple[Span, float]]]) -> dict[str, float]:
    pairs = []
    for turn, own in zip(turns, of_turns, strict=True):
        given = [(span.answers["sentiment"].value, size) for span, size in own if span.answers["sentiment"].answered]
        if given:
            pairs.append((turn["sentiment"], np.average([value for value, _ in given], weights=[s for _, s in given])))
    planted, answered = np.array(pairs, dtype=float).T
    return {
        "sentiment_correlation": float(np.corrcoef(planted, answered)[0, 1]),
        "sentiment_error": float(np.abs(planted - answered).mean()), "sentiment_answered": len(pairs) / len(turns),
    }  # fmt: skip


def _emotions(turns: Sequence[dict[str, Any]], of_turns: Sequence[list[tuple[Span, float]]]) -> dict[str, float]:
    right = [
        max(own, key=lambda pair: pair[1])[0].answers["emotion"].value == turn["emotion"]
        for turn, own in zip(turns, of_turns, strict=True)
        if own and "emotion" in own[0][0].answers
    ]
    return {"emotion_accuracy": float(np.mean(right))} if right else {}


def _words(turns: Sequence[dict[str, Any]], spans: Sequence[Span]) -> dict[str, float]:
    """Errors of the recognised words turn by turn, and how far the times of right ones lie from the planted."""
    heard = [word for span in spans for word in span.word_times]
    if not heard:
        return {}
    middles = np.array([(word.start + word.end) / 2 for word in heard])
    errors = count = 0
    apart: list[float] = []
    for turn in turns:
        own = [heard[n] for n in np.flatnonzero((middles > turn["start"] - 0.2) & (middles < turn["end"] + 0.2))]
        spoken_words = spoken(turn["text"])
        wrong, said = sum(word_errors(spoken_words, spoken(" ".join(word.word for word in own)))), len(spoken_words)
        errors, count = errors + wrong, count + said
        for text, start, end in turn["words"]:
            same = [one for one in own if _bare(one.word) == _bare(text)]
            if same:
                best = min(same, key=lambda one: abs(one.start - start))
                apart += [abs(best.start - start), abs(best.end - end)]
    return {"word_error_rate": errors / count, "word_edge_median": float(np.median(apart)), "words_planted": count}


def _bare(word: str) -> str:
    return "".join(mark for mark in word.lower() if mark.isalnum())
