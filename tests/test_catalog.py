"""The catalog: what is wrong is told at once; its datasets lie anywhere, whole, in versions, and have a preview."""

from __future__ import annotations

import base64
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pytest
from kedro.io import DataCatalog, DatasetError
from matplotlib.figure import Figure

from demeanor.catalog import examine_catalog
from demeanor.configuration import loader_of
from demeanor.data.bundle import Bundle, BundleCard
from demeanor.datasets.located import path_of
from tests.project import PROJECT
from tests.toy import SENTIMENT, toy_examples

WRONG = {
    "no_such_class": ("{type: demeanor.datasets.Parkett, filepath: data/a}", "Dataset 'Parkett' not found"),
    "no_such_module": ("{type: no.such.Module, filepath: data/a}", "No module named 'no'"),
    "no_such_argument": ("{type: pandas.CSVDataset, filepth: data/a}", "unexpected keyword argument 'filepth'"),
    "no_type": ("{filepath: data/a}", "'type' is missing"),
    "no_mapping": ("pandas.CSVDataset", "is no mapping of settings"),
    "no_file_system": ("{type: text.TextDataset, filepath: 'nowhere://a/b'}", "Protocol not known: nowhere"),
    "no_credentials": ("{type: text.TextDataset, filepath: a, credentials: mine}", "find credentials 'mine'"),
    "no_validator": ("{type: text.TextDataset, filepath: a, validator: demeanor.no.validate}", "Could not import"),
    "no_folder": ("{type: text.TextDataset, filepath: /nowhere/below/a}", "the folder /nowhere/below is not there"),
    "no_parent": ("{type: text.TextDataset, filepath: a_file/a}", "a_file is no folder"),
    "not_local": ("{type: demeanor.datasets.WorkFolder, filepath: 'memory://a'}", "a folder of this machine"),
    "'{pattern}_of'": ("{type: text.TextDataset, filepath: 'a/{other}'}", "'{other}'"),
    "bad_table": (
        "{type: demeanor.datasets.ParquetFile, filepath: bad.parquet, validator: demeanor.data.utterances.validate}",
        "utterance_id",
    ),
}  # fmt: skip


def test_every_wrong_entry_is_told_in_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shutil.copytree(PROJECT / "conf/base", tmp_path / "conf/base")
    (tmp_path / "conf/mine").mkdir()
    monkeypatch.chdir(tmp_path)
    assert examine_catalog(tmp_path / "conf", "mine").problems == []
    Path("a_file").touch()
    pd.DataFrame({"text": ["a"]}).to_parquet("bad.parquet")
    entries = "".join(f"{name}: {entry}\n" for name, (entry, _) in WRONG.items())
    (tmp_path / "conf/mine/catalog.yml").write_text(entries, encoding="utf-8")
    before = sorted(tmp_path.rglob("*"))
    report = examine_catalog(tmp_path / "conf", "mine")
    for name, (_, message) in WRONG.items():
        (problem,) = (line for line in report.problems if line.startswith(f"{name.strip(chr(39))}: "))
        assert message in problem
        assert "\n" not in problem
    assert len(report.problems) == len(WRONG)
    assert [note.partition(":")[0] for note in report.notes] == ["recordings_to_score"]
    assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / "conf/mine/catalog.yml").write_text("one: {type: [\n", encoding="utf-8")
    assert "catalog.yml" in str(examine_catalog(tmp_path / "conf", "mine"))


def toy_bundle() -> Bundle:
    card = BundleCard(branch="mine", system="late_fusion", settings={}, task=SENTIMENT, inputs={}, metrics={"MAE": 0.5})
    return Bundle(card, {"model.weight": np.arange(3, dtype=np.float32)})


def catalog_at(place: str, *names: str, **more: Any) -> DataCatalog:
    """The project's own entries, each of which lies below `place`."""
    entries = loader_of(PROJECT / "conf")["catalog"]
    chosen = {name: {**entries[name], "filepath": f"{place}/{entries[name]['filepath']}", **more} for name in names}
    return DataCatalog.from_config(chosen)


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path):
    """A folder of its own, as a path or as a URL."""
    yield {"path": str(tmp_path), "file": f"file://{tmp_path}", "memory": f"memory://{tmp_path}"}[request.param]
    memory = fsspec.filesystem("memory")
    if memory.exists(str(tmp_path)):
        memory.rm(str(tmp_path), recursive=True)


@pytest.mark.parametrize(
    ("place", "versioned"), [("path", False), ("file", True), ("memory", False), ("memory", True)], indirect=["place"]
)
def test_each_dataset_lies_anywhere_and_in_versions(place: str, versioned: bool):
    examples = toy_examples(test=0)
    bundle = toy_bundle()
    saved = {
        "comparison": examples.utterances[["utterance_id", "turn"]],
        "utterances": examples.utterances,
        "evaluation.receipts": {"a": [1, 2]},
        "summary": "read me",
        "imported_streams": dict(examples.streams),
        "development": examples,
        "representations": {"seed_1": bundle},
    }
    catalog = catalog_at(place, *saved, versioned=versioned)
    for name, data in saved.items():
        assert not catalog.exists(name)
        catalog.save(name, data)
        if versioned:
            assert len(catalog[name].list_versions()) == 1
    loaded = {name: catalog.load(name) for name in saved}
    pd.testing.assert_frame_equal(loaded["comparison"], saved["comparison"])
    pd.testing.assert_frame_equal(loaded["utterances"], saved["utterances"])
    assert (loaded["evaluation.receipts"], loaded["summary"]) == (saved["evaluation.receipts"], saved["summary"])
    same_streams(loaded["imported_streams"], examples.streams)
    assert loaded["development"].ids == examples.ids
    same_streams(loaded["development"].streams, examples.streams)
    assert loaded["representations"]["seed_1"].weights_sha256 == bundle.weights_sha256
    for name in saved:
        dataset = catalog[name]
        assert type(dataset).preview.__annotations__["return"] in ("TablePreview", "JSONPreview", "HTMLPreview")
        assert json.dumps(dataset.preview(), allow_nan=False)
        assert (path_of(dataset) is None) == place.startswith("memory")


def same_streams(one: Any, other: Any) -> None:
    assert set(one) == set(other)
    for name, stream in one.items():
        for first, second in zip(stream.ragged, other[name].ragged, strict=True):
            np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("place", ["path", "memory"], indirect=True)
def test_what_fails_leaves_the_former_file(place: str):
    catalog = catalog_at(place, "evaluation.receipts", "representations")
    catalog.save("evaluation.receipts", {"a": 1})
    with pytest.raises(Exception, match="JSON"):
        catalog.save("evaluation.receipts", {"a": 2, "b": {1, 2}})
    assert catalog.load("evaluation.receipts") == {"a": 1}
    catalog.save("representations", {"one": toy_bundle(), "two": toy_bundle()})
    with pytest.raises(Exception, match="save"):
        catalog.save("representations", {"one": toy_bundle(), "three": object()})
    assert sorted(catalog.load("representations")) == ["one", "two"]
    catalog.save("representations", {"one": toy_bundle()})
    assert sorted(catalog.load("representations")) == ["one"], "what is no longer there stays"


def test_a_dataset_is_read_while_others_write_it(tmp_path: Path):
    dataset = catalog_at(str(tmp_path), "summary")["summary"]
    dataset.save("x" * 10_000)

    def one(number: int) -> int:
        if number % 2:
            dataset.save("x" * 10_000)
        return len(dataset.load())

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(one, range(60))) == {10_000}


def test_the_latest_versions_of_branches_are_seen(tmp_path: Path):
    catalog = catalog_at(str(tmp_path), "fusion_training.{branch}_bundles", versioned=True)
    view = catalog_at(str(tmp_path), "bundles")["bundles"]
    branch = catalog.get("fusion_training.mine_bundles")
    assert branch.load() == {}
    assert view.load() == {}
    branch.save({"seed_1": toy_bundle()})
    assert list(view.load()["mine"]) == ["seed_1"]
    newer = catalog_at(str(tmp_path), "fusion_training.{branch}_bundles", versioned=True)
    newer.get("fusion_training.mine_bundles").save({"seed_2": toy_bundle()})
    assert list(view.load()["mine"]) == ["seed_2"]
    view.save({"mine": {"seed_2": toy_bundle()}})
    with pytest.raises(DatasetError, match="mine seed_1 is not stored"):
        view.save({"mine": {"seed_1": toy_bundle()}})
    assert view.preview()["index"] == ["mine seed_2"]


def test_pages_are_shown_as_pages_and_text_as_it_is_typed(tmp_path: Path):
    catalog = catalog_at(str(tmp_path), "report", "summary")
    catalog.save("report", "<h1>Report</h1>")
    catalog.save("summary", "| a < b |\n" * 5000)
    assert catalog["report"].preview() == "<h1>Report</h1>"
    shown = catalog["summary"].preview()
    assert shown.startswith("<pre>| a &lt; b |")
    assert "characters more" in shown


def test_tables_are_shown_to_four_decimals_and_figures_as_pictures(tmp_path: Path):
    catalog = catalog_at(str(tmp_path), "comparison", "{pipeline}.{figure}_figure")
    catalog.save("comparison", pd.DataFrame({"branch": ["mine"], "MAE": [2 / 3], "Corr": [float("nan")]}))
    assert catalog["comparison"].preview() == {
        "index": ["1"], "columns": ["branch", "MAE", "Corr"], "data": [["mine", 0.6667, "nan"]],
    }  # fmt: skip
    figure = catalog.get("evaluation.any_figure")
    figure.save(Figure(figsize=(1, 1)))
    assert base64.b64decode(figure.preview()).startswith(b"\x89PNG")
    assert type(figure).preview.__annotations__["return"] == "ImagePreview"


def test_what_is_not_there_names_the_pipeline(tmp_path: Path):
    catalog = catalog_at(str(tmp_path), "development", versioned=True)
    with pytest.raises(Exception, match="--pipelines feature_engineering"):
        catalog.load("development")


def test_what_ingestion_hands_on_is_not_copied():
    """A corpus that comes with features has them on disk: a copy for each of its readers would bring them to memory."""
    pattern = "ingestion.{handed}"
    catalog = DataCatalog.from_config({pattern: loader_of(PROJECT / "conf")["catalog"][pattern]})
    corpus = {"streams": toy_examples().streams}
    catalog["ingestion.raw_corpus"].save(corpus)
    assert catalog["ingestion.raw_corpus"].load() is corpus
