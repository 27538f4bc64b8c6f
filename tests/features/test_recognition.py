"""Speech to text with a tiny Whisper of random weights: what it says is nonsense, but always the same nonsense."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import transformers

from demeanor.data.utterances import make_table
from demeanor.features.base import Clip
from demeanor.features.recognition import RecognitionSettings, fill_transcripts, transcribe
from tests.features.media_samples import voice


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("whisper")
    pieces = ["<|endoftext|>", "<|startoftranscript|>", *(f"w{n}" for n in range(30))]
    (folder / "vocab.json").write_text(json.dumps({piece: n for n, piece in enumerate(pieces)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.WhisperTokenizer(
        vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"), unk_token="<|endoftext|>"
    )
    tokenizer.save_pretrained(folder)
    transformers.WhisperFeatureExtractor(feature_size=80).save_pretrained(folder)
    torch.manual_seed(1)
    config = transformers.WhisperConfig(
        d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=16, decoder_ffn_dim=16, vocab_size=len(tokenizer), num_mel_bins=80, pad_token_id=0,
        bos_token_id=0, eos_token_id=0, decoder_start_token_id=1, begin_suppress_tokens=None, suppress_tokens=None,
    )  # fmt: skip
    model = transformers.WhisperForConditionalGeneration(config)
    model.generation_config.suppress_tokens = None
    model.generation_config.begin_suppress_tokens = [0]
    model.save_pretrained(folder)
    return str(folder)


def test_missing_transcripts_are_filled_and_say_so(whisper: str):
    settings = RecognitionSettings(model=whisper, longest=5)
    clips = [
        Clip("a", text="given words", recorded=voice(1.0)), Clip("b", recorded=voice(1.0, pitch=220)),
        Clip("c", recorded=np.zeros(8000, np.float32)), Clip("d"),
    ]  # fmt: skip
    rows = [
        {"utterance_id": c.utterance_id, "corpus": "x", "split": "train", "dialogue": "d", "turn": n, "text": c.text}
        for n, c in enumerate(clips)
    ]
    table = fill_transcripts(make_table(rows), clips, settings)
    assert table["text"][0] == "given words"
    assert table["transcript"][0] == "corpus"
    assert table["text"][1]
    assert table["transcript"][1].startswith(f"recognised by {whisper}")
    assert table["text"][2:].isna().all()
    assert table["transcript"][2:].isna().all()
    assert transcribe(clips[1:2], settings) == [table["text"][1]]
    two = transcribe([Clip("e", recorded=np.tile(voice(1.0, pitch=220), 31))], settings)[0]
    assert len(two.split()) >= len(table["text"][1].split())
