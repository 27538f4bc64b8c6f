"""Bundles in the MLflow model registry: versions, and the aliases `champion`, `previous` and `challenger`."""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demeanor.data.bundle import Bundle, BundleCard
from demeanor.data.errors import DemeanorError, InputError
from demeanor.data.examples import Examples
from demeanor.data.files import disk_errors_told, sha256_of_file
from demeanor.evaluation.paired import Difference
from demeanor.inference.model_page import model_card
from demeanor.logged_models import trained_model
from demeanor.reachability import problem_of, readable
from demeanor.serving.comparing import paired_on_validation
from demeanor.serving.locating import champion_version, load_bundle, version_of
from demeanor.serving.packaging import requirements, signature_of
from demeanor.serving.standing import CHALLENGER, CHAMPION, PREVIOUS, Judged, Standing, standing

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)


def registered_name(card: BundleCard, corpus: str | None = None) -> str:
    """Name in the registry: one model per corpus and task, and, apart from these, one per corpus and representation.

    corpus  None: what it learnt from; several joined by a plus
    """
    corpus = corpus or str(card.protocol["corpus"]).replace(", ", "+")
    if card.kind == "embeds":
        return f"representation-{corpus}-{card.branch}"
    return f"demeanor-{corpus}-{card.task.name}"


def imported_name(system: str, stem: str) -> str:
    """Name in the registry of a foreign checkpoint; characters that an address cannot hold become a dash."""
    return re.sub(r"[^\w.-]+", "-", f"imported-{system}-{stem}")


def register_imported(bundle: Bundle, file: Path) -> dict[str, Any]:
    """`register` what `import_checkpoint` made of `file` as a model of its own, with where it comes from as tags.

    The tag `unknown` says what nobody can know of it: a representation without the statistics of its training
    features embeds nothing before `demeanor.representations.embedding.adapt` has fitted them.
    """
    unknown = []
    if bundle.card.kind == "embeds" and not bundle.card.settings.get("normaliser", {}).get("fitted_on"):
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


def register(
    bundle: Bundle,
    name: str,
    tags: Mapping[str, str],
    metrics: Mapping[str, float],
    example: Mapping[str, Any] | None = None,
    judged: Judged | None = None,
    development: Examples | None = None,
    slices: pd.DataFrame | None = None,
) -> dict[str, Any]:
    """Store `bundle` as a new version of `name`; without `example` none is stored beside it.

    It becomes the champion, or, by the rule of demeanor.serving.standing, the challenger. Without `judged` there is
    nothing to compare (an import; representations, whose losses depend on their settings): who asks for it promotes it.

    development  examples of its training, on whose valid split it is paired with the champion
    slices       of its answers on the sealed test, for its card

    Returns name, version, alias, the reason for it, uri, and which version is champion and which one was before, if
    this one has taken its place (else None).
    """
    import mlflow
    import pandas as pd
    from mlflow import MlflowClient

    client = MlflowClient()
    former = champion_version(name)
    verdict = Standing(CHAMPION, "not judged by validation")
    if judged is not None:
        known = {} if former is None else client.get_model_version(name, former).tags
        paired = paired_with(bundle, name, former, judged, known, development)
        verdict = standing(judged, former, known, paired)
        tags = {**tags, **judged.tags, "standing": verdict.reason}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "bundle"
        bundle.save(folder)
        logged = mlflow.pyfunc.log_model(
            name=name,
            python_model=str(Path(__file__).with_name("mlflow_model.py")),
            artifacts={"bundle": str(folder)},
            signature=signature_of(bundle.card),
            input_example=None if example is None else pd.DataFrame([example]),
            pip_requirements=requirements(),
            code_paths=[str(Path(__file__).parents[1])],
            metadata={"card": bundle.card.as_dict()},
        )
    # Not by `registered_model_name` above, which says on the screen what the summary says already.
    trained = training_of(client, bundle)
    made = new_version(client, name, logged, trained.get("trained_by_run"))
    scores = {f"test_{metric}": f"{value:.6g}" for metric, value in metrics.items()}
    for key, value in {**tags, **trained, **scores}.items():
        client.set_model_version_tag(name, made, key, value)
    client.update_model_version(name, made, description=model_card(bundle, name, verdict.reason, metrics, slices))
    promoted = verdict.alias == CHAMPION
    if promoted:
        promote(name, made)
    else:
        client.set_registered_model_alias(name, CHALLENGER, made)
        logger.warning(
            "%s version %s is the challenger, version %s stays champion: %s. `demeanor promote %s` makes it champion.",
            name, made, former, verdict.reason, name,
        )  # fmt: skip
    return {
        "name": name,
        "version": made,
        "alias": verdict.alias,
        "reason": verdict.reason,
        "uri": f"models:/{name}@{verdict.alias}",
        "champion": made if promoted else former,
        "previous": former if promoted else None,
    }


def promote(name: str, version: str | None = None) -> tuple[str, str | None]:
    """Make a version (None: the challenger) the champion; the one before becomes `previous`.

    Returns both versions. InputError where there is no such version.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client = MlflowClient()
    challenger = version_of(name, CHALLENGER)
    wanted = version or challenger
    if wanted is None:
        raise InputError(f"model {name}", ["it has no challenger"], "Name a version, or look at `make mlflow`.")
    try:
        client.get_model_version(name, wanted)
    except MlflowException as error:
        raise InputError(f"model {name}", [f"it has no version {wanted}"], "Look at `make mlflow`.") from error
    former = champion_version(name)
    if former not in (None, wanted):
        client.set_registered_model_alias(name, PREVIOUS, former)
    client.set_registered_model_alias(name, CHAMPION, wanted)
    if challenger is not None:
        # Whoever challenged has been promoted, or has been left behind by one that was.
        client.delete_registered_model_alias(name, CHALLENGER)
    return wanted, former


def paired_with(
    bundle: Bundle, name: str, former: str | None, judged: Judged, known: Mapping[str, str],
    development: Examples | None,
) -> Difference | str:  # fmt: skip
    """`bundle` minus version `former` on the valid split of `development`, clip by clip, or why that is not known."""
    from mlflow.exceptions import MlflowException

    if former is None or development is None or known.get("data_hash") != judged.data_hash:
        return "there are no clips that both know"
    try:
        return paired_on_validation(bundle, load_bundle(f"models:/{name}/{former}"), development)
    except (DemeanorError, MlflowException, OSError) as error:
        return f"version {former} could not be asked: {error}"


def training_of(client: Any, bundle: Bundle) -> dict[str, str]:
    """The run that trained a bundle and the logged model that it made there, as tags; nothing where the experiment of
    the run that registers knows of none."""
    import mlflow

    run = mlflow.active_run()
    logged_model = None if run is None else trained_model(client, run.info.experiment_id, bundle.trained_sha256)
    if logged_model is None or logged_model.source_run_id is None:
        return {}
    return {"trained_by_run": logged_model.source_run_id, "trained_model": logged_model.model_id}


def new_version(client: Any, name: str, logged: Any, run: str | None = None) -> str:
    """Number of the new version of `name` that holds what `log_model` has stored, linked to `run` (None: to the run
    that stored it)."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS"):
            raise
    version = client.create_model_version(name, logged.model_uri, run, model_id=logged.model_id)
    return str(version.version)


class RegistryUnreachable(DemeanorError):
    """The model registry has gone while a run was at work."""


@contextmanager
def told_if_unreachable(what: str, later: str) -> Iterator[None]:
    """RegistryUnreachable, which says that `what` is kept and how to register it `later`, where nothing answers."""
    import mlflow

    uri = mlflow.get_registry_uri()
    try:
        with disk_errors_told(uri.removeprefix("sqlite:///")):
            yield
    except DemeanorError:
        raise
    except Exception as error:
        problem = problem_of(uri, writing=True)
        if not problem:
            raise
        raise RegistryUnreachable(
            f"{what} is not registered, because of the model registry at {readable(uri)}: {problem}. "
            f"All results of this run are kept; when the registry answers again: {later}"
        ) from error
