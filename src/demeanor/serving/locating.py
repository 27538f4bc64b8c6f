"""The bundle behind an address: in the MLflow model registry, on the hub, or in a folder.

Nothing of MLflow or PyTorch is imported before an address asks for it.
"""

from __future__ import annotations

from pathlib import Path

from demeanor import remembered
from demeanor.data.bundle import Bundle
from demeanor.data.errors import InputError
from demeanor.data.places import expanded
from demeanor.inference.hub import SCHEME, fetch_bundle
from demeanor.serving.standing import CHAMPION


def load_bundle(uri: str) -> Bundle:
    """The bundle of a registered model (`models:/name@champion`), of a hub repository (`hf://OWNER/NAME@REVISION`), or
    of a folder on disk. InputError or HubError if there is none such."""
    if uri.startswith(SCHEME):
        name, _, revision = uri.removeprefix(SCHEME).partition("@")
        return fetch_bundle(name, revision or None)
    if not uri.startswith(("models:", "runs:", "mlflow-artifacts:")):
        return Bundle.load(expanded(uri))
    return Bundle.load(folder_of(uri))


def folder_of(uri: str) -> Path:
    """Where the bundle of a registered model lies; InputError if there is none such."""
    folder = remembered.asked(f"folder of {uri}", lambda: _downloaded(uri), lambda folder: Path(folder).is_dir())
    return Path(folder)


def _downloaded(uri: str) -> str:
    """Folder of a registered bundle: its own where the store is a folder of this machine."""
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    try:
        folder = Path(download_artifacts(artifact_uri=uri))
    except MlflowException as error:
        raise InputError(
            f"model {uri}", [str(error)], "Train and register one first: kedro run. Or give the folder of a bundle."
        ) from error
    return str(folder / "artifacts" / "bundle")


def champion_version(name: str) -> str | None:
    """Version that the alias `champion` points to; None if there is none yet."""
    return version_of(name, CHAMPION)


def version_of(name: str, alias: str) -> str | None:
    """Version that an alias points to; None if there is none."""
    found = remembered.asked(f"version of {name}@{alias}", lambda: _version_of(name, alias))
    return None if found is None else str(found)


def _version_of(name: str, alias: str) -> str | None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        return str(MlflowClient().get_model_version_by_alias(name, alias).version)
    except MlflowException as error:
        if error.get_http_status_code() >= 500:  # the registry did not answer, which says nothing of its content
            raise
        return None
