"""numpy arrays inside pickles: made from their stored parts, checked one by one, without numpy's own unpickling."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from demeanor.data.budget import FLOOR_BYTES

DTYPE = re.compile(r"[<>|=]?(?:[biufc](?:1|2|4|8|16)|[SU]\d{1,9}|O[48]?|\?)")


@dataclass(frozen=True)
class Callee:
    """Something that a pickle may ask for, and the function of ours that answers in its place."""

    name: str
    make: Callable[..., Any]


class PendingArray:
    """An array that was announced; its content follows."""


def raw_bytes(value: Any) -> bytes | memoryview:
    """The bytes of an array as they are stored: bytes, or a Python 2 string read as latin-1. ValueError for anything
    else."""
    if isinstance(value, str):
        return value.encode("latin-1")
    if isinstance(value, (bytes, memoryview)):
        return value
    raise ValueError(f"an array's content is a {type(value).__name__}")


def make_dtype(code: Any, *_: Any) -> np.dtype:
    """numpy's dtype of a code such as `<f4`. ValueError for types that hold objects or fields."""
    code = code.decode("latin-1") if isinstance(code, bytes) else code
    if not isinstance(code, str) or not DTYPE.fullmatch(code):
        raise ValueError(f"arrays of type {str(code)[:40]!r} are not read")
    return np.dtype(code)


def make_array(dtype: Any, shape: Any, data: Any, fortran: bool) -> np.ndarray:
    """An array, as a view on `data` where that is bytes.

    Shape [...] as `shape` says; ValueError where type, shape and content contradict.
    """
    if not isinstance(dtype, np.dtype):
        raise ValueError("an array has no type")
    shape = (shape,) if isinstance(shape, int) else shape
    if not isinstance(shape, tuple) or len(shape) > 32 or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"an array has the shape {str(shape)[:60]}")
    count = math.prod(shape)
    order: Any = "F" if fortran else "C"
    if dtype.hasobject:
        if not isinstance(data, list) or len(data) != count:
            raise ValueError("an array of objects does not hold as many as its shape says")
        objects = np.empty(count, dtype=object)
        objects[:] = _boxed(data)
        return objects.reshape(shape, order=order)
    content = raw_bytes(data)
    if len(content) != count * dtype.itemsize:
        raise ValueError(f"an array of shape {shape} and type {dtype} has {len(content)} bytes")
    if not count or not dtype.itemsize:
        # Nothing is stored that the sides could be checked against: they may still not be those of a large array.
        if math.prod(side for side in shape if side) * max(dtype.itemsize, 1) > FLOOR_BYTES:
            raise ValueError(f"an array without content has the shape {str(shape)[:60]}")
        return np.zeros(shape, dtype=dtype)
    return np.frombuffer(content, dtype=dtype).reshape(shape, order=order)


def _boxed(values: list[Any]) -> np.ndarray:
    """A 1-d object array of the values as they are; numpy would make one array out of lists of equal length."""
    boxed = np.empty(len(values), dtype=object)
    for n, value in enumerate(values):
        boxed[n] = value
    return boxed


def from_buffer(data: Any, dtype: Any, shape: Any, order: Any = "C", *_: Any) -> np.ndarray:
    """Arrays of protocol 5. Shape [...] as `shape` says; ValueError as of `make_array`."""
    return make_array(dtype, shape, data, order == "F")


def scalar(dtype: Any, data: Any = b"") -> Any:
    """One number of numpy's, from its bytes. ValueError for a type of no plain numbers."""
    if not isinstance(dtype, np.dtype) or dtype.hasobject:
        raise ValueError("a number of numpy's has no plain type")
    return make_array(dtype, (1,), data, False)[0] if dtype.itemsize else np.array([""], dtype=dtype)[0]


def encode(text: Any, encoding: Any = "latin1") -> bytes:
    """How Python 3 stores bytes in protocols 0 to 2. ValueError for another encoding."""
    if not isinstance(text, str) or str(encoding).replace("-", "").lower() != "latin1":
        raise ValueError(f"bytes are stored in the encoding {encoding!r}")
    return text.encode("latin-1")


def sequence(kind: type) -> Callable[..., Any]:
    """What makes a list, tuple or set of this kind from plain values, and refuses all else by a ValueError."""

    def make(values: Any = ()) -> Any:
        if not isinstance(values, (list, tuple, set, frozenset)):
            raise ValueError(f"a {kind.__name__} is made from a {type(values).__name__}")
        if issubclass(kind, (set, frozenset)) and not all(isinstance(v, (str, int, float, bytes)) for v in values):
            raise ValueError("a set holds something else than numbers and strings")
        return kind(values)

    return make


def dictionary(*arguments: Any) -> dict[Any, Any]:
    """dict, OrderedDict and defaultdict: their entries follow; those of Python 2 come as a list of pairs. ValueError
    for entries or keys that are none."""
    pairs = arguments[-1] if arguments and isinstance(arguments[-1], (list, dict)) else []
    entries = list(pairs.items()) if isinstance(pairs, dict) else pairs
    if not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in entries):
        raise ValueError("the entries of a dict are no pairs")
    if not all(isinstance(key, (str, int, float, bytes)) for key, _ in entries):
        raise ValueError("a dict has something else than a number or string for a key")
    return dict(entries)


def byte_array(content: Any = b"", *_: Any) -> bytes:
    """Bytes, however pickle stored them."""
    return bytes(raw_bytes(content))


def complex_number(real: Any = 0.0, imaginary: Any = 0.0) -> complex:
    """A complex number from its two parts."""
    return complex(float(real), float(imaginary))


def apply_state(target: Any, state: Any) -> Any:
    """What an object becomes once its state is known; only arrays and their types have one. ValueError for anything
    else."""
    if isinstance(target, PendingArray):
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise ValueError("an array's content has an unknown form")
        shape, dtype, fortran, data = state[-4:]
        return make_array(dtype, shape, data, bool(fortran))
    if isinstance(target, np.dtype):
        if not isinstance(state, tuple) or len(state) < 5 or any(part is not None for part in state[2:5]):
            raise ValueError("arrays with named fields are not read")
        order: Any = state[1].decode("latin-1") if isinstance(state[1], bytes) else state[1]
        if order not in ("<", ">", "=", "|"):
            raise ValueError(f"an array has the byte order {order!r}")
        return target if order == "|" else target.newbyteorder(order)
    if isinstance(target, dict) and isinstance(state, dict):
        return target  # attributes of a dict's subclass: not data
    raise ValueError(f"a {type(target).__name__} is given a state")


def cost_of_state(target: Any, state: Any) -> int:
    """Bytes that `apply_state` takes for itself: an array is a view on bytes, but a copy of text or of objects."""
    if not isinstance(target, PendingArray) or not isinstance(state, tuple) or len(state) not in (4, 5):
        return 0
    data = state[-1]
    return 32 * len(data) if isinstance(data, list) else len(data) if isinstance(data, str) else 0


def _pending(*_: Any) -> PendingArray:
    return PendingArray()


def _by_name() -> dict[str, Callee]:
    answers: dict[str, Callable[..., Any]] = {
        "_codecs.encode": encode, "numpy.dtype": make_dtype,
        "collections.OrderedDict": dictionary, "collections.defaultdict": dictionary,
    }  # fmt: skip
    for package in ("numpy.core", "numpy._core"):
        answers[f"{package}.multiarray._reconstruct"] = _pending
        answers[f"{package}.multiarray.scalar"] = scalar
        answers[f"{package}.numeric._frombuffer"] = from_buffer
    for package in ("builtins", "__builtin__"):
        answers |= {
            f"{package}.set": sequence(set), f"{package}.frozenset": sequence(frozenset),
            f"{package}.list": sequence(list), f"{package}.tuple": sequence(tuple), f"{package}.dict": dictionary,
            f"{package}.bytearray": byte_array, f"{package}.bytes": byte_array, f"{package}.complex": complex_number,
        }  # fmt: skip

    def not_callable(*_: Any) -> Any:
        raise ValueError("a type is called that only serves as a name")

    # Names that stand as arguments: the class of an array, and what a defaultdict would make.
    plain = [f"{package}.{name}" for package in ("builtins", "__builtin__") for name in ("int", "float", "str")]
    for name in ("numpy.ndarray", "numpy.matrixlib.defmatrix.matrix", "__builtin__.unicode", *plain):
        answers[name] = not_callable
    return {name: Callee(name, make) for name, make in answers.items()}


ALLOWED = _by_name()
