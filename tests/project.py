"""A Kedro project of its own for tests that run the whole job: a copy of this one with a cut of the demo corpus."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from demeanor.data.progress import LogLines
from tests.store import empty_store

PROJECT = Path(__file__).resolve().parents[1]
DEMO = PROJECT / "data" / "01_raw" / "demo"
#: Small enough for seconds, large enough for every branch to have something to learn from.
DIALOGUES = {"train": 4, "valid": 2, "test": 2}
#: With modality dropout, so that whichever branch becomes the champion may be asked for reasons.
TRAINING = {"seeds": [1, 2], "epochs": 3, "patience": 3, "batch_size": 16, "threads": 1, "modality_dropout": 0.1}
BRANCHES = ["text_only", "late_fusion", "self_mm", "emotion_fusion"]
#: A branch that reads what representation_learning made.
EMBEDDED = {
    "system": "text_only", "task": "sentiment", "streams": {"text": "representation.principal_components"},
    "training": TRAINING,
}  # fmt: skip
#: A branch of the voice alone, and what is joined of it and of the words alone.
VOICE = {"system": "audio_only", "task": "sentiment", "streams": {"audio": "audio.functionals"}, "training": TRAINING}
EXPERTS = {"task": "sentiment", "members": ["text_only", "voice"], "calibration": {"least": 10}}


def make_project(
    folder: Path, dialogues: dict[str, int] | None = None, embedded: bool = False, tracked: bool = True
) -> Path:
    """Copy code and configuration to `folder`, with the first dialogues of each split as its corpus.

    embedded  with a branch that needs representation_learning to have run, and experts joined of two branches
    tracked   with an empty MLflow database, as after a first run; without it the project has to make its own
    """
    folder.mkdir(parents=True)
    if tracked:
        empty_store(folder / "mlflow.db")
    # With what is compiled already, for a copy keeps its files' times.
    for name in ("src", "conf"):
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("*.egg-info"))
    shutil.rmtree(folder / "conf/local", ignore_errors=True)  # one's own settings play no part
    (folder / "conf/local").mkdir()
    for name in ("pyproject.toml", ".telemetry"):
        shutil.copy(PROJECT / name, folder / name)
    cut_corpus(folder / "data" / "01_raw" / "demo", dialogues or DIALOGUES)
    write_settings(folder, embedded)
    return folder


def copy_of(project: Path, folder: Path, *without: str) -> Path:
    """A finished project to write into, save what is called `without`; recordings are shared with the original.

    What `.venv` leads to is not the project's: copied, it would be gigabytes.
    """
    shutil.copytree(project, folder, ignore=shutil.ignore_patterns("01_raw", ".venv", *without))
    shutil.copytree(project / "data/01_raw", folder / "data/01_raw", copy_function=os.link)
    return folder


def cut_corpus(folder: Path, dialogues: dict[str, int]) -> None:
    """The first so many dialogues of each split, in the corpus' own layout."""
    table = pd.read_csv(DEMO / "label.csv", dtype={"clip_id": str})
    kept: list[str] = []
    for split, count in dialogues.items():
        kept += list(dict.fromkeys(table.loc[table["mode"] == split, "video_id"]))[:count]
    folder.mkdir(parents=True)
    table[table["video_id"].isin(kept)].to_csv(folder / "label.csv", index=False)
    sidecar = json.loads((DEMO / "sidecar.json").read_text(encoding="utf-8"))
    names = {f"{row.video_id}_{row.clip_id}" for row in table[table["video_id"].isin(kept)].itertuples()}
    sidecar["utterances"] = {name: entry for name, entry in sidecar["utterances"].items() if name in names}
    (folder / "sidecar.json").write_text(json.dumps(sidecar), encoding="utf-8")
    shutil.copy(DEMO / "ceiling.json", folder / "ceiling.json")
    for name in kept:
        shutil.copytree(DEMO / "Raw" / name, folder / "Raw" / name)


def write_settings(folder: Path, embedded: bool = False) -> None:
    """Short trainings of a few branches in the environment demo."""

    def short(settings: dict[str, Any]) -> None:
        branches = settings["branches"]
        settings["branches"] = {name: {**branches[name], "training": TRAINING} for name in BRANCHES}
        if embedded:
            settings["branches"] |= {"embedded": EMBEDDED, "voice": VOICE}
            settings["joined"] = {"experts": EXPERTS}
        for representation in settings["representations"].values():
            representation["epochs"] = 2
        settings["representations"]["conv_autoencoder"]["on_collapse"] = "warn"
        settings["registered_representations"] = ["principal_components"]
        settings["evaluation"]["resamples"] = 200
        settings["workers"] = "1"

    change_settings(folder, "demo", short)


def change_settings(folder: Path, name: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Let `change` work on what the environment `name` of the project at `folder` says."""
    place = folder / "conf" / name / "parameters.yml"
    settings = yaml.safe_load(place.read_text(encoding="utf-8"))
    change(settings)
    place.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")


def parameters_of(environment: str, conf: Path = PROJECT / "conf", **given: Any) -> dict[str, Any]:
    """All parameters of an environment, as a session reads them; `given` as by --params."""
    from demeanor.configuration import ARGUMENTS, ConfigLoader

    return ConfigLoader(str(conf), env=environment, runtime_params=given, **ARGUMENTS)["parameters"]


def environment(folder: Path, media: str = "") -> dict[str, str]:
    """Nothing of the caller's tracking store or threads leaks into the project.

    media  folder within the project whose recordings rows may name to the registered model
    """
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "KEDRO", "DEMEANOR"))}
    path = f"{folder / 'src'}{os.pathsep}{Path(sys.executable).parent}"
    return {
        **kept,
        **({"DEMEANOR_MEDIA_ROOT": str(folder / media)} if media else {}),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}",
        "PYTHONPATH": path,
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "KEDRO_DISABLE_TELEMETRY": "1",
        "COLUMNS": "200",
    }


def command(
    folder: Path, *arguments: str, check: bool = True, timeout: int = 500, media: str = ""
) -> subprocess.CompletedProcess:
    """Run `python -m ...` in the project."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder, env=environment(folder, media), capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip
    if check and done.returncode:
        raise AssertionError(
            f"{' '.join(arguments)} ended with {done.returncode}\n{done.stdout}\n{done.stderr[-8000:]}"
        )
    return done


def shell(folder: Path, *lines: str, timeout: int = 500, **variables: str) -> subprocess.CompletedProcess:
    """Lines typed one after the other into a bare shell in the project; the first that fails ends it.

    Nothing of the caller's environment is there but HOME; what `.venv` stands for is the environment that runs the
    tests. Every line is repeated on stderr before its output.
    """
    place = folder / ".venv"
    if not (Path(sys.prefix) / "bin/activate").is_file():
        pytest.skip("the tests run in no virtual environment that could be activated")
    if not place.is_symlink():
        place.symlink_to(sys.prefix)
    known = {"HOME": os.environ["HOME"], "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", **variables}
    if "PYTHONPATH" in os.environ:  # the package under test is not the installed one
        known["PYTHONPATH"] = str(folder / "src")
    arguments = ["bash", "--noprofile", "--norc", "-c", "\n".join(["set -ex", *lines])]
    typed = subprocess.Popen(
        arguments, cwd=folder, env=known, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    try:
        told, traced = typed.communicate(timeout=timeout)
    finally:
        with contextlib.suppress(ProcessLookupError):  # what is still there when the shell is not
            os.killpg(typed.pid, signal.SIGKILL)
    if typed.returncode:
        raise AssertionError(f"the last of these lines ended with {typed.returncode}\n{told}\n{traced}")
    return subprocess.CompletedProcess(arguments, typed.returncode, told, traced)


def kedro(folder: Path, *arguments: str) -> str:
    """`kedro ARGUMENTS` in this process, which spares an interpreter's start; what it printed and logged.

    Its errors are raised as they are, before the command line makes messages of them.
    """
    from kedro.framework.cli.cli import KedroCLI

    with in_project(folder) as told:
        KedroCLI(project_path=folder).main(list(arguments), standalone_mode=False)
    return told.getvalue()


def typed(folder: Path, *lines: str) -> str:
    """Lines of `kedro` and `demeanor` in this process, one after the other; what they printed and logged.

    That the installed programs do the same is what `shell` shows.
    """
    from demeanor.__main__ import main

    told = ""
    for line in lines:
        program, *arguments = shlex.split(line, comments=True)
        if program == "kedro":
            told += kedro(folder, *arguments)
            continue
        assert program == "demeanor", line
        with in_project(folder) as printed:
            try:
                main(arguments, prog_name=program, standalone_mode=False)
            except SystemExit as end:
                if end.code:
                    raise AssertionError(f"{line} ended with {end.code}\n{printed.getvalue()}") from end
        told += printed.getvalue()
    return told


@contextlib.contextmanager
def in_project(folder: Path) -> Iterator[io.StringIO]:
    """This process within the project, as `command` starts one; what is written meanwhile, on either stream."""
    import torch

    told, root, logger = io.StringIO(), logging.getLogger(), logging.getLogger("demeanor")
    before = dict(os.environ), list(sys.path), list(root.handlers), logger.level
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as OMP_NUM_THREADS does it for `command`
    # A run puts handlers of its own in the place of plain ones; they write where standard error is at the moment.
    root.addHandler(LogLines())
    logger.setLevel(logging.INFO)
    try:
        with contextlib.chdir(folder), contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
            os.environ.clear()
            os.environ.update(environment(folder))
            yield told
    finally:
        # Kedro puts the project on the path, MLflow remembers in the environment where it tracked.
        os.environ.clear()
        os.environ.update(before[0])
        sys.path[:] = before[1]
        torch.set_num_threads(threads)
        root.handlers[:] = before[2]
        logger.setLevel(before[3])
        sys.stderr.write(told.getvalue())  # for whoever reads why a test failed


def start(folder: Path, *arguments: str) -> subprocess.Popen:
    """The same in the background, in a process group of its own so that all of it can be killed at once."""
    return subprocess.Popen(
        [sys.executable, "-m", *arguments],
        cwd=folder, env=environment(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
