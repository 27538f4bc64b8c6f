"""Where tensors live."""

from __future__ import annotations

import torch


def choose_device(name: str = "auto") -> torch.device:
    """`auto`: the GPU that this process has been given, the CPU where there is none; otherwise the device of that name.

    Of several processes each has chosen its GPU when it started: ranks count over machines, GPUs do not.
    """
    if name != "auto":
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def several_threads() -> bool:
    """May this process use more than one core?"""
    return torch.get_num_threads() > 1
