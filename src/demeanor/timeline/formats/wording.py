"""Answers in a few words, as subtitles and annotation programs show them."""

from __future__ import annotations

from demeanor.data.task import Task
from demeanor.timeline.table import Answer, Span, Timeline


def answer_text(answer: Answer, task: Task) -> str:
    """A number with its sign, a class; empty where there is no answer."""
    if not answer.answered or answer.value is None:
        return ""
    return f"{answer.value:+.2f}" if isinstance(answer.value, float | int) else str(answer.value) or "none"


def score_line(span: Span, timeline: Timeline) -> str:
    """All answers of a span: `sentiment +1.20, emotion happiness 81 %`."""
    parts = []
    for task in timeline.tasks:
        answer = span.answers[task.name]
        told = answer_text(answer, task)
        if told:
            share = answer.probabilities.get(str(answer.value))
            parts.append(f"{task.name} {told}" + (f" {share:.0%}" if share is not None else ""))
    return ", ".join(parts)
