"""MMML's input rules against the original's data loader: rows, tokens, waveforms, context; exact."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from demeanor.corpora.base import CorpusSettings
from demeanor.models.mmml.inputs import (
    PCM_SCALE,
    SEPARATOR,
    cut_tokens,
    cut_waveform,
    history,
    join_tokens,
    normalise_waveform,
    order_clips,
    prepare_waveforms,
    sentence_case,
    tokenise,
)
from tests.parity.golden import PROJECT, cases, golden_file

LIMIT = 96_000
SPLITS = ("train", "valid", "test")


def tokenizer_of(language: str):
    from transformers import BertTokenizerFast, RobertaTokenizerFast

    folder = golden_file("mmml", "tokenizers")
    if language == "zh":
        return BertTokenizerFast(vocab=str(folder / "bert_zh_tiny_vocab.txt"))
    tiny = folder / "roberta_tiny"
    return RobertaTokenizerFast(vocab=str(tiny / "vocab.json"), merges=str(tiny / "merges.txt"))


def mono(wavs: np.lib.npyio.NpzFile, path: str) -> np.ndarray:
    samples = wavs[path].astype(np.float32) / np.float32(PCM_SCALE)
    return samples.mean(axis=1, dtype=np.float32) if samples.ndim == 2 else samples


def assert_waveforms(found: list[np.ndarray], arrays, key: str) -> None:
    expected = arrays[f"{key}_inputs_trimmed"]
    assert [len(value) for value in found] == arrays[f"{key}_masks_sum"].astype(int).tolist()
    for row, value in enumerate(found):
        np.testing.assert_array_equal(value, expected[row, : len(value)])
        assert not expected[row, len(value) :].any()


def assert_batched(raw: list[np.ndarray], found: list[np.ndarray], keep: str) -> None:
    """The batched preparation of the system agrees with the exact one of the loader."""
    longest = max([1, *map(len, raw)])
    values = torch.zeros((len(raw), longest))
    mask = torch.zeros((len(raw), longest), dtype=torch.bool)
    for row, samples in enumerate(raw):
        values[row, : len(samples)] = torch.from_numpy(samples)
        mask[row, : len(samples)] = True
    prepared, lengths = prepare_waveforms(values, mask, LIMIT, keep)
    assert lengths.tolist() == [len(value) for value in found]
    for row, value in enumerate(found):
        np.testing.assert_allclose(prepared[row, : len(value)].numpy(), value, atol=2e-6)
        assert not prepared[row, len(value) :].any()


@pytest.mark.parametrize("path", cases("mmml", "loader_mosi_ctx*.npz"))
@pytest.mark.parametrize("split", SPLITS)
def test_english_rows_with_context(path: Path, split: str):
    arrays, tokenizer = np.load(path), tokenizer_of("en")
    wavs = np.load(golden_file("mmml", "loader_wavs_pcm16.npz"))
    turns, sounds = map(int, re.search(r"ctx(\d+)_(\d+)", path.stem).groups())
    table = order_clips(pd.read_csv(golden_file("mmml", "loader_mosi_label.csv"), dtype={"text": str}), split)
    information = json.loads(str(arrays["info_json"]))

    clips = [f"{row.video_id}/{row.clip_id}.wav" for row in table.itertuples()]
    texts = [sentence_case(text) for text in table["text"]]
    assert clips == information[split]
    assert texts == information[f"{split}_text"]
    np.testing.assert_array_equal(table["label"].to_numpy(np.float32), arrays[f"{split}/targets"])

    videos = list(table["video_id"])
    before = history(videos, turns)
    joined = [SEPARATOR.join(texts[row] for row in rows) for rows in before]
    for key, values in (("text", texts), ("text_context", joined)):
        ids, mask = tokenise(tokenizer, values, 96)
        np.testing.assert_array_equal(ids, arrays[f"{split}/{key}_tokens"])
        np.testing.assert_array_equal(mask, arrays[f"{split}/{key}_masks"])
    # The context from token rows, as the system builds it, has the ids of the joined string.
    rows = [np.array(tokenizer(text)["input_ids"]) for text in texts]
    for past, expected, real in zip(
        before, arrays[f"{split}/text_context_tokens"], arrays[f"{split}/text_context_masks"], strict=True
    ):
        if past:
            np.testing.assert_array_equal(join_tokens([rows[n] for n in past], 96, "oldest"), expected[real > 0])

    heard = [mono(wavs, f"MOSI/{clip}") for clip in clips]
    cut = [normalise_waveform(cut_waveform(samples, LIMIT)) for samples in heard]
    assert_waveforms(cut, arrays, f"{split}/audio")
    assert_batched(heard, cut, "oldest")
    past = [
        np.concatenate([heard[row] for row in rows]) if rows else np.zeros(0, np.float32)
        for rows in history(videos, sounds)
    ]
    cut = [normalise_waveform(cut_waveform(samples, LIMIT)) for samples in past]
    assert_waveforms(cut, arrays, f"{split}/audio_context")
    assert_batched(past, cut, "oldest")
    assert_batched(past, [normalise_waveform(cut_waveform(samples, LIMIT, "newest")) for samples in past], "newest")


@pytest.mark.parametrize("path", cases("mmml", "loader_mosi_context_strings*.json"))
def test_context_strings(path: Path):
    table = order_clips(pd.read_csv(golden_file("mmml", "loader_mosi_label.csv"), dtype={"text": str}), "train")
    texts = [sentence_case(text) for text in table["text"]]
    before = history(list(table["video_id"]), 2)
    found = [SEPARATOR.join(texts[row] for row in rows) for rows in before]
    assert found == [entry["context_string"] for entry in json.loads(path.read_text())]


@pytest.mark.parametrize("path", cases("mmml", "loader_sims*.npz"))
@pytest.mark.parametrize("split", SPLITS)
def test_chinese_rows(path: Path, split: str):
    arrays, tokenizer = np.load(path), tokenizer_of("zh")
    wavs = np.load(golden_file("mmml", "loader_wavs_pcm16.npz"))
    table = pd.read_csv(golden_file("mmml", "loader_sims_label.csv"), dtype={"text": str})
    table = table[table["mode"] == split]
    clips = [f"{row.video_id}/{int(row.clip_id):04d}.wav" for row in table.itertuples()]
    assert clips == json.loads(str(arrays["info_json"]))[split]
    ids, mask = tokenise(tokenizer, list(table["text"]), 64)
    np.testing.assert_array_equal(ids, arrays[f"{split}/text_tokens"])
    np.testing.assert_array_equal(mask, arrays[f"{split}/text_masks"])
    for letter, column in (("M", "label"), ("T", "label_T"), ("A", "label_A")):
        np.testing.assert_array_equal(table[column].to_numpy(np.float32), arrays[f"{split}/targets/{letter}"])
    heard = [mono(wavs, f"SIMS/{clip}") for clip in clips]
    assert_waveforms([normalise_waveform(cut_waveform(samples, LIMIT)) for samples in heard], arrays, f"{split}/audio")


@pytest.mark.parametrize("path", cases("mmml", "loader_mosi_ctx2_1*.npz"))
def test_longer_rows_are_cut_as_the_loader_cuts_them(path: Path):
    arrays, tokenizer = np.load(path), tokenizer_of("en")
    text = max(json.loads(str(arrays["info_json"]))["train_text"], key=len)
    whole = torch.tensor([tokenizer(text)["input_ids"]])
    ids, mask = cut_tokens(whole, torch.ones_like(whole, dtype=torch.bool), 96)
    assert bool(mask.all())
    np.testing.assert_array_equal(ids[0].numpy(), tokenise(tokenizer, [text], 96)[0][0])
    newest, _ = cut_tokens(whole, torch.ones_like(whole, dtype=torch.bool), 96, "newest")
    np.testing.assert_array_equal(newest[0].numpy(), tokenise(tokenizer, [text], 96, "newest")[0][0])
    assert newest[0, 1:].tolist() == whole[0, -95:].tolist()


def test_the_corpus_reader_writes_letters_as_the_original_loader_reads_them(tmp_path):
    """`letters: sentence` of label_csv, which the environments for MOSI and MOSEI set."""
    texts = ["I LOVED IT", "ÉTÉ OR NOT", "a", "OK... NOT REALLY", "iPHONE IS GREAT"]
    rows = [
        {"video_id": "v", "clip_id": n, "text": text, "label": 0.0, "mode": "train"} for n, text in enumerate(texts)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "label.csv", index=False)
    options = {"path": str(tmp_path), "letters": "sentence"}
    corpus = CorpusSettings(reader="label_csv", options=options).read(tmp_path / "read")
    assert corpus.utterances["text"].tolist() == [sentence_case(text) for text in texts]
    for name in ("mosi", "mosei"):
        path = PROJECT / "conf" / f"{name}_recordings" / "parameters.yml"
        assert yaml.safe_load(path.read_text(encoding="utf-8"))["corpus"]["options"]["letters"] == "sentence"
