"""From a recording to its timeline: planned, scored in batches, put together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from demeanor.data.files import sha256_of
from demeanor.data.progress import Progress
from demeanor.features.media import MediaInfo
from demeanor.timeline.hearing import wave_of
from demeanor.timeline.planning import BEYOND, Options, Plan, plan
from demeanor.timeline.scoring import Scorer, answer_of, mean_answer, score_all
from demeanor.timeline.sides import SideFiles
from demeanor.timeline.table import Header, Span, Timeline

#: Rows that are scored together; of a conversation as many turns, which see one another.
TOGETHER, TURNS = 16, 100


def make_timeline(
    recording: Path | str,
    scorer: Scorer,
    options: Options | None = None,
    *,
    make: Callable[[], Scorer] | None = None,
    output: Path | None = None,
    name: str | None = None,
) -> Timeline:
    """The timeline of a recording.

    make    makes the scorer in other processes, for `options.processes` > 1
    output  where it will be written: a run that is killed goes on there, see SideFiles and KnownWords
    name    of the recording in the table; its file name without ending by default
    MediaError where the recording cannot be read, InputError where spans or speakers cannot.
    """
    options = options or Options()
    path = Path(recording)
    planned = plan(path, options, name, output)
    spans, header = planned.spans, planned.header.model_copy(update={"models": scorer.headers})
    parents = {span.parent for span in spans}
    scored = [span for span in spans if not span.problem.startswith(BEYOND) and span.span not in parents]
    size = TURNS if scorer.in_dialogue else TOGETHER
    batches = [scored[start : start + size] for start in range(0, len(scored), size)]
    key = sha256_of([header.as_dict(), [(span.span, span.start, span.end, span.speaker, span.text) for span in spans]])
    kept = SideFiles(output, key)
    missing = [number for number in range(len(batches)) if number not in kept.done]
    with Progress("timeline", len(scored), "spans") as progress:
        progress.advance(sum(len(batches[number]) for number in kept.done))
        rows = _Batches([batches[number] for number in missing], path, planned, options)
        for place, answers in score_all(rows, scorer, make, options.processes):
            kept.keep(missing[place], answers)
            progress.advance(len(batches[missing[place]]))
    found = {
        span.span: [records[row] for records in kept.done[number]]
        for number, batch in enumerate(batches)
        for row, span in enumerate(batch)
    }
    made = Timeline(header, _answered(planned, header, found))
    made.check()
    return made


class _Batches(Sequence):
    """Rows of each batch, made when they are asked for: the sound of channels travels with them."""

    def __init__(self, batches: list[list[Span]], path: Path, planned: Plan, options: Options):
        self.batches, self.path, self.planned, self.options = batches, path, planned, options
        order = [span.span for span in planned.spans if not span.parent]
        self.turns = {name: turn for turn, name in enumerate(order)}

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: Any) -> list[dict[str, Any]]:
        return [self._row(span) for span in self.batches[number]]

    def _row(self, span: Span) -> dict[str, Any]:
        info = self.planned.info
        row: dict[str, Any] = {
            "utterance_id": span.span, "start": span.start, "end": span.end, "text": span.text,
            "language": span.language, "speaker": span.speaker or None,
        }  # fmt: skip
        row["video" if info.has_video else "audio"] = str(self.path)
        channel = self.planned.channels.get(span.speaker)
        if channel is not None:
            row.pop("audio", None)
            row["audio_bytes"] = wave_of(self.path, span.start, span.end, channel)
        if not span.parent:
            row |= {"dialogue": span.recording, "turn": self.turns[span.span]}
        return row


def _answered(planned: Plan, header: Header, found: dict[str, list[dict[str, Any]]]) -> tuple[Span, ...]:
    """Spans with their answers; a longer utterance has the mean of those of its windows."""
    tasks = [model.task for model in header.models]
    made: list[Span] = []
    for span in planned.spans:
        records = found.get(span.span)
        if records is None:
            made.append(replace(span, answers={task.name: mean_answer([], task) for task in tasks}))
            continue
        answers = {task.name: answer_of(record, task) for task, record in zip(tasks, records, strict=True)}
        used = sorted({part for record in records for part in str(record["modalities"] or "").split("+") if part})
        problems = dict.fromkeys([span.problem, *(str(record["problem"] or "") for record in records)])
        absent = {
            name: _why_absent(name, span, planned.info)
            for name in sorted({stream.split(".", 1)[0] for model in header.models for stream in model.extractors})
            if name not in used
        }
        made.append(
            replace(
                span,
                answers=answers,
                modalities=tuple(used),
                absent=absent,
                problem="; ".join(problem for problem in problems if problem),
            )
        )
    windows: dict[str, list[Span]] = {}
    for span in made:
        if span.parent:
            windows.setdefault(span.parent, []).append(span)
    for place, span in enumerate(made):
        inside = windows.get(span.span)
        if inside:
            used = sorted({name for window in inside for name in window.modalities})
            answers = {task.name: mean_answer([window.answers[task.name] for window in inside], task) for task in tasks}
            absent = {name: why for window in inside for name, why in window.absent.items() if name not in used}
            made[place] = replace(span, answers=answers, modalities=tuple(used), absent=absent)
    return tuple(made)


def _why_absent(modality: str, span: Span, info: MediaInfo) -> str:
    if modality == "text":
        return "no words are known" if span.text is None else "its words could not be used"
    if modality == "audio":
        return "nothing is heard" if info.has_audio else "there is no sound track"
    return "no face was found" if info.has_video else "there is no picture"
