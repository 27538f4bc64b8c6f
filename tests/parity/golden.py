"""Where the golden numbers are: DEMEANOR_GOLDEN, else ../shared/golden, else the few small cases in tests/golden."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

#: The golden numbers were recorded on a processor with AVX-512. Another one adds in another order: there the tolerances
#: count that the folders' READMEs state for other platforms, here the narrower ones.
AS_RECORDED = torch.backends.cpu.get_cpu_capability() == "AVX512"

PROJECT = Path(__file__).resolve().parents[2]


def golden_root() -> Path:
    named = os.environ.get("DEMEANOR_GOLDEN")
    if named:
        return Path(named)
    shared = PROJECT.parent / "shared" / "golden"
    return shared if shared.is_dir() else PROJECT / "tests" / "golden"


def golden_folder(system: str) -> Path:
    return golden_root() / system


def cases(system: str, pattern: str) -> list:
    """pytest parameters for all files that match; one skipped parameter that says why where there is none."""
    found = sorted(golden_folder(system).glob(pattern))
    if found:
        return [pytest.param(path, id=path.stem) for path in found]
    reason = f"no golden file {system}/{pattern} under {golden_root()}"
    return [pytest.param(None, marks=pytest.mark.skip(reason=reason), id="absent")]


def golden_file(system: str, name: str) -> Path:
    """The file, or a skip that says why."""
    path = golden_folder(system) / name
    if not path.exists():
        pytest.skip(f"no golden file {system}/{name} under {golden_root()}")
    return path
