"""Products in bfloat16 where a device has instructions for them: a GPU, or a processor with AVX512-BF16 or AMX (Intel
since 2020 and 2023, AMD the first since 2022).

On others torch would do them in float32 and convert to and fro, which is slower than float32 alone: there they stay as
they are.
"""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager
from pathlib import Path

import torch

#: What Linux calls the instructions.
INSTRUCTIONS = frozenset({"amx_bf16", "avx512_bf16"})


@functools.cache
def has_instructions() -> bool:
    """Does this processor multiply in bfloat16?"""
    table = Path("/proc/cpuinfo")
    lines = table.read_text(encoding="utf-8", errors="replace").splitlines() if table.exists() else []
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    return not INSTRUCTIONS.isdisjoint(flags)


def in_half(device: torch.device, wanted: bool) -> AbstractContextManager[object]:
    """Autocast to bfloat16 within the block, where that is wanted and the device has instructions for it."""
    quick = device.type == "cuda" or (device.type == "cpu" and has_instructions())
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted and quick)
