"""The header of a safetensors file: which tensors it holds, checked before any of them is read.

The file is an 8-byte little-endian header length, a JSON header, then raw values
(https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np

from demeanor.data.budget import FLOOR_BYTES, LARGEST_CARD
from demeanor.data.errors import InputError
from demeanor.data.files import JsonError, parse_json

#: Types of a ragged stream.
DTYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16,
    "I64": np.int64, "I32": np.int32, "I16": np.int16, "U8": np.uint8,
}  # fmt: skip
#: Bytes per value of all types of the format.
WIDTHS = {
    **{key: np.dtype(value).itemsize for key, value in DTYPES.items()},
    "BF16": 2, "I8": 1, "U16": 2, "U32": 4, "U64": 8, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1, "C64": 8,
}  # fmt: skip
_ENTRY = ("dtype", "shape", "data_offsets")


def read_header(path: Path | str) -> tuple[dict, int]:
    """Header of a safetensors file and the position of its first value; InputError if it is not one.

    What it says of every tensor fits the file: a known type, whole sides, and exactly the bytes that these take.
    """
    path = Path(path)
    try:
        length = path.stat().st_size
        with open(path, "rb") as handle:
            (size,) = struct.unpack("<Q", handle.read(8))
            if size > min(length - 8, LARGEST_CARD):
                raise ValueError(f"a header of {size} bytes")
            header = parse_json(handle.read(size).decode("utf-8"), str(path))
    except JsonError as error:
        raise InputError(str(path), [f"not a readable safetensors file ({error.problems[0]})"]) from None
    except (OSError, ValueError, struct.error) as error:
        raise InputError(str(path), [f"not a readable safetensors file ({error})"]) from None
    if not isinstance(header, dict):
        raise InputError(str(path), ["not a readable safetensors file (its header is no object)"])
    problems = [
        f"tensor '{name[:80]}': {problem}"
        for name, entry in header.items()
        if name != "__metadata__" and (problem := _why_odd(entry, length - 8 - size))
    ]
    if problems:
        raise InputError(str(path), problems, "It is damaged or cut short: make or download it again.")
    return header, 8 + size


def _why_odd(entry: Any, room: int) -> str:
    """Why a tensor of a header cannot lie in the `room` bytes that follow it; empty if it can."""
    entries: list[Any] = [entry.get(key) if isinstance(entry, dict) else None for key in _ENTRY]
    dtype, shape, place = entries
    if not isinstance(dtype, str) or not _whole(shape) or not _whole(place) or len(place) != 2:
        return "needs a type, a shape and where it begins and ends"
    if dtype not in WIDTHS:
        return f"of an unknown type '{dtype[:20]}'"
    if len(shape) > 32 or math.prod(side for side in shape if side) > max(room, FLOOR_BYTES):
        return f"its shape {str(shape)[:60]} is larger than the file"
    if not place[0] <= place[1] <= room:
        return "ends behind the end of the file"
    if math.prod(shape) * WIDTHS[dtype] != place[1] - place[0]:
        return f"has {place[1] - place[0]} bytes, not those of its shape {shape}"
    return ""


def _whole(numbers: Any) -> bool:
    return isinstance(numbers, list) and all(type(number) is int and number >= 0 for number in numbers)


def read_metadata(path: Path | str) -> dict[str, str]:
    """What a safetensors file says of itself in its header; nothing of its tensors is read."""
    return read_header(path)[0].get("__metadata__", {})
