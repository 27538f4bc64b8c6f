"""When an answer came about: what leaving out each window of a recording changes."""

from __future__ import annotations

import numpy as np
import pandas as pd

from demeanor.data.errors import InputError
from demeanor.data.examples import Examples
from demeanor.data.ragged import Ragged
from demeanor.data.raw_rows import Rows
from demeanor.data.stream import Stream
from demeanor.evaluation.attribution import value_of
from demeanor.evaluation.conformal import presence_names
from demeanor.features.clip import Clip
from demeanor.features.leaving_out import length_of, windows_of, without
from demeanor.inference.explanation import refuse_unseen_subsets
from demeanor.inference.model import Embedded, TrainedModel
from demeanor.inference.presence import presence

MOST = 32
"""Windows of one recording."""


def contributions_over_time(model: TrainedModel, rows: Rows, window: float = 1.0, anyway: bool = False) -> pd.DataFrame:
    """One row per window of one recording: start, end (seconds from the start of what is scored), contribution, and
    contribution_<modality> of each that the recording has.

    window  seconds; at most MOST windows are made, of equal length
    anyway  even where the model was trained without leaving modalities out, which is else an InputError

    A contribution is the answer minus the answer as if nothing had been said, heard and seen in the window, in the
    units of demeanor.inference.explanation.explain; that of a modality leaves the window out of this modality alone.
    They need not sum to anything: two windows that say the same are each missed less. All are scored at once.
    InputError for several rows, and for one that cannot be read, has no recording, or is no answer.
    """
    if not anyway:
        refuse_unseen_subsets(model.card)
    read = model.extraction.read(rows)
    whole = model.extraction.extract(read)
    if len(whole.ids) != 1:
        raise InputError("contributions over time", [f"{len(whole.ids)} rows: they are made of one recording"])
    (name,) = whole.ids
    if name in whole.problems:
        raise InputError(f"recording '{name}'", [whole.problems[name]])
    clip = read.clips[name]
    seconds = length_of(clip)
    if not seconds:
        raise InputError(f"row '{name}'", ["there is no recording, so there is no time"])
    windows = windows_of(seconds, window, MOST)
    fewer = streams_of(model, {f"{n}": without(clip, one, seconds) for n, one in enumerate(windows)})
    used = whole.used[name]
    mixes = [None, *(used if len(used) > 1 else ())]
    modality = {stream: value.modality for stream, value in model.card.raw_inputs.items()}
    variants = examples_of(whole.examples, fewer, modality, mixes, len(windows))
    examples = Embedded(variants).for_model(model)
    outputs = model.outputs(examples, [model.modalities])[0]
    answered = np.repeat(outputs[:1], len(outputs), axis=0)
    there = presence(model.card.inputs, examples, model.card.representations)
    names = presence_names({part: here & (part in model.modalities) for part, here in there.items()})
    values = value_of(model.task, outputs, answered, names, model.card.calibration)
    lost = (values[0] - values[1:]).reshape(len(mixes), len(windows))
    made = pd.DataFrame({"start": [one[0] for one in windows], "end": [one[1] for one in windows]})
    for mix, row in zip(mixes, lost, strict=True):
        made["contribution" if mix is None else f"contribution_{mix}"] = row
    return made


def streams_of(model: TrainedModel, clips: dict[str, Clip]) -> dict[str, Stream]:
    """The streams that the model reads, of some clips at once."""
    made: dict[str, Stream] = {}
    for name, extractor in model.extraction.extractors.items():
        stored = map(extractor.as_stored, extractor.extract(list(clips.values())))
        values = dict(zip(clips, stored, strict=True))
        ragged = Ragged.from_sequences(values, extractor.dimension, extractor.dtype)
        made[name] = Stream(name, ragged, extractor.provenance())
    return made


def examples_of(
    whole: Examples, fewer: dict[str, Stream], modality: dict[str, str], mixes: list[str | None], windows: int
) -> Examples:
    """The recording as it is, and for each of `mixes` each window left out of that modality, or of all (None).

    fewer  streams of the recording without one window after the other; modality: of each stream
    """
    ids = [whole.ids[0], *(f"{mix or 'all'} {n}" for mix in mixes for n in range(windows))]
    table = pd.concat([whole.utterances] * len(ids), ignore_index=True)
    # Each is a conversation of its own, of the one turn.
    table = table.assign(utterance_id=ids, dialogue=ids, turn=0)
    streams = {}
    for name, stream in fewer.items():
        full = whole.stream(name)
        parts = [full.ragged[0]]
        for mix in mixes:
            parts += [stream.ragged[n] if mix in (None, modality[name]) else full.ragged[0] for n in range(windows)]
        values = dict(zip(ids, parts, strict=True))
        ragged = Ragged.from_sequences(values, full.ragged.dimension, full.ragged.dtype)
        streams[name] = Stream(name, ragged, full.provenance)
    return Examples.of(table, streams)


def over_time_text(table: pd.DataFrame) -> str:
    """One line per window, the modalities of it behind its sum, for people."""
    start = "contribution_"
    lines = ["  over time, what leaving a part out takes from the answer:"]
    for row in table.to_dict("records"):
        parts = [f"{str(key).removeprefix(start)} {value:+.2f}" for key, value in row.items() if start in str(key)]
        listed = f" ({', '.join(parts)})" if parts else ""
        lines.append(f"    {row['start']:5.1f} to {row['end']:5.1f} s  {row['contribution']:+.2f}{listed}")
    return "\n".join(lines)
