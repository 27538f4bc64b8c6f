"""`demeanor robustness`: recordings of a split made worse step by step, and what models are worth then."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from demeanor.arguments import HomePath
from demeanor.commands.models import addresses, project_folder
from demeanor.data.errors import InputError
from demeanor.data.files import write_atomically, write_json

if TYPE_CHECKING:
    import pandas as pd

    from demeanor.data.examples import Examples
    from demeanor.features.degrading import Degradation
    from demeanor.inference.degraded import Degraded
    from demeanor.inference.model import TrainedModel
    from demeanor.pipelines.evaluation.worse import ScoredModel, WorseRecordings

RECEIPT = "robustness.json"
"""What is kept beside the run's report (the catalog's entry `robustness`)."""


@dataclass(frozen=True)
class Choices:
    """What was asked for on the command line.

    named       were models named? Else they are all champions, of which those that embed are passed over
    recordings  the corpus' folder, where it is not the one of the project's ingestion
    split       valid, or test: the sealed test, by name only
    kinds       names of demeanor.features.degrading.DEGRADATIONS; none: all that a model can feel
    clips       at most so many, spread over the split
    """

    named: bool = True
    recordings: Path | None = None
    split: str = "valid"
    kinds: tuple[str, ...] = ()
    clips: int | None = None
    seed: int = 0
    processes: int | None = None


@click.command()
@click.argument("model", nargs=-1)
@click.option("--output", required=True, type=HomePath(), help="Folder for tables, figure and report.")
@click.option("--recordings", type=HomePath(exists=True, file_okay=False),
              help="Folder of the corpus' recordings. Default: where ingestion found them.")  # fmt: skip
@click.option("--split", type=click.Choice(["valid", "test"]), default="valid", show_default=True,
              help="test is the sealed test: ask for it when nothing is chosen by it any more.")  # fmt: skip
@click.option("--kind", "kinds", multiple=True, help="white, babble, misalignment, frames, words; may be repeated.")
@click.option("--clips", type=click.IntRange(1), help="At most so many, spread over the split. Default: all.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--processes", type=click.IntRange(1), default=None, help="Default: one per core.")
def robustness(model: tuple[str, ...], output: Path, **choices: Any) -> None:
    """Make the recordings of a split worse step by step, and score models on them.

    Noise, other voices, late sound, lost pictures, misheard words.

    MODEL is models:/NAME@ALIAS or the folder of a bundle; by default all champions. They are scored on the data of this
    project that they were trained on.
    """
    click.echo(run(addresses(model), output, Choices(named=bool(model), **choices), project_folder()))


def run(uris: Sequence[str], output: Path, choices: Choices, project: Path) -> str:
    """Writes curves.csv, areas.csv, robustness.png and report.html to the folder `output`; the section into the run's
    own report where there is one, and beside it the receipt from which later reports take it; returns what to tell.

    InputError where models were trained on different data, or on none of this project.
    """
    from demeanor.evaluation.environment import code_revision
    from demeanor.features.degrading import degradations
    from demeanor.inference.model import TrainedModel
    from demeanor.pipelines.evaluation.worse import WorseRecordings, figure_of, rows_of
    from demeanor.serving.locating import load_bundle

    kinds = degradations(choices.kinds)
    if output.exists() and not output.is_dir():
        raise InputError("--output", [f"{output} is a file; tables and a figure go to a folder"])
    bundles = {uri: load_bundle(uri) for uri in uris}
    if not choices.named:
        bundles = {uri: bundle for uri, bundle in bundles.items() if bundle.card.kind == "predicts"}
    models = {uri: TrainedModel.load(bundle) for uri, bundle in bundles.items()}
    corpus, examples = examples_of(models, choices.split, project)
    degraded = recordings_of(examples, corpus, choices, project, output / "work")
    curves, areas = measured(models, degraded, kinds)
    names = short_names(models)
    curves["model"], areas["model"] = curves["model"].map(names), areas["model"].map(names)
    kept = WorseRecordings(
        corpus=corpus,
        split="test" if choices.split == "test" else "valid",
        clips=len(degraded.clips),
        seed=choices.seed,
        champions=not choices.named,
        data_hash=next(iter(bundles.values())).card.data_hash,
        code_revision=code_revision(project),
        models={names[uri]: scored_model(model) for uri, model in models.items()},
        curves=rows_of(curves),
        areas=rows_of(areas),
    )
    output.mkdir(parents=True, exist_ok=True)
    for name, table in (("curves", curves), ("areas", areas)):
        with write_atomically(output / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False)
    with write_atomically(output / "robustness.png") as temporary:
        figure_of(kept).savefig(temporary, format="png", dpi=130)
    written = write_reports(kept, output, project)
    shutil.rmtree(output / "work", ignore_errors=True)
    return told(
        areas,
        kept.scored,
        [*(output / name for name in ("curves.csv", "areas.csv", "robustness.png")), *written],
    )


def examples_of(models: Mapping[str, TrainedModel], split: str, project: Path) -> tuple[str, Examples]:
    """Corpus, and the examples that hold the split: development, or the sealed test where `split` is test. InputError
    where the corpus does not have them."""
    from demeanor.data.examples import Examples
    from demeanor.serving.comparing import DATA, development_of

    bundles = [model.bundle for model in models.values()]
    problems = [f"{one.card.branch} embeds, it does not predict" for one in bundles if one.card.kind == "embeds"]
    if len({one.card.data_hash for one in bundles}) > 1:
        problems.append("these models were trained on different data: ask for one after the other")
    if problems:
        raise InputError("robustness", problems)
    folder, development = development_of(bundles[0], project)
    parts = folder.relative_to(project / DATA).parts
    if split != "test":
        return parts[0], development
    sealed = project / DATA / Path(*("sealed_test" if part == "development" else part for part in parts))
    return parts[0], Examples.load(sealed)


def recordings_of(examples: Examples, corpus: str, choices: Choices, project: Path, work: Path) -> Degraded:
    """The labelled or unlabelled clips of the split, as recordings. InputError where it is not known where they lie."""
    from demeanor.data.processors import available_cores
    from demeanor.inference.degraded import Degraded

    root: Path | str | None = choices.recordings
    if root is None:
        listed = project / "data" / "02_intermediate" / corpus / "media_root.txt"
        if not listed.is_file():
            raise InputError(
                "robustness", [f"there is no {listed}, which says where the recordings lie"],
                "Run `kedro run --pipelines ingestion`, or give --recordings FOLDER.",
            )  # fmt: skip
        root = listed.read_text(encoding="utf-8").strip()
    every = list(examples.utterances.loc[examples.utterances["split"] == choices.split, "utterance_id"])
    count = min(choices.clips or len(every), len(every))
    ids = [every[place * len(every) // count] for place in range(count)]
    processes = choices.processes or available_cores()
    return Degraded.of(examples, ids, root, work, choices.seed, processes)


def measured(
    models: Mapping[str, TrainedModel], degraded: Degraded, kinds: Sequence[Degradation]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Curves (demeanor.inference.degraded.curves) and areas (demeanor.evaluation.robustness.areas) of all models.
    InputError where no kind touches what the models read."""
    import pandas as pd

    from demeanor.data.progress import with_progress
    from demeanor.evaluation.robustness import areas
    from demeanor.inference.degraded import curves

    felt = [kind for kind in kinds if any(kind.modality in model.modalities for model in models.values())]
    if not felt:
        read = sorted({name for model in models.values() for name in model.modalities})
        raise InputError("robustness", [f"none of this touches what the models read ({', '.join(read)})"])
    steps = [(kind, level) for kind in felt for level in (None, *kind.levels)]
    found = pd.concat(
        [curves(models, degraded, kind, level) for kind, level in with_progress(steps, "worse recordings", "steps")],
        ignore_index=True,
    )
    tables = []
    for kind in felt:
        for name, model in models.items():
            own = found[(found["kind"] == kind.name) & (found["model"] == name)]
            if len(own):
                table = areas(model.task, own, kind.levels)
                tables.append(table.assign(model=name, task=model.task.name, kind=kind.name))
    made = pd.concat(tables, ignore_index=True)
    first = ["model", "task", "kind", "modalities"]
    return (
        found[[*(name for name in ("model", "task", "kind", "level") if name in found),
               *(name for name in found if name not in ("model", "task", "kind", "level"))]],
        made[[*first, *(name for name in made if name not in first)]],
    )  # fmt: skip


def short_names(models: Mapping[str, TrainedModel]) -> dict[str, str]:
    """Address -> name in tables: the branch, with its seed where a branch comes several times, else the address."""
    branches = {uri: model.card.branch for uri, model in models.items()}
    names = {
        uri: branch
        if list(branches.values()).count(branch) == 1
        else f"{branch} seed {models[uri].card.protocol.get('seed')}"
        for uri, branch in branches.items()
    }
    return names if len(set(names.values())) == len(names) else {uri: uri for uri in models}


def scored_model(model: TrainedModel) -> ScoredModel:
    """What the receipt says of a model."""
    from demeanor.pipelines.evaluation.worse import ScoredModel

    card = model.card
    seed = card.protocol.get("seed")
    return ScoredModel(
        branch=card.branch,
        seed=None if seed is None else int(seed),
        weights_sha256=model.bundle.weights_sha256,
        task=model.task,
    )


def write_reports(kept: WorseRecordings, output: Path, project: Path) -> list[Path]:
    """A page of its own; the receipt, from which later reports of the run take the section; and the section in the
    report that is there."""
    from demeanor.evaluation.report import html_report, with_section
    from demeanor.pipelines.evaluation.worse import section_of

    section = section_of(kept)
    folder = project / "data" / "08_reporting" / kept.corpus
    write_json(folder / RECEIPT, kept.as_dict())
    pages = {output / "report.html": html_report(f"Demeanor on {kept.corpus}: robustness", [section])}
    if (folder / "report.html").is_file():
        run_report = folder / "report.html"
        pages[run_report] = with_section(run_report.read_text(encoding="utf-8"), section)
    for path, text in pages.items():
        with write_atomically(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return [*pages, folder / RECEIPT]


def told(areas: pd.DataFrame, scored: str, written: Sequence[Path]) -> str:
    """What the command prints: a line for each model and kind, all modalities present, and where the rest is."""
    lines = [f"{scored}; area: mean score from clean to the hardest step, all modalities"]
    for _, own in areas.groupby("model", sort=False):
        counts = own["modalities"].str.count(r"\+")
        for row in own[counts == counts.max()].to_dict("records"):
            lines.append(
                f"  {row['model']}, {row['kind']}: {row['metric']} {row['clean']:.3f} clean, {row['hardest']:.3f} at "
                f"the hardest, area {row['area']:.3f}"
            )
    return "\n".join([*lines, *(f"written to {path}" for path in written)])
