"""The stack machine behind `safe_pickle`: one small function per opcode, and nothing that could run a program.

The opcodes are those of Python's documentation of `pickletools`, protocols 0 to 5; strings of Python 2 are latin-1.
"""

from __future__ import annotations

import ast
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from demeanor.corpora.pickled_arrays import ALLOWED, Callee, PendingArray, apply_state, cost_of_state
from demeanor.data.budget import Budget

LONG_TEXT = 1 << 16
#: Lines of the old protocols are looked for in steps of this factor, so that a long one costs its length.
STEP = 16
SIMPLE_KEYS = (str, bytes, int, float, bool, type(None), np.integer, np.floating, np.bool_, np.str_, np.bytes_)
#: Bits of a number, parts of a tuple, and tuples with numbers, that serve as keys: what can be made to collide stays
#: few, because a dict of colliding keys takes the square of their number.
KEY_BITS, KEY_PARTS, KEY_TUPLES = 64, 16, 10_000


class _Mark:
    """Where a sequence of arguments begins on the stack."""


MARK = _Mark()


@dataclass(frozen=True)
class Refused:
    """Stands where the pickle wanted something that is not data; `name` is what it asked for."""

    name: str


class BrokenPickleError(Exception):
    """The program of the pickle makes no sense."""


class Machine:
    """The stack machine; one method per group of opcodes, `run` until STOP. Every method raises BrokenPickleError where
    the program makes no sense."""

    def __init__(self, data: memoryview, where: str = "pickle"):
        self.data = data
        self.budget = Budget(len(data), where)
        self.position = 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        # Objects that a later state replaces (arrays and their types) -> keys under which the memo has them.
        self.places: dict[int, list[int]] = {}
        self.tuple_keys = 0
        self.refused: list[str] = []
        self.pending = 0

    def run(self) -> Any:
        """The object that the pickle holds. BrokenPickleError for a broken program, or one beyond its budget."""
        while True:
            code = self.take(1)[0]
            if code == STOP:
                break
            action = ACTIONS.get(code)
            if action is None:
                raise BrokenPickleError(f"unknown opcode {bytes([code])!r}")
            action(self)
        if len(self.stack) != 1 and not self.refused:
            raise BrokenPickleError(f"{len(self.stack)} objects are left over instead of one")
        if self.pending and not self.refused:
            raise BrokenPickleError("an array was announced and never filled")
        return self.stack[-1] if self.stack else None

    # reading ------------------------------------------------------------------------------------------------------

    def take(self, count: int) -> memoryview:
        """The next `count` bytes, without a copy."""
        end = self.position + count
        if count < 0 or end > len(self.data):
            raise BrokenPickleError("it ends in the middle of an object")
        piece = self.data[self.position : end]
        self.position = end
        return piece

    def number(self, code: str) -> Any:
        """The next number, in the notation of `struct`."""
        return struct.unpack(code, self.take(struct.calcsize(code)))[0]

    def line(self) -> bytes:
        """The bytes up to the next line feed, which is consumed."""
        width = 256
        while True:
            piece = bytes(self.data[self.position : self.position + width])
            end = piece.find(b"\n")
            if end >= 0:
                self.position += end + 1
                return piece[:end]
            if len(piece) < width:
                raise BrokenPickleError("a line does not end")
            width *= STEP

    def blob(self, code: str) -> memoryview:
        """Bytes with their count, a number of `code`, before them."""
        return self.take(self.number(code))

    # the stack ----------------------------------------------------------------------------------------------------

    def push(self, value: Any) -> None:
        """Put a value on top of the stack."""
        self.stack.append(value)

    def pop(self) -> Any:
        """Take the value on top of the stack, which may be no mark."""
        if not self.stack:
            raise BrokenPickleError("an object is missing")
        value = self.stack.pop()
        if value is MARK:
            raise BrokenPickleError("an object is missing")
        return value

    def since_mark(self) -> list[Any]:
        """Take all values above the latest mark, and the mark."""
        for n in range(len(self.stack) - 1, -1, -1):
            if self.stack[n] is MARK:
                found = self.stack[n + 1 :]
                del self.stack[n:]
                return found
        raise BrokenPickleError("a mark is missing")

    def top(self) -> Any:
        """The value on top of the stack, which stays there."""
        if not self.stack or self.stack[-1] is MARK:
            raise BrokenPickleError("an object is missing")
        return self.stack[-1]

    # the memo: objects that are used again --------------------------------------------------------------------------

    def put(self, key: int) -> None:
        """Remember the value on top under a number."""
        value = self.top()
        self.memo[key] = value
        if isinstance(value, (PendingArray, np.dtype)):
            self.places.setdefault(id(value), []).append(key)

    def get(self, key: int) -> None:
        """Put the value remembered under a number on top of the stack."""
        if key not in self.memo:
            raise BrokenPickleError(f"object {key} is used before it is there")
        self.push(self.memo[key])

    def replace(self, old: Any, new: Any) -> None:
        """`new` in the place of `old` on top of the stack and in the memo (an array once its content is known)."""
        self.stack[-1] = new
        if new is old:
            return
        # Pickle stores an object in the memo right after it is made: the newest entry is the one that is meant.
        keys = self.places.get(id(old), [])
        while keys:
            key = keys.pop()
            if self.memo.get(key) is old:
                self.memo[key] = new
                if isinstance(new, np.dtype):
                    self.places.setdefault(id(new), []).append(key)
                break

    # containers -----------------------------------------------------------------------------------------------------

    def append(self, values: list[Any]) -> None:
        """Append values to the list on top."""
        target = self.top()
        if isinstance(target, list):
            target.extend(values)
        elif not isinstance(target, Refused):
            raise BrokenPickleError("something is appended to what is no list")

    def set_items(self, flat: list[Any]) -> None:
        """Set entries of the dict on top: a key and its value by turns."""
        target = self.top()
        if isinstance(target, Refused):
            return
        if not isinstance(target, dict) or len(flat) % 2:
            raise BrokenPickleError("an entry is stored in what is no dict")
        for key, value in zip(flat[::2], flat[1::2], strict=True):
            target[self.key(key)] = value

    def add_items(self, values: list[Any]) -> None:
        """Add values to the set on top."""
        target = self.top()
        if isinstance(target, set):
            target.update(self.key(value) for value in values)
        elif not isinstance(target, Refused):
            raise BrokenPickleError("something is added to what is no set")

    def dictionary(self, flat: list[Any]) -> dict[Any, Any]:
        """A dict of keys and values by turns; keys are those that `key` lets through."""
        return {self.key(key): value for key, value in zip(flat[::2], flat[1::2], strict=True)}

    def container(self, made: list[Any] | dict[Any, Any] | set[Any]) -> None:
        """Put a container on top, at the cost of two objects of the budget."""
        self.budget.spend(objects=2)
        self.push(made)

    def key(self, key: Any) -> Any:
        """Only keys whose hash is cheap: hashing tuples within tuples a million deep would end the process."""
        if isinstance(key, (str, bytes)) or _is_short(key):
            return key
        if isinstance(key, tuple) and len(key) <= KEY_PARTS and all(_is_short(part) for part in key):
            self.tuple_keys += 1
            if self.tuple_keys <= KEY_TUPLES or all(isinstance(part, (str, bytes)) for part in key):
                return key
            raise BrokenPickleError(f"more than {KEY_TUPLES} tuples with numbers are used as keys")
        raise BrokenPickleError(f"a {type(key).__name__} is used as a key")

    # what would be calls ----------------------------------------------------------------------------------------------

    def name(self, module: Any, attribute: Any) -> None:
        """Put what a global name stands for on top: an allowed callee, or a refusal that is remembered."""
        key = f"{module}.{attribute}"
        callee = ALLOWED.get(key)
        self.push(callee if callee is not None else self.refuse(key))

    def refuse(self, name: str) -> Refused:
        """A stand-in for what is not allowed; its name is told at the end."""
        self.refused.append(name)
        return Refused(name)

    def reduce(self) -> None:
        """Call an allowed callee on the arguments above it; a refused one, or a refused argument, is passed on."""
        arguments, callee = self.pop(), self.pop()
        if isinstance(callee, Refused):
            self.push(callee)
        elif not isinstance(callee, Callee):
            raise BrokenPickleError("something is called that is no function")
        elif not isinstance(arguments, tuple):
            raise BrokenPickleError("arguments are no tuple")
        elif any(isinstance(argument, Refused) for argument in arguments):
            self.push(next(argument for argument in arguments if isinstance(argument, Refused)))
        else:
            # What is handed over may be used again and again at the cost of two bytes: every copy is paid for.
            self.budget.spend(sum(_size(argument) for argument in arguments))
            value = callee.make(*arguments)
            self.pending += isinstance(value, PendingArray)
            self.push(value)

    def build(self) -> None:
        """Give the object on top the state above it."""
        state, target = self.pop(), self.top()
        if isinstance(target, Refused) or isinstance(state, Refused):
            return
        self.pending -= isinstance(target, PendingArray)
        self.budget.spend(cost_of_state(target, state))
        self.replace(target, apply_state(target, state))


def _is_short(part: Any) -> bool:
    if isinstance(part, int) and not isinstance(part, bool):
        return part.bit_length() <= KEY_BITS
    return isinstance(part, SIMPLE_KEYS)


def _size(value: Any) -> int:
    """Bytes that a copy of `value` takes, its parts not counted."""
    if isinstance(value, (list, tuple, set, frozenset, dict)):
        return 64 + 72 * len(value)
    return 64 + (len(value) if isinstance(value, (str, bytes, memoryview)) else 0)


def _text(blob: memoryview) -> str:
    return str(blob, "utf-8", "surrogatepass")


def _python2_text(blob: memoryview) -> str | memoryview:
    """A Python 2 `str`: text, or the content of an array; long ones are arrays and stay where they are."""
    return str(blob, "latin-1") if len(blob) <= LONG_TEXT else blob


def _quoted(line: bytes) -> str:
    return ast.literal_eval("b" + line.strip().decode("ascii")).decode("latin-1")


def _integer(line: bytes) -> int | bool:
    return line == b"01" if line in (b"00", b"01") else int(line)


def _long(blob: memoryview) -> int:
    if len(blob) > LONG_TEXT:
        raise BrokenPickleError("a number has more digits than any label or feature")
    return int.from_bytes(blob, "little", signed=True)


def _tuple(count: int) -> Callable[[Machine], None]:
    def make(m: Machine) -> None:
        values = [m.pop() for _ in range(count)]
        m.push(tuple(reversed(values)))

    return make


def _name_from_stack(m: Machine) -> None:
    attribute, module = m.pop(), m.pop()
    m.name(module, attribute)


def _refuse_call(what: str, popped: int = 0, marked: bool = False) -> Callable[[Machine], None]:
    def make(m: Machine) -> None:
        values = m.since_mark() if marked else [m.pop() for _ in range(popped)]
        named = [value.name for value in values if isinstance(value, Refused)]
        m.push(m.refuse(named[0] if named else what))

    return make


def _instance(m: Machine) -> None:
    module, attribute = m.line().decode("latin-1"), m.line().decode("latin-1")
    m.since_mark()
    m.push(m.refuse(f"{module}.{attribute}"))


def _persistent(m: Machine) -> None:
    m.push(m.refuse(f"persistent object {m.line()[:40].decode('latin-1')}"))


def _extension(width: int) -> Callable[[Machine], None]:
    def make(m: Machine) -> None:
        m.take(width)
        m.push(m.refuse("an extension code"))

    return make


def _pop_any(m: Machine) -> None:
    if not m.stack:
        raise BrokenPickleError("an object is missing")
    m.stack.pop()


STOP = ord(".")
_ACTIONS: dict[str | int, Callable[[Machine], Any]] = {
    # stack and memo
    "(": lambda m: m.push(MARK), "0": _pop_any, "1": lambda m: m.since_mark(), "2": lambda m: m.push(m.top()),
    "p": lambda m: m.put(int(m.line())), "q": lambda m: m.put(m.number("<B")), "r": lambda m: m.put(m.number("<I")),
    0x94: lambda m: m.put(len(m.memo)),
    "g": lambda m: m.get(int(m.line())), "h": lambda m: m.get(m.number("<B")), "j": lambda m: m.get(m.number("<I")),
    0x80: lambda m: m.take(1), 0x95: lambda m: m.take(8),
    # numbers
    "N": lambda m: m.push(None), 0x88: lambda m: m.push(True), 0x89: lambda m: m.push(False),
    "I": lambda m: m.push(_integer(m.line())), "L": lambda m: m.push(int(m.line().rstrip(b"L"))),
    "J": lambda m: m.push(m.number("<i")), "K": lambda m: m.push(m.number("<B")),
    "M": lambda m: m.push(m.number("<H")), 0x8A: lambda m: m.push(_long(m.blob("<B"))),
    0x8B: lambda m: m.push(_long(m.blob("<i"))), "F": lambda m: m.push(float(m.line())),
    "G": lambda m: m.push(m.number(">d")),
    # text and bytes
    "S": lambda m: m.push(_quoted(m.line())), "T": lambda m: m.push(_python2_text(m.blob("<i"))),
    "U": lambda m: m.push(_python2_text(m.blob("<B"))),
    "V": lambda m: m.push(m.line().decode("raw-unicode-escape")), "X": lambda m: m.push(_text(m.blob("<I"))),
    0x8C: lambda m: m.push(_text(m.blob("<B"))), 0x8D: lambda m: m.push(_text(m.blob("<Q"))),
    "B": lambda m: m.push(m.blob("<I")), "C": lambda m: m.push(bytes(m.blob("<B"))),
    0x8E: lambda m: m.push(m.blob("<Q")), 0x96: lambda m: m.push(m.blob("<Q")),
    # containers
    "]": lambda m: m.container([]), "l": lambda m: m.container(m.since_mark()), "a": lambda m: m.append([m.pop()]),
    "e": lambda m: m.append(m.since_mark()), ")": lambda m: m.push(()),
    "t": lambda m: m.push(tuple(m.since_mark())),
    0x85: _tuple(1), 0x86: _tuple(2), 0x87: _tuple(3), "}": lambda m: m.container({}),
    "d": lambda m: m.container(m.dictionary(m.since_mark())), "s": lambda m: m.set_items([m.pop(), m.pop()][::-1]),
    "u": lambda m: m.set_items(m.since_mark()), 0x8F: lambda m: m.container(set()),
    0x90: lambda m: m.add_items(m.since_mark()),
    0x91: lambda m: m.push(frozenset(m.key(value) for value in m.since_mark())),
    # names and calls
    "c": lambda m: m.name(m.line().decode("latin-1"), m.line().decode("latin-1")), 0x93: _name_from_stack,
    "R": lambda m: m.reduce(), "b": lambda m: m.build(), 0x81: lambda m: m.reduce(),
    0x92: _refuse_call("a call with keywords", 3), "o": _refuse_call("an instance of a class", marked=True),
    "i": _instance, "P": _persistent, "Q": _refuse_call("a persistent object", 1),
    0x82: _extension(1), 0x83: _extension(2), 0x84: _extension(4),
    0x97: lambda m: m.push(m.refuse("a buffer outside the file")), 0x98: lambda m: None,
}  # fmt: skip
ACTIONS = {key if isinstance(key, int) else ord(key): action for key, action in _ACTIONS.items()}
