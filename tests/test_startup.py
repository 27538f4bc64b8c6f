"""Commands that train nothing start fast: nothing heavy is imported for them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Collection

import pytest
import yaml

from tests.project import PROJECT, environment

HEAVY = (
    "torch",
    "transformers",
    "mlflow",
    "optuna",
    "librosa",
    "opensmile",
    "cv2",
    "av",
    "sklearn",
    "matplotlib",
    "pandera",
)
MAKE_PIPELINES = """
import sys
import demeanor.settings
from demeanor.pipeline_registry import register_pipelines
assert set(register_pipelines()) == {"__default__", "ingestion", "feature_engineering", "representation_learning",
                                     "fusion_training", "evaluation", "scoring", "tuning"}
"""


#: What `demeanor serve` imports before it sends its worker processes their first orders.
SERVE = """
import sys
import demeanor.server.command, demeanor.server.start, demeanor.serving.locating
from demeanor.data.bundle import Bundle
from demeanor.server.models import find
"""


@pytest.mark.parametrize(
    "code",
    [MAKE_PIPELINES, "import sys, demeanor.datasets", "import sys, demeanor.__main__", SERVE],
    ids=["kedro", "catalog", "demeanor", "serve"],
)
def test_nothing_heavy_is_imported(code: str):
    assert imported(code, HEAVY) == "[]"


def test_who_trains_or_answers_imports_torch_and_no_second_library_of_its_size():
    """SciPy's statistics took a second and 60 MiB of every worker."""
    names = {*HEAVY, "scipy"} - {"torch", "av"}
    assert imported("import sys, demeanor.inference.model, demeanor.training.fit", names) == "[]"


def imported(code: str, names: Collection[str]) -> str:
    """Which of these modules are there after the code, in a process of its own."""
    told = f"{code}\nprint(sorted(set({tuple(names)!r}) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", told], cwd=PROJECT, env=environment(PROJECT), capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_the_sealed_test_reaches_evaluation_alone():
    from demeanor.pipeline_registry import register_pipelines

    pipelines = register_pipelines()
    readers = {
        node.name: name
        for name, pipeline in pipelines.items()
        if name != "__default__"
        for node in pipeline.nodes
        if "sealed_test" in node.inputs
    }
    assert set(readers.values()) == {"evaluation"}
    downstream = pipelines["__default__"].from_inputs("sealed_test")
    assert all(node.name.startswith("evaluation.") for node in downstream.nodes)


def test_every_branch_of_every_environment_names_a_registered_system():
    from demeanor.models import SYSTEMS

    paths = sorted((PROJECT / "conf").glob("[!l]*/parameters.yml"))  # all but local
    assert len(paths) > 12
    for path in paths:
        for name, branch in yaml.safe_load(path.read_text(encoding="utf-8")).get("branches", {}).items():
            assert branch["system"] in SYSTEMS, f"{path}: {name}"


def test_the_library_that_finds_a_voice_reports_to_nobody(tmp_path):
    """It keeps the number of its session in a file before it sends anything."""
    pytest.importorskip("onnxruntime")
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    command = [sys.executable, "-c", "import demeanor, onnxruntime"]
    subprocess.run(command, env={**environment, "TMPDIR": str(tmp_path)}, check=True)
    assert list(tmp_path.iterdir()) == []


def test_telemetry_is_off():
    assert yaml.safe_load((PROJECT / ".telemetry").read_text(encoding="utf-8")) == {"consent": False}
