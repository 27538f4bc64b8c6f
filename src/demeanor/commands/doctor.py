"""`demeanor doctor`: what is wrong with a corpus."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from demeanor.arguments import TEXTS_OF_CORPORA
from demeanor.commands.models import project_folder

if TYPE_CHECKING:
    from demeanor.corpora.base import CorpusSettings


@click.command()
@click.argument("corpus", default="demo", metavar="[ENVIRONMENT|PATH]")
@click.option("--quick", is_flag=True, help="Do not open the recordings.")
@click.option("--reader", help="Of a path: how to read it, where that cannot be told from its names.")
@click.option("--name", help="Of a path: what to call the corpus. Default: what the folder or file is called.")
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="Of a path: an option of its reader.")
def doctor(corpus: str, quick: bool, reader: str | None, name: str | None, options: tuple[str, ...]) -> None:
    """Look at a corpus and report what is wrong with it; nothing is written.

    The corpus is that of an environment of this project (by default the demo), or what lies at a path: a folder of
    recordings, a table or a feature file, read as its names say. Of an environment the catalog is looked at as well.
    """
    import tempfile

    from demeanor.corpora.doctor import DoctorSettings
    from demeanor.pipelines.ingestion.nodes import examine_corpus, probe_media

    project = project_folder()
    folders = (path.name for path in (project / "conf").glob("*") if path.is_dir())
    known = sorted(name for name in folders if name not in ("base", "local"))
    given = [f"--{key}" for key, value in (("reader", reader), ("name", name), ("option", options)) if value]
    sound = True
    if corpus in known and not given:
        from demeanor.catalog import examine_catalog

        settings, parameters = environment_corpus(project, corpus)
        catalog = examine_catalog(project / "conf", corpus)
        click.echo(catalog)  # at once: the corpus may be one that cannot be read at all
        sound = not catalog.problems
    else:
        settings, parameters = path_corpus(corpus, known, reader, name, options), {}
    with tempfile.TemporaryDirectory() as place:
        read = settings.read(Path(place))
        probes = {} if quick else probe_media(read)
        report, _, text = examine_corpus(read, probes, DoctorSettings(**parameters))
    click.echo(text)
    sys.exit(0 if sound and all(finding.severity != "error" for finding in report.findings) else 1)


def environment_corpus(project: Path, environment: str) -> tuple[CorpusSettings, dict[str, Any]]:
    """CorpusSettings of an environment and what its doctor is told; its paths are meant from the project's root."""
    from demeanor.configuration import loader_of
    from demeanor.corpora.base import CorpusSettings

    parameters = loader_of(project / "conf", environment)["parameters"]
    os.chdir(project)
    return CorpusSettings(**parameters["corpus"]), parameters.get("doctor", {})


def path_corpus(
    path: str, known: Sequence[str], reader: str | None, name: str | None, options: tuple[str, ...]
) -> CorpusSettings:
    """CorpusSettings of what lies at a path. InputError where its reader refuses an option. click's UsageError for
    options or a path that cannot be."""
    import yaml
    from pydantic import ValidationError

    from demeanor.corpora.guessing import settings_for
    from demeanor.data.errors import InputError, nearest

    place = Path(os.path.expanduser(path))
    if not place.exists():
        hint = nearest(path, known) if known else " Environments are known within a project only."
        raise click.UsageError(f"There is no file or folder '{path}' here, and no environment of that name.{hint}")
    pairs = [option.partition("=") for option in options]
    try:
        chosen = {
            key: value if key in TEXTS_OF_CORPORA else yaml.safe_load(value)
            for key, equals, value in pairs
            if key and equals
        }
    except yaml.YAMLError as error:
        raise click.UsageError(f"--option holds a value that cannot be read: {error}") from None
    if len(chosen) < len(options):
        raise click.UsageError(f"--option takes KEY=VALUE, each key once, not {', '.join(options)}.")
    try:
        return settings_for(place, reader, name, chosen)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, entry['loc']))}: {entry['msg']}" for entry in error.errors()]
        raise InputError(path, problems, "docs/corpora.md lists each reader's options.") from None
