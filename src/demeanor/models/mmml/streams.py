"""Context as streams of its own: what was said and heard before each utterance, for batches of shuffled utterances.

The published protocol shuffles utterances and gives each its past (docs/systems/mmml.md#context); `context:
dialogue` reads whole dialogues instead and needs none of this.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from demeanor.data.errors import InputError
from demeanor.data.provenance import Provenance
from demeanor.data.ragged import RaggedWriter
from demeanor.data.stream import SUFFIX, Stream
from demeanor.models.mmml.inputs import (
    SAMPLE_RATE,
    SECONDS,
    TEXT_LENGTH,
    Keep,
    cut_waveform,
    history,
    join_tokens,
)

if TYPE_CHECKING:
    import pandas as pd

TEXT_CONTEXT, AUDIO_CONTEXT = "text.context_tokens", "audio.context_waveform"


def context_provenance(source: Stream, turns: int, keep: Keep, limit: int) -> Provenance:
    """Maker of the context of `source`: how many turns, which end is kept, of how many steps."""
    parameters = {"of": source.provenance.fingerprint, "turns": turns, "keep": keep, "limit": limit}
    return source.provenance.model_copy(
        update={
            "extractor": "mmml_context",
            "parameters": {**source.provenance.parameters, **parameters},
            "recomputable": False,
            "notes": "the turns before, within dialogue and split; one recording alone has none",
        }
    )


def write_context(
    folder: Path | str,
    utterances: pd.DataFrame,
    tokens: Stream,
    waveform: Stream,
    text_turns: int = 2,
    audio_turns: int = 1,
    text_length: int = TEXT_LENGTH["en"],
    seconds: float = SECONDS,
    reference: bool = False,
) -> dict[str, Stream]:
    """Write `text.context_tokens` and `audio.context_waveform` for all utterances into `folder`; memory stays flat.

    The past of an utterance are the rows just before it in its dialogue and split, in order of turns. Overlong pasts
    keep their newest end, under `reference` their oldest; no past is a length of zero, under `reference` `<s></s>`.
    InputError for streams that lack an utterance.
    """
    problems = [
        f"stream '{stream.name}' has no utterance '{name}'"
        for stream in (tokens, waveform)
        for name in utterances["utterance_id"]
        if name not in stream.ragged
    ]
    if problems:
        raise InputError("context streams", problems)
    keep: Keep = "oldest" if reference else "newest"
    limit = round(seconds * SAMPLE_RATE)
    table = utterances.sort_values(["split", "dialogue", "turn"], kind="stable")
    names = list(table["utterance_id"])
    groups = list(zip(table["split"], table["dialogue"], strict=True))
    said = dict(zip(names, history(groups, text_turns), strict=True))
    heard = dict(zip(names, history(groups, audio_turns), strict=True))

    folder = Path(folder)
    paths = {name: folder / f"{name}{SUFFIX}" for name in (TEXT_CONTEXT, AUDIO_CONTEXT)}
    makers = {
        TEXT_CONTEXT: context_provenance(tokens, text_turns, keep, text_length),
        AUDIO_CONTEXT: context_provenance(waveform, audio_turns, keep, limit),
    }
    metadata = {name: {"stream": name, "provenance": maker.model_dump_json()} for name, maker in makers.items()}
    with (
        RaggedWriter.open(paths[TEXT_CONTEXT], 1, tokens.ragged.dtype, metadata[TEXT_CONTEXT]) as words,
        RaggedWriter.open(paths[AUDIO_CONTEXT], 1, waveform.ragged.dtype, metadata[AUDIO_CONTEXT]) as sounds,
    ):
        for name in utterances["utterance_id"]:
            past = [np.asarray(tokens.ragged[names[row]])[:, 0] for row in said[name]]
            joined = join_tokens(past, text_length, keep)
            if len(joined) == 0 and reference:
                own = np.asarray(tokens.ragged[name])[:, 0]
                joined = own[[0, -1]] if len(own) else joined
            words.append(name, joined[:, None])
            parts = [np.asarray(waveform.ragged[names[row]]).mean(axis=1, keepdims=True) for row in heard[name]]
            whole = np.concatenate(parts) if parts else np.zeros((0, 1))
            sounds.append(name, cut_waveform(whole, limit, keep))
    return {name: Stream.load(path) for name, path in paths.items()}
