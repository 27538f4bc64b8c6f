"""The LSTM of every system: torch's own, in whatever precision the processor can run a recurrence in.

Under autocast torch hands an LSTM on a CPU to oneDNN in bfloat16, and oneDNN has kernels for that on processors with
AVX-512 alone: elsewhere it raises, where a product or a convolution would quietly take a slower way. What a processor
can do is found out by trying, once per process; where it cannot, recurrences run in float32 and the rest of the model
stays in the precision asked for.
"""

from __future__ import annotations

import functools
import logging
from typing import Any

import torch
from torch import nn

logger = logging.getLogger(__name__)


class LSTM(nn.LSTM):
    """torch.nn.LSTM with its weights, names and results, which runs under autocast on any processor."""

    def forward(self, input: Any, hx: Any = None) -> Any:
        """As torch's: input [B, T, D] or a PackedSequence; (states, (last state, last cell))."""
        kind = self.get_parameter("weight_ih_l0").dtype
        if not (torch.is_autocast_enabled("cpu") and input_device(input) == "cpu"):
            return super().forward(input, hx)
        # Autocast casts what it computes, but torch compares the kinds of inputs and weights before that.
        input, hx = input.to(kind), None if hx is None else tuple(value.to(kind) for value in hx)
        with torch.autocast("cpu", enabled=kernel_for(torch.get_autocast_dtype("cpu"))):
            return super().forward(input, hx)


def input_device(values: Any) -> str:
    """Of a tensor or of a PackedSequence."""
    return (values.data if isinstance(values, nn.utils.rnn.PackedSequence) else values).device.type


@functools.cache
def kernel_for(kind: torch.dtype) -> bool:
    """Does this processor run an LSTM in `kind`, there and back? Tried once per process and, where not, said once."""
    trial = nn.LSTM(1, 1, device="meta").to_empty(device="cpu")  # made without drawing from the global generator
    for weight in trial.parameters():
        nn.init.zeros_(weight)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            values = torch.zeros(2, 1, 1, requires_grad=True)
            with torch.autocast("cpu", dtype=kind):
                states, _ = trial(values)
            states.sum().backward()
            with torch.no_grad(), torch.autocast("cpu", dtype=kind):
                trial(values)
    except RuntimeError as error:
        named = str(kind).removeprefix("torch.")
        reason = str(error).splitlines()[0]
        logger.warning("This processor runs no LSTM in %s: recurrences run in float32 (%s).", named, reason)
        return False
    return True
