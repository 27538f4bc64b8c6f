"""Frames brought to the steps of the text, for systems that read all modalities step by step.

docs/systems/mmsa.md#align: consecutive frames are averaged.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from demeanor.data.batch import Padded
from demeanor.models.blocks.layers import zero_padding

#: Steps of an utterance without text, at most: about as many as a sentence has word pieces.
STEPS_WITHOUT_TEXT = 32


def average_pool(values: Float[Tensor, "batch time dimension"], steps: int) -> Float[Tensor, "batch steps dimension"]:
    """As published: blocks of ceil(time / steps) consecutive frames, the last frame repeated to fill them.

    It knows no padding, so that its result depends on the corpus-wide length.
    """
    size = -(-values.shape[1] // steps)
    last = values[:, -1:].expand(-1, size * steps - values.shape[1], -1)
    return torch.cat([values, last], dim=1).unflatten(1, (steps, size)).mean(dim=2)


def common_steps(text: Padded, others: list[Padded]) -> Int[Tensor, " batch"]:
    """How many steps each row gets: those of its text, else of its longest other modality, within reason."""
    longest = torch.stack([other.lengths for other in others]).amax(dim=0)
    return torch.where(text.present, text.lengths, longest.clamp(max=STEPS_WITHOUT_TEXT))


def spread(padded: Padded, steps: Int[Tensor, " batch"]) -> Padded:
    """Bring each row's m real frames to its own n steps: step j is the mean over the frames that overlap
    [j/n, (j+1)/n], weighted by the overlap, whether n is smaller or larger than m. Rows without frames stay absent.
    """
    padded = zero_padding(padded)
    time, width = padded.values.shape[1], max(int(steps.max()), 1)
    device = steps.device
    frames = padded.lengths.clamp(min=1).view(-1, 1, 1)
    count = steps.clamp(min=1).view(-1, 1, 1)
    # In units of 1 / (m n): step j covers [j m, (j + 1) m), frame s covers [s n, (s + 1) n).
    step = torch.arange(width, device=device).view(1, -1, 1)
    frame = torch.arange(time, device=device).view(1, 1, -1)
    start = torch.maximum(step * frames, frame * count)
    end = torch.minimum((step + 1) * frames, (frame + 1) * count)
    real = padded.mask.unsqueeze(1)
    weight = ((end - start).clamp(min=0) * real).to(padded.values.dtype) / frames
    mask = (step.squeeze(-1) < steps.unsqueeze(1)) & padded.present.unsqueeze(1)
    return zero_padding(Padded(torch.bmm(weight, padded.values), mask))
