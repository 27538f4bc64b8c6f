"""By which code and on which machine something was computed."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import Field

from demeanor.data.settings import Settings

UNKNOWN = "unknown"


class Machine(Settings):
    """Where something was computed."""

    processor: str = UNKNOWN
    cores: int = Field(default=1, description="that this process may use")
    memory_mib: float = Field(default=0.0, description="of the whole machine")
    platform: str = UNKNOWN
    python: str = UNKNOWN
    torch: str = UNKNOWN
    accelerator: str = Field(default="", description="name of the device, nothing without one")


def code_revision(project: Path | str) -> str:
    """Commit of the project (12 hexadecimal digits), with "-dirty" where tracked files differ from it.

    "unknown" where `project` is no git checkout of its own, has no commit, or git is absent or slow.
    """
    project = Path(project).resolve()
    # Git's own variables would answer for another repository, as they do inside a hook; nor may a repository that
    # merely contains the project answer for it.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    environment |= {"GIT_CEILING_DIRECTORIES": str(project.parent), "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    command = ["git", "-C", str(project), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False, env=environment)
    except (OSError, subprocess.SubprocessError):
        return UNKNOWN
    return done.stdout.strip() if done.returncode == 0 and done.stdout.strip() else UNKNOWN


@cache
def _fixed_machine() -> dict[str, Any]:
    try:
        torch = metadata.version("torch")
    except metadata.PackageNotFoundError:
        torch = UNKNOWN
    import psutil

    return {
        "processor": _processor(),
        "memory_mib": round(psutil.virtual_memory().total / 2**20, 1),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "torch": torch,
    }


def this_machine() -> Machine:
    """The machine of this process; a GPU is named if torch is loaded and has one (torch is not imported for it)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch = sys.modules.get("torch")
    accelerator = ""
    if torch is not None and hasattr(torch, "cuda") and torch.cuda.is_available():
        accelerator = f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"
    return Machine(cores=cores, accelerator=accelerator, **_fixed_machine())


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        for line in listing.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.lower().startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine() or UNKNOWN


def peak_memory_mib() -> float:
    """Most memory that this process has held at any time since it began, in MiB."""
    try:
        import resource
    except ImportError:  # Windows has no such module
        import psutil

        return round(psutil.Process().memory_info().peak_wset / 2**20, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / 2**20 if sys.platform == "darwin" else peak / 2**10, 1)
