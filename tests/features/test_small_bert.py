"""The bundled encoder without the library that has all of them: the same ids, offsets and states."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from demeanor.features.hub import bundled_minilm, load_model, load_tokenizer
from tests.project import PROJECT, environment

TEXTS = ["what a lovely day", "Ça va, naïve café? 北京 🙂 it's ok-ish", "a " * 700, ""]


@pytest.fixture(scope="module")
def theirs():
    import transformers

    folder = str(bundled_minilm())
    return transformers.AutoTokenizer.from_pretrained(folder), transformers.AutoModel.from_pretrained(folder).eval()


def test_ids_and_offsets_are_those_of_the_library(theirs):
    own, other = load_tokenizer("minilm"), theirs[0]
    for options in ({}, {"add_special_tokens": False}, {"truncation": True, "max_length": 20}):
        assert own(TEXTS, **options)["input_ids"] == other(TEXTS, **options)["input_ids"]
    for text in TEXTS:
        told = own(text, add_special_tokens=False, return_offsets_mapping=True)
        known = other(text, add_special_tokens=False, return_offsets_mapping=True)
        assert (told["input_ids"], told["offset_mapping"]) == (known["input_ids"], known["offset_mapping"])
    assert own.get_vocab() == other.get_vocab()
    assert (own.pad_token_id, own.model_max_length) == (other.pad_token_id, other.model_max_length)


@torch.inference_mode()
def test_states_are_those_of_the_library(theirs):
    own, other = load_model("minilm"), theirs[1]
    ids = torch.randint(1000, 30_000, (3, 40), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(40) < torch.tensor([[40], [17], [1]])).long()
    device = next(own.parameters()).device
    made = own(input_ids=ids.to(device), attention_mask=mask.to(device), output_hidden_states=True)
    known = other(input_ids=ids, attention_mask=mask, output_hidden_states=True)
    assert len(made.hidden_states) == len(known.hidden_states)
    for one, state in zip(made.hidden_states, known.hidden_states, strict=True):
        torch.testing.assert_close(one.cpu()[mask.bool()], state[mask.bool()], atol=1e-5, rtol=1e-4)


def test_the_library_is_not_imported_for_it():
    code = "import sys; from demeanor.features.hub import load_tokenizer, resolve; load_tokenizer('minilm'); "
    code += "resolve('minilm'); print('transformers' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, env=environment(PROJECT), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
