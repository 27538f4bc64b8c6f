"""Word vectors, byte pairs and context windows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from demeanor.data.errors import InputError
from demeanor.data.ragged import Ragged
from demeanor.data.utterances import make_table
from demeanor.features import find_extractor
from demeanor.features.base import Clip
from demeanor.features.bpe import ByteLevelPieces
from demeanor.features.clips import clips_of
from demeanor.features.context import window_slots
from demeanor.features.glove import load_vectors
from tests.parity.golden import PROJECT, cases


@pytest.fixture
def vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEMEANOR_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "vectors.txt"
    path.write_text("the 1 0 0\nGood 0 1 0\ngood 0 0.5 0.5\n. . 9 9 9\nthe 7 7 7\nit's 2 2 2\n")
    return path


def test_words_find_their_vectors(vectors: Path):
    clip = Clip("a", text="The  Good, it's (good)! zork")
    extractor = find_extractor("glove", {"vectors": str(vectors)})
    values = extractor.extract_clip(clip)
    expected = [[1, 0, 0], [0, 1, 0], [2, 2, 2], [0, 0.5, 0.5], [0, 0, 0]]
    np.testing.assert_array_equal(values, np.array(expected, np.float32))
    kept = find_extractor("glove", {"vectors": str(vectors), "case": "keep"}).extract_clip(clip)
    assert not kept[0].any()
    assert extractor.remark(Ragged.from_sequences({"a": values})) == "1 of 5 words have no vector and are zero"
    assert load_vectors(vectors).find(". .").tolist() == [9, 9, 9]
    assert isinstance(load_vectors(vectors).vectors, np.memmap)
    assert extractor.provenance().weights_sha256 == load_vectors(vectors).sha256


def test_a_header_is_passed_over_and_damage_is_named(vectors: Path):
    vectors.write_text("2 3\na 1 2 3\nb 4 5 6\n")
    assert load_vectors(vectors).find("b").tolist() == [4, 5, 6]
    vectors.write_text("a 1 2 3\nb 4 x 6\n")
    with pytest.raises(InputError, match="line 2"):
        load_vectors(vectors)
    with pytest.raises(InputError, match="no such file"):
        load_vectors(vectors.with_name("none.txt"))


def real_tables() -> Path:
    folder = PROJECT.parent / "shared" / "data" / "tokenizers" / "gpt2_bpe"
    if not folder.is_dir():
        pytest.skip("no byte-pair tables beside the project")
    return folder


@pytest.mark.parametrize("path", cases("tab_fusion", "b_tokens.json"))
def test_byte_pairs_are_those_of_roberta(path: Path):
    pieces, golden = ByteLevelPieces(real_tables()), json.loads(path.read_text())["text_examples_documented"]
    for text, expected in golden["roberta"].items():
        assert pieces.ids(text) == expected
    for text, expected in golden["gpt2_raw_ids"].items():
        assert pieces.raw(text) == expected
    assert pieces.size == 50265


def test_byte_pair_stream_keeps_its_end():
    settings = {"folder": str(real_tables()), "max_length": 5, "lower_case": True}
    extractor = find_extractor("roberta_bpe", settings)
    values, none = extractor.extract([Clip("a", text="Hello World and all that"), Clip("b")])
    assert values[:, 0].tolist()[0] == 0
    assert values[:, 0].tolist()[-1] == 2
    assert len(values) == 5
    assert len(none) == 0


@pytest.mark.parametrize("path", cases("tab_fusion", "c_context*.npz"))
def test_context_slots(path: Path):
    golden = np.load(path)
    turns, kept = golden["turns"], golden["kept"]
    for name in (name for name in golden.files if name.startswith("correct_")):
        size = int(name.rsplit("_c", 1)[1])
        after = 0 if "past" in name else size
        pool = kept if "kept_only" in name else np.arange(len(turns))
        for row, target in enumerate(kept):
            own = [n for n in pool if tuple(turns[n, :2]) == tuple(turns[target, :2])]
            slots = window_slots(len(own), own.index(target), size, after)
            found = [own[slot] if slot >= 0 else -1 for slot in slots]
            np.testing.assert_array_equal(found, golden[name][row], err_msg=name)


def test_context_is_made_of_the_sentences_of_the_dialogue():
    rows = [
        {"utterance_id": f"u{n}", "corpus": "c", "split": "train", "dialogue": "ab"[n > 3], "turn": n, "text": text}
        for n, text in enumerate(["one two", "three", None, "four", "five", "six"])
    ]
    clips = clips_of(make_table(rows), Path("."))
    context = find_extractor("hf_context", {"before": 2, "after": 1})
    sentence = find_extractor("hf_sentence", {"pooling": "cls", "normalise": False})
    single = {clip.text: sentence.extract_clip(clip)[0] for clip in clips if clip.text}
    values = context.extract(clips)
    expected = {
        0: [None, None, "one two", "three"],
        1: [None, "one two", "three", None],
        3: ["three", None, "four", None],
    }
    expected |= {4: [None, None, "five", "six"], 5: [None, "five", "six", None]}
    assert len(values[2]) == 0
    for n, slots in expected.items():
        for slot, text in zip(values[n].reshape(4, -1), slots, strict=True):
            np.testing.assert_allclose(slot, 0 if text is None else single[text], atol=1e-5)
    assert context.extract_clip(clips[3]).shape == (1, 4 * 384)
