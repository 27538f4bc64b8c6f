"""The main job on raw clips, from nothing to a registered champion that scores a recording."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import sqlite3
import time
from pathlib import Path

import click
import pandas as pd
import pytest
from click.testing import CliRunner

from demeanor.commands.predict import predict
from demeanor.data.bundle import Bundle
from demeanor.data.ragged import Ragged
from demeanor.data.stream import Stream
from demeanor.inference.model import TrainedModel
from tests.project import BRANCHES, change_settings, command, copy_of, kedro, make_project, start, typed

pytestmark = pytest.mark.slow


def receipts(folder: Path, branches: list[str] = BRANCHES) -> dict[tuple[str, int], dict]:
    entries = json.loads((folder / "data/08_reporting/demo/receipts.json").read_text(encoding="utf-8"))
    return {(entry["branch"], entry["seed"]): entry for entry in entries if entry["branch"] in branches}


def test_it_ends_with_a_table_and_a_champion(finished_project: Path):
    told = (finished_project / "run.log").read_text(encoding="utf-8")
    assert "Champion for sentiment, chosen on validation" in told
    assert "demeanor predict CLIP.mp4" in told
    comparison = pd.read_csv(finished_project / "data/08_reporting/demo/comparison.csv")
    assert set(BRANCHES) <= set(comparison["branch"])
    registration = json.loads((finished_project / "data/08_reporting/demo/registration.json").read_text())
    assert registration["sentiment"]["version"] == "1"
    for name in ("comparison", "scatter", "confusion", "ablation", "training"):
        figure = finished_project / f"data/08_reporting/demo/figures/{name}.png"
        assert figure.read_bytes().startswith(b"\x89PNG")
    assert not (finished_project / "data/06_models/demo/checkpoints").exists()
    assert not list(finished_project.rglob("*.part"))


def test_a_branch_reads_embeddings_up_to_the_sealed_test(finished_project: Path):
    """Its bundle carries the representation: evaluation and prediction need nothing else."""
    assert len(receipts(finished_project, ["embedded"])) == 2
    folder = next((finished_project / "data/06_models/demo/branches/embedded").iterdir())
    bundle = Bundle.load(folder)
    assert list(bundle.card.representations) == ["representation.principal_components"]
    clip = sorted((finished_project / "data/01_raw/demo/Raw").rglob("*.mp4"))[0]
    (answer,) = TrainedModel.load(folder).score([{"video": str(clip), "text": "Well."}]).to_dict(orient="records")
    assert answer["modalities"] == "audio+text+vision"
    assert -3.5 < answer["sentiment"] < 3.5


def test_experts_are_joined_scored_and_asked_about_words_a_voice_both_or_neither(finished_project: Path):
    """One is asked as any model is, at the command line, whatever a recording has."""
    found = receipts(finished_project, ["experts", "text_only", "voice"])
    assert {name for name, _ in found} == {"experts", "text_only", "voice"}
    assert "joined by log_pool: text_only (text of demo-synthetic" in found["experts", 1]["notes"]
    table = pd.read_csv(finished_project / "data/08_reporting/demo/trust.csv")
    assert "experts" in set(table["branch"])
    folder = finished_project / "data/06_models/demo/branches/experts/seed_1"
    clip = str(sorted((finished_project / "data/01_raw/demo/Raw").rglob("*.mp4"))[0])
    answers = []
    for given in (["--text", "I really like it."], [clip, "--text", "I really like it.", "--explain"]):
        told = CliRunner().invoke(predict, [*given, "--model", str(folder), "--json"])
        assert told.exit_code == 0, told.output
        answers += json.loads(told.output)[str(folder)]
    model = TrainedModel.load(folder)
    words, both, voice = [*answers, *model.without("text").score([{"video": clip}]).to_dict(orient="records")]
    assert [answer["modalities"] for answer in (words, both, voice)] == ["text", "audio+text", "audio"]
    assert (
        min(words["sentiment"], voice["sentiment"]) <= both["sentiment"] <= max(words["sentiment"], voice["sentiment"])
    )
    assert both["baseline"] + both["contribution_text"] + both["contribution_audio"] == pytest.approx(both["sentiment"])
    (nothing,) = model.score([{}]).to_dict(orient="records")
    assert nothing["problem"] == "nothing in it that this model reads (audio, text)"
    assert not nothing["answered"]


def test_representations_end_in_one_table(finished_project: Path):
    text = (finished_project / "data/08_reporting/demo/representations.md").read_text(encoding="utf-8")
    for name in ("majority", "conv autoencoder", "principal components", "masked transformer", "pooled features"):
        assert f"| {name} " in text
    assert "sealed" not in text
    assert "of the valid split" in text


def test_recordings_made_worse_end_in_tables_and_in_the_report(finished_project: Path, tmp_path: Path):
    folder = copy_of(finished_project, tmp_path / "project", "checkpoints")
    told = typed(folder, "demeanor robustness --output worse --clips 3 --kind words --processes 1")
    assert "3 clips of validation" in told
    curves = pd.read_csv(folder / "worse/curves.csv")
    assert set(curves["kind"]) == {"words"}
    assert set(curves["level"].dropna()) == {0.2, 0.4, 0.6, 0.8}
    assert {"sentiment", "emotion"} == set(curves["task"])
    assert pd.read_csv(folder / "worse/areas.csv")["area"].notna().all()
    assert (folder / "worse/robustness.png").read_bytes().startswith(b"\x89PNG")
    assert not (folder / "worse/work").exists()
    report = (folder / "data/08_reporting/demo/report.html").read_text(encoding="utf-8")
    assert report.count("<h2>Worse recordings</h2>") == 1
    assert "3 clips of validation" in report
    # The next evaluation writes the report anew, and takes the section from the receipt.
    (folder / "data/08_reporting/demo/report.html").unlink()
    kedro(folder, "run", "--pipelines", "evaluation", "--nodes", "evaluation.keep_selected,evaluation.write_report")
    report = (folder / "data/08_reporting/demo/report.html").read_text(encoding="utf-8")
    assert report.count("<h2>Worse recordings</h2>") == 1
    assert "3 clips of validation" in report
    assert "Left out" not in report


def test_the_champion_was_not_chosen_by_test_scores(finished_project: Path):
    champions = json.loads((finished_project / "data/06_models/demo/champions.json").read_text())
    cards = {
        branch: [
            json.loads(path.read_text())["metrics"]["MAE"]
            for path in (finished_project / f"data/06_models/demo/branches/{branch}").glob("*/card.json")
        ]
        for branch in [*BRANCHES, "embedded", "voice", "experts"]
        if branch != "emotion_fusion"
    }
    means = {branch: sum(values) / len(values) for branch, values in cards.items()}
    assert champions["sentiment"]["branch"] == min(means, key=lambda name: means[name])


def test_one_parent_run_with_a_child_per_branch_and_seed(finished_project: Path):
    with sqlite3.connect(finished_project / "mlflow.db") as store:
        rows = store.execute(
            "select r.name, r.status, t.value from runs r left join tags t "
            "on t.run_uuid = r.run_uuid and t.key = 'mlflow.parentRunId'"
        ).fetchall()
    parents = [row for row in rows if row[2] is None]
    children = [row[0] for row in rows if row[2] is not None]
    assert len(parents) == 1
    assert {f"{branch} seed {seed}" for branch in BRANCHES for seed in (1, 2)} <= set(children)
    assert all(row[1] == "FINISHED" for row in rows)


def test_mlflow_knows_models_their_data_and_the_version_that_one_became(finished_project: Path):
    """One logged model per branch and seed; its metrics name the data, of the sealed test by the digest alone."""
    from mlflow import MlflowClient

    address = f"sqlite:///{finished_project / 'mlflow.db'}"
    client = MlflowClient(address, address)
    places = [one.experiment_id for one in client.search_experiments()]
    found = client.search_logged_models(places, max_results=100)
    trained = [model for model in found if model.model_type == "trained"]
    models = {model.name: model for model in trained}
    folders = (finished_project / "data/06_models/demo/branches").iterdir()
    scored = receipts(finished_project, [folder.name for folder in folders])
    assert sorted(model.name for model in trained) == sorted(f"{branch} seed {seed}" for branch, seed in scored)
    for (branch, seed), receipt in scored.items():
        model = models[f"{branch} seed {seed}"]
        folder = finished_project / f"data/06_models/demo/branches/{branch}/seed_{seed}"
        card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
        bound = {m.key: (m.value, m.dataset_name, m.dataset_digest, m.run_id) for m in model.metrics}
        for key, value in receipt["metrics"].items():
            if value is not None:
                expected = (value, "demo-synthetic test", receipt["data_hash"], model.source_run_id)
                assert bound[f"test_{key}"] == expected
        for key, value in card["metrics"].items():
            if not math.isnan(value):
                expected = (value, "demo-synthetic valid", card["data_hash"], model.source_run_id)
                assert bound[f"valid_{key}"] == expected
        data = {one.dataset.name: one.dataset for one in client.get_run(model.source_run_id).inputs.dataset_inputs}
        assert {name: (one.digest, json.loads(one.profile)) for name, one in data.items()} == {
            f"demo-synthetic {split}": (card["data_hash"], {"num_rows": card["protocol"][split]})
            for split in ("train", "valid")
        }
    # MLflow's own table sorts the systems by what they are worth on these data.
    by_error = [{"field_name": "metrics.test_MAE", "dataset_name": "demo-synthetic test"}]
    ordered = client.search_logged_models(places, order_by=by_error, max_results=100)
    errors = {name: receipt["metrics"].get("MAE") for (branch, seed), receipt in scored.items()
              for name in [f"{branch} seed {seed}"]}  # fmt: skip
    shown = [errors[model.name] for model in ordered if errors.get(model.name) is not None]
    assert shown == sorted(shown)
    (parent,) = {client.get_run(model.source_run_id).data.tags["mlflow.parentRunId"] for model in trained}
    sealed = [one.dataset for one in client.get_run(parent).inputs.dataset_inputs]
    assert {(one.digest, one.profile, one.schema) for one in sealed} == {
        (next(iter(scored.values()))["data_hash"], None, None)
    }
    for registered in json.loads((finished_project / "data/08_reporting/demo/registration.json").read_text()).values():
        version = client.get_model_version(registered["name"], registered["version"])
        source = client.get_logged_model(version.tags["trained_model"])
        assert version.run_id == version.tags["trained_by_run"] == source.source_run_id
        assert source.name.startswith(f"{version.tags['branch']} seed ")


def test_figures_tables_and_packages_are_kept_with_the_run(finished_project: Path):
    kept = {path.name for path in (finished_project / "mlruns").rglob("artifacts/*/*") if path.is_file()}
    assert {"comparison.png", "scatter.png", "confusion.png", "ablation.png", "training.png"} <= kept
    assert {"comparison.md", "receipts.json", "packages.txt"} <= kept


def test_what_registers_runs_by_itself_on_what_is_persisted(finished_project: Path, tmp_path: Path):
    """The rest of evaluation and the other pipelines are typed by tests/test_readme.py."""
    copy = copy_of(finished_project, tmp_path / "project")
    kedro(copy, "run", "--pipelines", "representation_learning")
    table = (copy / "data/08_reporting/demo/representations.md").read_text(encoding="utf-8")
    assert table == (finished_project / "data/08_reporting/demo/representations.md").read_text(encoding="utf-8")
    nodes = "evaluation.keep_selected,evaluation.register_champions"
    kedro(copy, "run", "--pipelines", "evaluation", "--nodes", nodes)
    registered = json.loads((copy / "data/08_reporting/demo/registration.json").read_text())["sentiment"]
    assert (registered["version"], registered["previous"]) == ("2", "1")
    with sqlite3.connect(copy / "mlflow.db") as store:
        aliases = dict(
            store.execute(
                "select alias, version from registered_model_aliases where name = ?", (registered["name"],)
            ).fetchall()
        )
    assert {name: str(version) for name, version in aliases.items()} == {"champion": "2", "previous": "1"}


def wait_for(found, limit: float = 240.0) -> None:
    ends = time.monotonic() + limit
    while time.monotonic() < ends:
        if found():
            return
        time.sleep(0.02)
    raise AssertionError("what should be interrupted did not begin")


def killed(folder: Path, begun, *arguments: str) -> None:
    """The command, killed with everything that it started as soon as `begun` is true."""
    process = start(folder, *arguments)
    try:
        wait_for(begun)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def choose(folder: Path, branches: list[str]) -> None:
    """Let the project train these alone."""

    def these(settings: dict) -> None:
        settings["branches"] = {name: settings["branches"][name] for name in branches}
        settings["joined"] = {}

    change_settings(folder, "demo", these)


def test_kill_9_in_features_then_a_second_run_gives_the_same_metrics_to_the_last_digit(
    finished_project: Path, tmp_path: Path
):
    folder = make_project(tmp_path / "project")
    choose(folder, branches := ["late_fusion"])  # reads every kind of stream
    cache = folder / "data/02_intermediate/demo/cache"
    killed(folder, lambda: len(list(cache.glob("*/*.safetensors"))) >= 3, "kedro", "run")
    # Functionals are made together with the frames: what is kept of them is not told apart.
    shards = [path for path in cache.glob("*/*.safetensors") if "functionals" not in path.parent.name]
    made = sum(len(Ragged.load(path)) for path in shards)
    told = kedro(folder, "run", "--pipelines", "ingestion,feature_engineering,fusion_training")
    kept = [int(count) for count in re.findall(r"clips made, (\d+) kept from before", told)]
    assert sum(kept) == made > 0, "finished features were made again"
    assert_trained_alike(finished_project, folder, branches)


def assert_trained_alike(finished: Path, folder: Path, branches: list[str]) -> None:
    """The same metrics on validation, to the last digit, and the same weights: what is scored later follows of it."""
    for branch in branches:
        for seed in (1, 2):
            place = f"data/06_models/demo/branches/{branch}/seed_{seed}"
            expected, trained = Bundle.load(finished / place), Bundle.load(folder / place)
            assert trained.card.metrics == expected.card.metrics, place
            assert trained.weights_sha256 == expected.weights_sha256, place


def test_kill_9_in_training_then_the_same_result(finished_project: Path, tmp_path: Path):
    folder = copy_of(finished_project, tmp_path / "project", "06_models", "08_reporting")
    choose(folder, branches := ["text_only", "self_mm"])
    checkpoints = folder / "data/06_models/demo/checkpoints"
    killed(
        folder, lambda: len(list(checkpoints.glob("*/*/latest.pt"))) >= 3,
        "kedro", "run", "--pipelines", "fusion_training",
    )  # fmt: skip
    kedro(folder, "run", "--pipelines", "fusion_training")
    with sqlite3.connect(folder / "mlflow.db") as store:
        parents = store.execute(
            "select status from runs where run_uuid not in "
            "(select run_uuid from tags where key = 'mlflow.parentRunId') order by start_time"
        ).fetchall()
        running = store.execute("select count(*) from runs where status = 'RUNNING'").fetchone()
    # The finished project's own run, the one that was killed, and the one that went on.
    assert [status for (status,) in parents] == ["FINISHED", "KILLED", "FINISHED"]
    assert running == (0,)
    assert_trained_alike(finished_project, folder, branches)


def test_broken_clips_are_named_what_is_whole_of_them_is_used_and_the_run_goes_on(tmp_path: Path):
    folder = make_project(tmp_path / "project", {"train": 1, "valid": 1, "test": 1})
    raw = folder / "data/01_raw/demo/Raw"
    clips = sorted(raw.rglob("*.mp4"))[:3]
    clips[0].write_bytes(clips[0].read_bytes()[: clips[0].stat().st_size // 3])
    clips[1].write_bytes(b"")
    clips[2].write_text("this is a text file, not a film", encoding="utf-8")
    told = kedro(folder, "run", "--pipelines", "ingestion,feature_engineering", "--params", "doctor.bad_share=0.2")
    report = json.loads((folder / "data/08_reporting/demo/doctor.json").read_text(encoding="utf-8"))
    cut, empty, other = (f"{clip.parent.name}_{clip.stem}" for clip in clips)
    assert set(report["set_aside"]) == {empty, other}
    assert "empty" in report["set_aside"][empty]
    told_of = (folder / "data/08_reporting/demo/doctor.md").read_text(encoding="utf-8")
    assert all(name in told_of for name in (cut, empty, other))
    assert "set aside" in told
    table = pd.read_parquet(folder / "data/02_intermediate/demo/utterances.parquet")
    assert not {empty, other} & set(table["utterance_id"])
    # What was cut keeps its words and what is left of its picture; of its sound too little is left to be taken for it.
    (damaged,) = (finding for finding in report["findings"] if finding["kind"] == "broken_audio")
    assert damaged["count"] == 1
    assert cut in damaged["examples"][0]
    assert "the file is damaged" in damaged["examples"][0]
    streams = folder / "data/04_feature/demo"
    steps = {path.stem: len(Stream.load(path).ragged[cut]) for path in streams.rglob("*.safetensors")}
    assert steps["audio.frames"] == 0 < steps["text.words"]


def test_too_many_broken_clips_stop_the_run_and_leave_nothing_behind(tmp_path: Path):
    folder = make_project(tmp_path / "project", {"train": 1, "valid": 1, "test": 1})
    for clip in sorted((folder / "data/01_raw/demo/Raw").rglob("*.mp4"))[:4]:
        clip.write_bytes(b"")
    done = command(folder, "kedro", "run", "--pipelines", "ingestion", check=False)
    assert done.returncode != 0
    assert "more than the 5.0% that `bad_share` allows" in " ".join((done.stdout + done.stderr).split())
    assert "Traceback (most recent call last)" not in done.stdout.split("InputError")[-1]
    assert not (folder / "data/02_intermediate/demo/utterances.parquet").exists()
    assert not list(folder.rglob("*.part"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="mode"), "no column 'mode'"),
        (lambda t: t.assign(label=[7.5, *t["label"][1:]]), "7.5"),
        (lambda t: pd.concat([t, t.head(1)]), "may stand once"),
        (lambda t: t.assign(label=[None, *t["label"][1:]]), "label"),
        (lambda t: t.assign(mode=["trian", *t["mode"][1:]]), "Did you mean 'train'"),
    ],
    ids=["missing column", "label out of range", "duplicate ids", "label missing", "unknown split"],
)
def test_a_broken_table_gets_its_own_message_and_leaves_nothing(tmp_path: Path, change, message: str):
    folder = make_project(tmp_path / "project", {"train": 1, "valid": 1, "test": 1})
    path = folder / "data/01_raw/demo/label.csv"
    change(pd.read_csv(path, dtype={"clip_id": str})).to_csv(path, index=False)
    with pytest.raises(click.ClickException) as caught:
        kedro(folder, "run", "--pipelines", "ingestion")
    assert message in " ".join(caught.value.message.split())
    assert "Traceback" not in caught.value.message
    assert "Traceback (most recent call last)" in (folder / "info.log").read_text(encoding="utf-8")
    assert not list((folder / "data").glob("02_intermediate/demo/*.parquet"))
    assert not list(folder.rglob("*.part"))
