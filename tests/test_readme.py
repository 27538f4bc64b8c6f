"""The README keeps its word: its commands run, its example model trains, its table is the registry's."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import socket
import sqlite3
import subprocess
from pathlib import Path

import click
import pandas as pd
import pytest

from demeanor.__main__ import main
from demeanor.commands.systems import systems_table
from demeanor.models.base import System
from demeanor.packaged import with_command
from demeanor.training import fit as training
from demeanor.training.settings import BranchSettings, TrainingSettings
from tests.project import PROJECT, change_settings, copy_of, cut_corpus, shell, typed
from tests.test_citations import anchors_of
from tests.toy import SENTIMENT, toy_examples, toy_score

README = (PROJECT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands(text: str) -> list[str]:
    """Lines of a block without their comments."""
    lines = [re.split(r"\s+#", line, maxsplit=1)[0].strip() for line in text.splitlines()]
    return [line for line in lines if line]


#: Commands that no test can type here, and what they need; the second test below looks at what can be seen without it.
NEEDS = {
    "make": "only lists the targets",
    "make run": "an installation from nothing",
    "make test": "an installation from nothing",
    "make mlflow": "a browser",
    "make viz": "a browser",
    "kedro run --env mosi": "MOSI's feature file",
    "kedro run --env mosi --pipelines tuning": "MOSI's feature file",
    "make test-avx2": "an installation from nothing",
    "demeanor timeline interview.mp4 --output interview.html": "a recording; tests/timeline has the command",
    "demeanor predict FOLDER --output answers.parquet": "recordings; tests/timeline has the command",
    "kedro package": "a network, for the wheel is built in an environment of its own",
    "cd /elsewhere && python -m venv venv && venv/bin/pip install -c constraints.txt dist/*.whl": "a network",
    "venv/bin/python -m demeanor --conf-source=conf-demeanor.tar.gz --pipelines=ingestion"
    " --params corpus.options.path=~/clips": "the wheel installed; tests/test_packaged.py has the command itself",
    "python -m demeanor": "the same",
    "demeanor run": "the same",
    "demeanor export MODEL FOLDER": "a model; tests/inference/test_hub.py has one",
    "demeanor robustness --output FOLDER": "minutes; tests/inference/test_degraded.py has what it does",
    "demeanor promote NAME": "a challenger; tests/serving/test_standing.py has one",
    "demeanor serve models:/demeanor-demo-synthetic-sentiment@champion": "a client beside it; tests/server has both",
    "demeanor send-tracking FOLDER": "a server that was away; tests/test_outbox.py has one",
    "python -m demeanor.corpora.demo": "minutes; tests/corpora/test_demo_generator.py makes a part of the corpus",
}
#: Commands within the text that a test types with a file of its own in place of the capitals.
INLINE = re.compile(r"`((?:make|kedro|demeanor|mlflow|python -m|pip|torchrun)(?: [^`]+)?)`")
BLOCKS = [commands(block) for block in blocks("bash")]
ACTIVATION, JOB, SERVING, OWN, TUNING = range(5)
IMPORTS = [name for name in INLINE.findall(README) if name.startswith("demeanor import-checkpoint ")]


def test_every_command_is_typed_or_says_what_it_needs():
    shown = [line for block in blocks("text") for line in commands(block)] + INLINE.findall(README)
    typed = [line for block in BLOCKS for line in block]
    unknown = {line for line in shown if line not in NEEDS and line not in typed and line not in IMPORTS}
    # A command without its arguments is a name, not something to type.
    unknown = {line for line in unknown if not any(other.startswith(f"{line} ") for other in typed)}
    assert not unknown
    assert [block[0].split()[0] for block in BLOCKS] == [".", "kedro", "export", "demeanor", "kedro"]
    assert set(NEEDS) <= {*shown, *typed}, "these are no longer in the README"
    assert not re.findall(r"```\n(?:kedro|demeanor|mlflow|make) ", README), "a block without its language"


@pytest.mark.parametrize("line", NEEDS)
def test_those_that_are_not_typed_are_understood_at_least(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    program, *arguments = shlex.split(line)
    if program == "make":
        planned = subprocess.run(
            [program, "--dry-run", *arguments], cwd=PROJECT, capture_output=True, text=True, check=False
        )
        assert planned.returncode == 0, planned.stderr
        assert planned.stdout
    elif program == "kedro":
        from kedro.framework.cli.project import project_group

        name, *options = arguments
        given = project_group.commands[name].make_context(name, options).params
        assert name != "run" or (PROJECT / "conf" / given["env"]).is_dir()
    elif program == "cd":
        assert subprocess.run(["bash", "-n", "-c", line], check=False).returncode == 0
        assert all((PROJECT / name).is_file() for name in re.findall(r"-c (\S+)", line))
    elif line.endswith("demeanor.corpora.demo"):
        assert importlib.util.find_spec(arguments[-1] + ".__main__") is not None
    else:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "conf-demeanor.tar.gz").touch()
        (tmp_path / "FOLDER").mkdir()
        after_name = arguments[2:] if arguments[:2] == ["-m", "demeanor"] else arguments
        name, *options = with_command(after_name)
        found = main.get_command(click.Context(main), name)
        assert found is not None
        found.make_context(name, options)


def scores(folder: Path) -> dict[tuple[str, int], dict[str, float]]:
    """Of each branch and seed on the sealed test."""
    entries = json.loads((folder / "data/08_reporting/demo/receipts.json").read_text(encoding="utf-8"))
    return {(entry["branch"], entry["seed"]): entry["metrics"] for entry in entries}


@pytest.mark.slow
def test_the_commands_of_the_job(finished_project: Path, tmp_path: Path):
    """Each runs by itself on what is persisted, and comes to what the whole job came to."""
    first, stages, branch, *others = BLOCKS[JOB]
    assert first == "kedro run", "this one has made the project that is copied, typed into a shell"
    folder = copy_of(finished_project, tmp_path / "project")
    assert "audio.waveform: 0 clips made, 73 kept from before" in typed(folder, stages)
    trained = typed(folder, branch)
    assert "late_fusion seed 1" in trained
    assert "text_only seed 1" not in trained
    told = typed(folder, *others)
    assert "from audio, text, vision" in told
    assert "Doctor's report: demo-synthetic" in told
    assert "- fusion_training" in told
    assert scores(folder) == scores(finished_project)


@pytest.mark.slow
def test_the_commands_of_serving(finished_project: Path, tmp_path: Path):
    """With the champion of emotion in place of sentiment's, which after three epochs may be one that only reads."""
    folder = copy_of(finished_project, tmp_path / "project")
    assert sum("-sentiment@champion" in line for line in BLOCKS[SERVING]) == 2
    lines = (line.replace("-sentiment@", "-emotion@") for line in BLOCKS[SERVING])
    export, root, rows, predict, serve, ask = lines
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert "localhost:5000/" in ask
    until_it_answers = f"for second in $(seq 120); do {ask.replace('5000', str(port))} && break; sleep 1; done"
    # The server is the line typed in the first terminal, here in the background; it ends with the shell.
    done = shell(
        folder, *BLOCKS[ACTIVATION], export, root, rows, predict, "echo", f"{serve} > server.log 2>&1 &",
        "trap 'pkill -P $!; kill $!' EXIT", until_it_answers, MLFLOW_PORT=str(port),
    )  # fmt: skip
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"predictions"')]
    assert len(answers) == 2, done.stdout
    (predicted,), (served,) = (answer["predictions"] for answer in answers)
    assert predicted["modalities"] == served["modalities"] == "audio+text+vision"
    assert predicted["problem"] == served["problem"] == ""
    assert predicted["emotion"] == served["emotion"]
    shares = [name for name in predicted if name.startswith("probability_")]
    assert [predicted[name] for name in shares] == pytest.approx([served[name] for name in shares], abs=1e-6)
    assert len(shares) > 2


@pytest.mark.slow
def test_the_commands_for_own_clips(finished_project: Path, tmp_path: Path):
    """The layout is what the README says and nothing more; `/data/mine` lies where the test may write."""
    mine = tmp_path / "data" / "mine"
    columns = re.findall(r"columns `([^`]+)`", README.split("## Your own clips")[1])[0].split(", ")
    cut_corpus(mine, {"train": 2, "valid": 1, "test": 1})
    table = pd.read_csv(mine / "label.csv", dtype={"clip_id": str})
    table[columns].to_csv(mine / "label.csv", index=False)
    for extra in ("sidecar.json", "ceiling.json"):
        (mine / extra).unlink()
    folder = copy_of(finished_project, tmp_path / "project")
    short = {"seeds": [1], "epochs": 2, "batch_size": 16, "threads": 1}

    def quick(settings: dict) -> None:
        for branch in settings["branches"].values():
            branch["training"] = short
        settings["evaluation"] = {"resamples": 200}
        settings["workers"] = "1"

    change_settings(folder, "folder", quick)
    doctor, job = (line.replace("/data/mine", str(mine)) for line in BLOCKS[OWN])
    assert "# Doctor's report: mine" in shell(folder, *BLOCKS[ACTIVATION], doctor).stdout
    assert "demeanor-mine-sentiment" in typed(folder, job)
    assert "ceiling" not in (folder / "data/08_reporting/folder/comparison.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_commands_of_tuning(finished_project: Path, tmp_path: Path):
    """With two trials, then three, in place of twenty and fifty; the settings that are found reproduce their score."""
    folder = copy_of(finished_project, tmp_path / "project", "mlruns")
    change_settings(folder, "demo", lambda settings: settings["tuning"].update(trials=2))
    lines = [line.replace("tuning.trials=50", "tuning.trials=3") for line in BLOCKS[TUNING] if line not in NEEDS]
    assert len(lines) == len(BLOCKS[TUNING]) - 1
    assert "--env demo_tuned" in typed(folder, *lines)
    trials = pd.read_csv(folder / "data/08_reporting/demo/tuning.csv")
    assert list(trials["trial"]) == [0, 1, 2]
    card = json.loads((folder / "data/06_models/demo/branches/late_fusion/seed_1/card.json").read_text())
    assert card["metrics"]["MAE"] == trials["MAE"].min()
    with sqlite3.connect(folder / "mlflow.db") as store:
        children = store.execute(
            "select r.name, p.value from runs r "
            "join tags p on p.run_uuid = r.run_uuid and p.key = 'mlflow.parentRunId' "
            "join tags t on t.run_uuid = r.run_uuid and t.key = 'tuning'"
        ).fetchall()
        parents = store.execute("select run_uuid from runs where name = 'tuning'").fetchall()
    assert {name for name, _ in children} == {f"late_fusion trial {n}" for n in range(3)}
    assert {parent for _, parent in children} == {parent for (parent,) in parents}
    assert len(parents) == 2, "one for each command that searched"


@pytest.mark.slow
def test_the_commands_that_import_checkpoints(tmp_path: Path):
    from tests.checkpoints.test_mmml import save
    from tests.checkpoints.test_speech_tokens import release

    project = tmp_path / "project"
    project.mkdir()
    save(tmp_path, "audio_spec", "RH_loss_mosi_1_0.5687.pth")
    release(tmp_path / "release")
    files = {
        "mmml": ("FILE.pth --output FOLDER", f"{tmp_path / 'RH_loss_mosi_1_0.5687.pth'} --output bundle"),
        "tab_fusion": ("FOLDER --output speech", f"{tmp_path / 'release'} --output speech"),
    }
    assert sorted(line.split()[2] for line in IMPORTS) == sorted(files)
    lines = [line.replace(*files[line.split()[2]]) for line in IMPORTS]
    assert not set(lines) & set(IMPORTS)
    typed(project, *lines)
    assert (project / "bundle/card.json").is_file()
    assert (project / "speech").is_dir()


def test_its_example_model_trains_like_any_other(monkeypatch):
    (code,) = blocks("python")
    space: dict = {"__name__": "readme"}
    exec(compile(code, "README.md", "exec"), space)
    system = space["MeanOfWords"]
    assert issubclass(system, System)
    for module in ("demeanor.models", "demeanor.training.fit", "demeanor.inference.predict"):
        monkeypatch.setattr(f"{module}.find_system", lambda name: system)
    settings = BranchSettings(
        system="mean_of_words", streams={"text": "text.words"}, training=TrainingSettings(epochs=2, threads=1)
    )
    development = toy_examples().split("train", "valid")
    trained = training.fit("mean", settings, SENTIMENT, development, 1, toy_score, progress=False)
    assert trained.bundle.parameters > 0


def test_its_table_of_systems_is_the_registrys():
    shown = README.split("<!-- systems -->\n")[1].split("<!-- end of systems -->")[0]
    assert shown.strip() == systems_table().strip()


@pytest.mark.parametrize("path", re.findall(r"\]\(([^)h#][^)]*)\)", README))
def test_what_it_points_to_is_there(path: str):
    page, _, anchor = path.partition("#")
    assert (PROJECT / page).exists()
    assert not anchor or anchor in anchors_of(page.removeprefix("docs/"))
