"""What came before in the same dialogue, taken from the batch itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from demeanor.data.batch import Batch
from demeanor.models.mmml.inputs import Keep, join_tokens


@dataclass(frozen=True)
class AudioHistory:
    """rows [B]: where each utterance's past is encoded, as a row of the batch or, from B on, of `added`; -1: none.

    added: raw waveforms [K, N, C] and mask [K, N] of pasts that are no single utterance of the batch.
    """

    rows: Int[Tensor, " batch"]
    added: tuple[Tensor, Tensor] | None


def rows_before(batch: Batch, length: int) -> list[list[int]]:
    """For each row, the rows of up to `length` turns before it in its dialogue, oldest first."""
    dialogue, turn = batch.dialogue.tolist(), batch.turn.tolist()
    place = {key: row for row, key in enumerate(zip(dialogue, turn, strict=True))}
    history = []
    for number, last in zip(dialogue, turn, strict=True):
        rows = []
        for before in range(last - 1, max(last - length, 0) - 1, -1):
            if (number, before) not in place:
                break
            rows.append(place[number, before])
        history.append(rows[::-1])
    return history


def text_history(
    batch: Batch, length: int, limit: int, keep: Keep, reference: bool
) -> tuple[Int[Tensor, "batch tokens"], Bool[Tensor, "batch tokens"]]:
    """Tokens of the last `length` turns as one row `<s> u </s> u </s>` each, and mask.

    No history is a row without a token; under `reference` it is `<s></s>`.
    """
    ids, counts = batch["text"].tokens.cpu().numpy(), batch["text"].lengths.tolist()
    rows = [ids[row, :count] for row, count in enumerate(counts)]
    nothing = np.zeros(0, dtype=np.int64)
    if reference and any(counts):
        some = next(row for row in rows if len(row))
        nothing = np.array([some[0], some[-1]])
    past = []
    for before in rows_before(batch, length):
        joined = join_tokens([rows[row] for row in before], limit, keep)
        past.append(joined if len(joined) else nothing)
    longest = max([1, *(len(row) for row in past)])
    values = np.zeros((len(past), longest), dtype=np.int64)
    for number, row in enumerate(past):
        values[number, : len(row)] = row
    lengths = torch.tensor([len(row) for row in past], device=batch.device)
    return torch.from_numpy(values).to(batch.device), torch.arange(longest, device=batch.device) < lengths[:, None]


def audio_history(batch: Batch, length: int, limit: int, keep: Keep, reference: bool) -> AudioHistory:
    """The sound of the last `length` turns: rows of the batch where it is exactly what they already stand for.

    One clip within the limit, or cut at the same end, is the same waveform with the same normalisation: it is encoded
    once. Several clips, or the newest part of a long one, are added rows. No history is -1, under `reference` silence.
    """
    values, counts = batch["audio"].values, batch["audio"].lengths.tolist()
    rows: list[int] = []
    pasts: list[Tensor] = []
    silence = -1
    for before in rows_before(batch, length):
        heard = [row for row in before if counts[row] > 0]
        if not heard:
            if reference and silence < 0:
                silence = len(batch) + len(pasts)
                pasts.append(values[0, :0])
            rows.append(silence)
        elif len(heard) == 1 and (keep == "oldest" or counts[heard[0]] <= limit):
            rows.append(heard[0])
        else:
            joined = torch.cat([values[row, : counts[row]] for row in heard])
            rows.append(len(batch) + len(pasts))
            pasts.append(joined[:limit] if keep == "oldest" else joined[-limit:])
    added = None
    if pasts:
        longest = max([1, *(len(past) for past in pasts)])
        whole = values.new_zeros((len(pasts), longest, values.shape[2]))
        for number, past in enumerate(pasts):
            whole[number, : len(past)] = past
        lengths = torch.tensor([len(past) for past in pasts], device=values.device)
        added = (whole, torch.arange(longest, device=values.device) < lengths[:, None])
    return AudioHistory(torch.tensor(rows, device=values.device), added)
