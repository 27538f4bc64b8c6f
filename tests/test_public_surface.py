"""The public surface says what it is, in a docstring, and what arrays it takes and gives: a shape in the annotation, or
in brackets in the docstring.

Read from the source (docs/architecture.md says what is public: no underscore, not inside a function). A method that
fills in a method of a class of the project that it derives from has that method's contract and need not repeat it; so
have torch's `forward` and Kedro's hooks.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

import demeanor

ROOT = Path(demeanor.__file__).parent
#: jaxtyping's types: whatever they hold has its shape beside it.
SHAPED = {"Float", "Float32", "Float64", "Int", "Int64", "Integer", "UInt8", "Bool", "Num", "Real", "Inexact", "Shaped"}
BARE = {"Tensor", "ndarray"}
BRACKETS = re.compile(r"\[[^\[\]]*\]")

#: Errors that somebody who calls is told of and can mend.
TOLD = {"InputError", "CellError", "MediaError", "EncoderError", "ExtractionError", "TrainingFailed"}

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


def raised(node: ast.AST) -> Iterator[str]:
    """Names of the errors that are raised here: not in a function inside, nor where they are caught."""
    caught: set[str] = set()
    if isinstance(node, ast.Try):
        kinds = [handler.type for handler in node.handlers if handler.type]
        caught = {last_name(one) for kind in kinds for one in (kind.elts if isinstance(kind, ast.Tuple) else [kind])}
        caught |= TOLD if caught & {"Exception", "DemeanorError"} else set()
    for child in ast.iter_child_nodes(node):
        here = caught if isinstance(node, ast.Try) and child in node.body else set()
        if isinstance(child, ast.Raise) and isinstance(child.exc, ast.Call):
            yield from {last_name(child.exc.func)} - here
        if not isinstance(child, Function | ast.Lambda | ast.ClassDef):
            yield from (name for name in raised(child) if name not in here)


@dataclass(frozen=True)
class Definition:
    module: str
    owner: str
    function: Function

    @property
    def place(self) -> str:
        return f"{self.module}: {self.owner + '.' if self.owner else ''}{self.function.name}"

    @property
    def others_contract(self) -> bool:
        """Whether another library says what it does: torch of a module's forward, Kedro of a hook."""
        decorators = {last_name(one.func if isinstance(one, ast.Call) else one) for one in self.function.decorator_list}
        return (self.function.name == "forward" and bool(self.owner)) or bool(decorators & {"hook_impl", "overload"})


@dataclass(frozen=True)
class Surface:
    definitions: tuple[Definition, ...]
    bases: dict[str, tuple[str, ...]]
    classes: tuple[tuple[str, ast.ClassDef], ...]

    def silent(self) -> list[str]:
        """Where an array comes or goes without a shape, in the order of the files."""
        return [
            one.place
            for one in self.definitions
            if not states_shapes(one.function) and not self.inherits(one.owner, one.function.name)
        ]

    def undocumented(self) -> list[str]:
        """What has no docstring and no contract from elsewhere: classes, then functions."""
        public_classes = [(module, node) for module, node in self.classes if not node.name.startswith("_")]
        silent = [f"{module}: {node.name}" for module, node in public_classes if not ast.get_docstring(node)]
        return silent + [
            one.place
            for one in self.definitions
            if not ast.get_docstring(one.function)
            and not one.others_contract
            and not self.inherits(one.owner, one.function.name)
        ]

    def quiet_errors(self) -> list[str]:
        """What raises an error of the project (InputError, whatever the user can mend) and does not say so."""
        return [
            f"{one.place}: {', '.join(sorted(errors))}"
            for one in self.definitions
            if (
                errors := {
                    name
                    for name in raised(one.function)
                    if name in TOLD and name not in (ast.get_docstring(one.function) or "")
                }
            )
            and not self.inherits(one.owner, one.function.name)
        ]

    @cached_property
    def methods(self) -> dict[tuple[str, str], Function]:
        return {(one.owner, one.function.name): one.function for one in self.definitions if one.owner}

    def inherits(self, owner: str, name: str) -> bool:
        """Whether a class of the project above `owner` documents the method, shapes included."""
        for base in self.bases.get(owner, ()):
            above = self.methods.get((base, name))
            if above is not None and ast.get_docstring(above) and states_shapes(above):
                return True
            if self.inherits(base, name):
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
    classes: list[tuple[str, ast.ClassDef]] = []
    for module, text in sources.items():
        for found in public(ast.parse(text).body, module):
            if isinstance(found, ast.ClassDef):
                names = tuple(name for base in found.bases if (name := last_name(base)) != found.name)
                bases[found.name] = bases.get(found.name, ()) + names
                classes.append((module, found))
            else:
                definitions.append(found)
    return Surface(tuple(definitions), bases, tuple(classes))


@pytest.fixture(scope="module")
def surface() -> Surface:
    sources = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in sorted(ROOT.rglob("*.py"))}
    return surface_of(sources)


def test_every_public_function_states_the_shapes_of_its_arrays(surface: Surface):
    assert len(surface.definitions) > 1000
    silent = surface.silent()
    assert not silent, "take or give arrays without a shape:\n" + "\n".join(silent)


def test_every_public_definition_says_what_it_is(surface: Surface):
    assert len(surface.classes) > 300
    undocumented = surface.undocumented()
    assert not undocumented, "have no docstring:\n" + "\n".join(undocumented)


def test_every_public_function_says_which_errors_it_raises(surface: Surface):
    quiet = surface.quiet_errors()
    assert not quiet, "raise without saying so:\n" + "\n".join(quiet)


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


@pytest.mark.parametrize(
    ("text", "undocumented"),
    [
        ("def f(): ...", ["m: f"]),
        ("def _f(): ...\nclass _A:\n    def f(self): ...", []),
        ('class A:\n    """It."""\n    def f(self): ...\n    def forward(self): ...', ["m: A.f"]),
        (BASE + "class A(Base):\n    def loss(self): ...", ["m: Base", "m: A"]),
        ('class A:\n    """It."""\n    @hook_impl(trylast=True)\n    def on_error(self): ...', []),
        ("def forward(): ...", ["m: forward"]),
    ],
)
def test_what_the_other_rule_sees(text, undocumented):
    assert surface_of({"m": text}).undocumented() == undocumented


@pytest.mark.parametrize(
    ("text", "quiet"),
    [
        ("def f():\n    raise InputError(1)", ["m: f: InputError"]),
        ('def f():\n    """InputError at once."""\n    raise InputError(1)', []),
        ('def f():\n    """It."""\n    def g():\n        raise InputError(1)', []),
        ('def f():\n    """It."""\n    raise ValueError(1)', []),
        ('def f():\n    """It."""\n    try:\n        if 1: raise InputError(1)\n    except Exception: pass', []),
        ('def f():\n    """It."""\n    try: pass\n    except E: raise MediaError(1) from None', ["m: f: MediaError"]),
    ],
)
def test_what_the_third_rule_sees(text, quiet):
    assert surface_of({"m": text}).quiet_errors() == quiet
