"""The public surface says what arrays it takes and gives: a shape in the annotation, or in brackets in the docstring.

Read from the source (docs/architecture.md says what is public: no underscore, not inside a function). A method that
fills in a method of a class of the project that it derives from has that method's contract and need not repeat it.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import demeanor

ROOT = Path(demeanor.__file__).parent
#: jaxtyping's types: whatever they hold has its shape beside it.
SHAPED = {"Float", "Float32", "Float64", "Int", "Int64", "Integer", "UInt8", "Bool", "Num", "Real", "Inexact", "Shaped"}
BARE = {"Tensor", "ndarray"}
BRACKETS = re.compile(r"\[[^\[\]]*\]")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def last_name(node: ast.AST) -> str:
    """`ndarray` of `np.ndarray`, `System` of `System[Settings]`; empty for what has no name."""
    if isinstance(node, ast.Subscript):
        return last_name(node.value)
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def is_bare(annotation: ast.AST) -> bool:
    """Whether an array without a shape occurs in it, however deep."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        try:
            annotation = ast.parse(annotation.value, mode="eval").body
        except SyntaxError:  # a jaxtyping shape: "batch time"
            return False
    if isinstance(annotation, ast.Subscript) and last_name(annotation) in SHAPED:
        return False
    if isinstance(annotation, ast.Name | ast.Attribute):
        return last_name(annotation) in BARE
    return any(is_bare(child) for child in ast.iter_child_nodes(annotation))


def states_shapes(function: Function) -> bool:
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    annotations = [one.annotation for one in arguments if one.annotation] + [function.returns]
    if not any(is_bare(one) for one in annotations if one is not None):
        return True
    return BRACKETS.search(ast.get_docstring(function) or "") is not None


@dataclass(frozen=True)
class Definition:
    module: str
    owner: str
    function: Function

    @property
    def place(self) -> str:
        return f"{self.module}: {self.owner + '.' if self.owner else ''}{self.function.name}"


@dataclass(frozen=True)
class Surface:
    definitions: tuple[Definition, ...]
    bases: dict[str, tuple[str, ...]]

    def silent(self) -> list[str]:
        """Where an array comes or goes without a shape, in the order of the files."""
        methods = {(one.owner, one.function.name): one.function for one in self.definitions if one.owner}
        return [
            one.place
            for one in self.definitions
            if not states_shapes(one.function) and not self.inherits(methods, one.owner, one.function.name)
        ]

    def inherits(self, methods: dict[tuple[str, str], Function], owner: str, name: str) -> bool:
        """Whether a class of the project above `owner` documents the method, shapes included."""
        for base in self.bases.get(owner, ()):
            above = methods.get((base, name))
            if above is not None and ast.get_docstring(above) and states_shapes(above):
                return True
            if self.inherits(methods, base, name):
                return True
        return False


def public(body: list[ast.stmt], module: str, owner: str = "") -> Iterator[Definition | ast.ClassDef]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield node  # a private class passes on what it inherits itself
            if not node.name.startswith("_"):
                yield from public(node.body, module, node.name)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield Definition(module, owner, node)


def surface_of(sources: dict[str, str]) -> Surface:
    definitions: list[Definition] = []
    bases: dict[str, tuple[str, ...]] = {}
    for module, text in sources.items():
        for found in public(ast.parse(text).body, module):
            if isinstance(found, ast.ClassDef):
                names = tuple(name for base in found.bases if (name := last_name(base)) != found.name)
                bases[found.name] = bases.get(found.name, ()) + names
            else:
                definitions.append(found)
    return Surface(tuple(definitions), bases)


def test_every_public_function_states_the_shapes_of_its_arrays():
    sources = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in sorted(ROOT.rglob("*.py"))}
    surface = surface_of(sources)
    assert len(surface.definitions) > 1000
    silent = surface.silent()
    assert not silent, "take or give arrays without a shape:\n" + "\n".join(silent)


BASE = 'class Base:\n    def loss(self, x: Tensor) -> Tensor:\n        """Of x [batch, 1]."""\n'


@pytest.mark.parametrize(
    ("text", "silent"),
    [
        ("def f(x: np.ndarray) -> int:\n    return 1", ["m: f"]),
        ('def f(x: np.ndarray) -> int:\n    """Counts."""', ["m: f"]),
        ('def f(x: np.ndarray) -> int:\n    """Counts of x [words, 2]."""', []),
        ('def f(x: Float[np.ndarray, "words 2"]) -> dict[str, Tensor | None]:\n    """Parts."""', ["m: f"]),
        ('def f(x: Float[np.ndarray, "words 2"]) -> int:\n    return 1', []),
        ('def f(x: "list[Tensor]") -> int:\n    return 1', ["m: f"]),
        ("def _f(x: Tensor) -> Tensor:\n    return x", []),
        ("class A:\n    def f(self, *, x: Tensor) -> None: ...", ["m: A.f"]),
        (BASE + "class A(Base[int]):\n    def loss(self, x: Tensor) -> Tensor: ...", []),
        (BASE + "class A(Base):\n    def gain(self, x: Tensor) -> Tensor: ...", ["m: A.gain"]),
        (
            BASE.replace(" [batch, 1]", "") + "class A(Base):\n    def loss(self, x: Tensor): ...",
            ["m: Base.loss", "m: A.loss"],
        ),
    ],
)
def test_what_the_rule_sees(text, silent):
    assert surface_of({"m": text}).silent() == silent
