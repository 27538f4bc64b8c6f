"""One importer for every system whose published weights have names: other names in, the same outputs out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from demeanor.__main__ import main
from demeanor.checkpoints.importing import import_checkpoint
from demeanor.checkpoints.published import PREFIX, importable
from demeanor.data.batch import Padded
from demeanor.data.bundle import Bundle
from demeanor.data.errors import InputError, ProvenanceError
from demeanor.inference.model import TrainedModel
from demeanor.models import find_published, find_system
from demeanor.models.base import System
from demeanor.models.blocks.layers import our_name
from tests.parity.mmsa import batch_of, sentiment, specifications

BERT = {
    "model_type": "bert", "vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 24, "max_position_embeddings": 32, "type_vocab_size": 2, "pad_token_id": 0,
    "layer_norm_eps": 1e-12,
}  # fmt: skip
TEXT, AUDIO, VISION, STEPS = 24, 7, 9, 6
#: Its widths meet in one matrix: the weights cannot tell them apart.
MERGED = {"ef_lstm": {"text": TEXT, "audio": AUDIO, "vision": VISION}}
#: Read token ids; the others frozen word states.
FINE_TUNED = {"self_mm", "misa", "tetfn"}


def settings_of(name: str) -> dict[str, Any]:
    kind = find_system(name)
    given = kind.tiny().model_dump() if hasattr(kind, "tiny") else {}
    if "reference" in kind.Settings.model_fields:
        given["reference"] = True
    if "encoder_configuration" in kind.Settings.model_fields:
        given["encoder_configuration"] = BERT
    return given


def system_of(name: str) -> System:
    kind = find_system(name)
    torch.manual_seed(3)
    inputs = specifications(None if name in FINE_TUNED else TEXT, AUDIO, VISION, text=STEPS, audio=STEPS, vision=STEPS)
    system = kind(kind.Settings(**settings_of(name)), inputs, sentiment()).eval()
    with torch.no_grad():
        for value in system.parameters():
            value.copy_(torch.randn_like(value) * 0.3)
    return system


def published_name(ours: str, names: Mapping[str, str]) -> str:
    """The name that the published program gives the weight, by trying what `names` would turn into ours."""
    inner = [ours]
    for theirs, mine in names.items():
        if theirs.startswith("."):
            inner += [name.replace(mine, theirs) for name in inner if mine in name]
    starts = [(theirs, mine) for theirs, mine in names.items() if mine and not theirs.startswith(".")]
    tried = inner + [theirs + name[len(mine) :] for name in inner for theirs, mine in starts if name.startswith(mine)]
    return next(name for name in reversed(tried) if our_name(name, names) == ours)


def save(name: str, path: Path) -> System:
    """A model of its own, stored as the published program would."""
    system = system_of(name)
    known = find_published(name)
    assert known is not None
    state = {
        PREFIX + published_name(ours, known.names): value
        for ours, value in system.state_dict().items()
        if not ours.endswith("absence.vector")
    }
    torch.save(state, path)
    return system


def batch(tokens: bool) -> Any:
    draw = np.random.default_rng(5)

    def values(width: int) -> Padded:
        mask = torch.ones(3, STEPS, dtype=torch.bool)
        return Padded(torch.from_numpy(draw.normal(size=(3, STEPS, width)).astype(np.float32)), mask)

    ids = Padded(torch.from_numpy(draw.integers(1, 60, (3, STEPS, 1))), torch.ones(3, STEPS, dtype=torch.bool))
    words = values(TEXT)
    return batch_of({"text": ids if tokens else words, "audio": values(AUDIO), "vision": values(VISION)}, np.zeros(3))


def system_in(bundle: Bundle) -> System:
    card = bundle.card
    kind = find_system(card.system)
    made = kind(kind.Settings(**card.settings), card.inputs, card.task).eval()
    made.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in bundle.part("model").items()})
    return made


def test_every_system_with_names_is_there():
    known = {"self_mm", "ef_lstm", "lf_dnn", "tfn", "lmf", "mfn", "mult", "misa", "tetfn", "mlf_dnn", "mtfn", "mlmf"}
    assert known <= set(importable())


@pytest.mark.parametrize("name", importable())
def test_an_imported_checkpoint_answers_as_the_model_that_was_stored(name: str, tmp_path: Path):
    file = tmp_path / "model.pth"
    original = save(name, file)
    corpus = "sims" if name in {"mlf_dnn", "mtfn", "mlmf"} else "mosi"
    bundle = import_checkpoint(
        name, file, published=corpus, settings=settings_of(name), widths=MERGED.get(name), modalities=(), force=False
    )
    card = bundle.card
    assert (card.inputs["audio"].dimension, card.inputs["vision"].dimension) == (AUDIO, VISION), "read off the weights"
    assert card.inputs["text"].integer == (name in FINE_TUNED)
    assert len(card.protocol["source_sha256"]) == 64
    given = batch(card.inputs["text"].integer)
    imported = system_in(bundle)
    # The published programs pad to the corpus' length, these few steps were never that long.
    imported.inputs = original.inputs
    with torch.no_grad():
        expected, found = original(given).prediction, imported(given).prediction
    assert expected.abs().max() > 0
    torch.testing.assert_close(found, expected)


def test_the_command_writes_a_bundle_that_refuses_a_raw_clip_in_a_sentence(tmp_path: Path):
    save("mfn", tmp_path / "mfn-mosi-1111.pth")
    settings = [
        part for key, value in settings_of("mfn").items() if value is not None for part in ("--set", f"{key}={value}")
    ]
    command = ["import-checkpoint", "mfn", str(tmp_path / "mfn-mosi-1111.pth"), "--published", "mosi", *settings]
    done = CliRunner().invoke(main, [*command, "--output", str(tmp_path / "bundle")])
    assert done.exit_code == 0, done.output
    model = TrainedModel.load(tmp_path / "bundle")
    assert not model.card.recomputable
    with pytest.raises(ProvenanceError, match="cannot be made from a recording: it was imported"):
        model.score([{"text": "good"}])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "with which corpus' settings"),
        ({"published": "mosy"}, "nothing is published for 'mosy'"),
        ({"published": "mosi", "widths": {"smell": 3, "text": 0}}, "no role 'smell'"),
        ({"published": "mosi", "variant": "v1"}, "--variant says nothing about tfn"),
        ({"published": "mosi", "settings": {"hidden_text": 3}}, "hidden_text"),
        ({"published": "mosi"}, "Was it trained with other settings"),
    ],
)
def test_what_cannot_be_imported_is_refused_with_what_to_do(options, said, tmp_path: Path):
    save("tfn", tmp_path / "tfn.pth")
    with pytest.raises(InputError, match=said):
        import_checkpoint("tfn", tmp_path / "tfn.pth", **options)


def test_files_that_hold_no_weights_are_refused(tmp_path: Path):
    torch.save(torch.nn.Linear(1, 1), tmp_path / "code.pth")
    with pytest.raises(InputError, match="not a readable checkpoint"):
        import_checkpoint("tfn", tmp_path / "code.pth", published="mosi")
    torch.save({"epoch": 3}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="something else than a state_dict"):
        import_checkpoint("tfn", tmp_path / "other.pth", published="mosi")
    with pytest.raises(InputError, match="no importer for 'late_fusion'"):
        import_checkpoint("late_fusion", tmp_path / "other.pth")
