"""Checkpoints with the documented keys, filled with random weights a quarter as wide, become bundles."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from demeanor.__main__ import main
from demeanor.checkpoints.mmml import import_mmml, name_of
from demeanor.data.batch import Batch, Padded
from demeanor.data.bundle import Bundle
from demeanor.data.errors import InputError, ProvenanceError
from demeanor.inference.model import TrainedModel
from demeanor.inference.predict import build
from demeanor.models.mmml.checkpoint import our_name
from tests.project import DEMO, PROJECT

TABLES = json.loads((PROJECT / "tests/golden/mmml/published_keys.json").read_text(encoding="utf-8"))
#: table -> (system, what its settings say)
EXPECTED = {
    "en_cc": ("mmml", {"fusion": "cc", "version": None}),
    "en_cme_v1_v2": ("mmml", {"fusion": "cme", "version": "v1", "layers": 2, "width": 192}),
    "en_cme_v3": ("mmml", {"version": "v3", "mixer_layers": 2, "mixer_inner": 512}),
    "context_cc": ("mmml", {"context": "dialogue", "fusion": "cc", "text_context": 2, "audio_context": 1}),
    "context_cme": ("mmml", {"context": "dialogue", "fusion": "cme", "version": None, "fused": [192]}),
    "zh_cc": ("mmml", {"fusion": "cc", "text_length": 64}),
    "zh_cme_v1_v2": ("mmml", {"fusion": "cme", "text_length": 64}),
    "zh_cme_v3": ("mmml", {"version": "v3", "fused": [192, 128]}),
    "audio_raw_data2vec": ("mmml_audio_waveform", {"whole_mean": True}),
    "audio_raw_hubert": ("mmml_audio_waveform", {"whole_mean": False}),
    "audio_smile": ("mmml_audio_descriptors", {"layers": 2, "heads": 2, "inner": 512}),
    "audio_spec": ("mmml_audio_spectrogram", {"channels": 2}),
}


def state(table: str) -> dict[str, torch.Tensor]:
    """Random weights under the published names: a quarter as wide, two layers, a vocabulary of 30 522 / 10 words."""
    generator = torch.Generator().manual_seed(7)
    made = {}
    for name, shape in TABLES[table].items():
        kernel = name.endswith(("conv.weight", "weight.original0", "weight.original1"))
        size = [3052 if n > 20_000 else n if kernel and place == 2 else n // 4 if n >= 48 else n
                for place, n in enumerate(shape)]  # fmt: skip
        size = shape if table in ("audio_smile", "audio_spec") else size
        values = torch.randn(size, generator=generator) * 0.05
        made[name] = values.abs() + 0.5 if name.endswith(("running_var", "original0")) else values
        if name.endswith("num_batches_tracked"):
            made[name] = torch.tensor(3)
    for name in list(made):
        if match := re.fullmatch(r"bn(\d)\.(.+)", name):  # the same norm, stored twice
            made[name] = made[f"conv{match[1]}.2.{match[2]}"]
    return made


def save(folder, table: str, name: str = "checkpoint.pth", **changed):
    torch.save({**state(table), **changed}, folder / name)
    return folder / name


def batch_for(bundle: Bundle) -> Batch:
    """Two clips of noise, one of them without sound, for whatever roles the bundle has."""
    generator = np.random.default_rng(0)
    inputs = {}
    for role, given in bundle.card.inputs.items():
        if role == "text":
            values = generator.integers(5, 3000, (2, 9, 1))
        elif given.stream == "audio.waveform":
            values = generator.integers(-3000, 3000, (2, 8000, 1))
        else:
            values = generator.standard_normal((2, 301, given.dimension)).astype(np.float32)
        mask = np.ones(values.shape[:2], dtype=bool)
        mask[1, values.shape[1] // 2 :] = False
        inputs[role] = Padded(torch.from_numpy(values), torch.from_numpy(mask))
    rows = torch.arange(2)
    return Batch(inputs, ("a", "b"), rows, rows * 0, rows, rows * 0 - 1, {"target": torch.zeros(2)})


@pytest.mark.parametrize("table", TABLES)
def test_every_documented_checkpoint_becomes_a_bundle_that_answers(table, tmp_path):
    path = save(tmp_path, table)
    bundle = import_mmml(path, corpus="mosi" if table == "audio_spec" else "")
    system, said = EXPECTED[table]
    assert bundle.card.system == system
    for name, value in said.items():
        found = bundle.card.settings[name]
        assert (list(found) if isinstance(value, list) else found) == value, name
    assert (bundle.card.task.low, bundle.card.task.convention) == (
        (-1.0, "sims") if table.startswith("zh") or "hubert" in table else (-3.0, "mosi")
    )
    held = bundle.part("model")
    for name, value in state(table).items():
        place = our_name(name)
        place = place if place in held else f"network.{place}"
        if place in held:
            np.testing.assert_array_equal(held[place], value.numpy(), err_msg=name)
    bundle.save(tmp_path / "bundle")
    again = Bundle.load(tmp_path / "bundle")
    batch = batch_for(bundle)
    with torch.inference_mode():
        answers = [build(one).eval()(batch).prediction for one in (bundle, again)]
    assert torch.isfinite(answers[0]).all()
    assert torch.equal(*answers)


def test_older_names_of_the_weight_norm_are_the_same_weights(tmp_path):
    weights = state("zh_cc")
    place = "hubert_model.encoder.pos_conv_embed.conv."
    older = {name.replace("parametrizations.weight.original0", "weight_g"): value for name, value in weights.items()}
    older = {name.replace("parametrizations.weight.original1", "weight_v"): value for name, value in older.items()}
    assert f"{place}weight_g" in older
    torch.save(older, tmp_path / "old.pth")
    new, old = import_mmml(save(tmp_path, "zh_cc")), import_mmml(tmp_path / "old.pth")
    assert new.weights_sha256 == old.weights_sha256


def test_the_name_of_an_original_file_says_corpus_seed_and_score(tmp_path):
    assert name_of("RH_acc_mosei_11_0.8669") == {"corpus": "mosei", "seed": 11, "metrics": {"Has0_acc_2": 0.8669}}
    assert name_of("loss") == {}
    card = import_mmml(save(tmp_path, "en_cc", "RH_loss_mosi_1_0.5687.pth")).card
    assert (card.protocol["corpus"], card.protocol["seed"], card.metrics) == ("mosi", 1, {"loss": 0.5687})
    assert card.protocol["source"] == "RH_loss_mosi_1_0.5687.pth"


def test_two_versions_have_the_same_weights_and_the_caller_says_which(tmp_path):
    path = save(tmp_path, "en_cme_v1_v2")
    assumed, told = import_mmml(path), import_mmml(path, variant="v2")
    assert "--variant v2" in assumed.card.notes
    assert told.card.settings["version"] == "v2"
    batch = batch_for(assumed)
    with torch.inference_mode():
        assert not torch.allclose(build(assumed)(batch).prediction, build(told)(batch).prediction)
    with pytest.raises(InputError, match="only cme v1 and v2"):
        import_mmml(save(tmp_path, "context_cc"), variant="v2")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"A_output_layers.1.bias": None}, "nothing is given for 'fusion.heads.audio.1.bias'"),
        ({"spare.weight": torch.ones(2)}, "'spare.weight' has no place"),
        ({"T_output_layers.1.weight": torch.ones(1, 5)}, r"'T_output_layers.1.weight' is \(1, 5\)"),
        ({"roberta_model.embeddings.word_embeddings.weight": None}, "word_embeddings.weight' is missing"),
    ],
)
def test_files_that_do_not_fit_are_refused_by_the_name_of_the_weight(changed, said, tmp_path):
    weights = {**state("en_cc"), **changed}
    torch.save({name: value for name, value in weights.items() if value is not None}, tmp_path / "bad.pth")
    with pytest.raises(InputError, match=said):
        import_mmml(tmp_path / "bad.pth")


def test_other_files_are_refused(tmp_path):
    torch.save({"layer.weight": torch.ones(2)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="holds no network of MMML"):
        import_mmml(tmp_path / "other.pth")
    torch.save(torch.nn.Linear(1, 1), tmp_path / "code.pth")
    with pytest.raises(InputError, match="not a readable checkpoint"):
        import_mmml(tmp_path / "code.pth")
    with pytest.raises(InputError, match="Give --corpus mosi or sims"):
        import_mmml(save(tmp_path, "audio_spec"))
    with pytest.raises(InputError, match="'iemocap' is none of MMML's corpora"):
        import_mmml(save(tmp_path, "en_cc"), corpus="iemocap")


def test_the_command_writes_a_bundle_that_scores_a_recording(tmp_path):
    weights = state("context_cme")
    words = "roberta_model.embeddings.word_embeddings.weight"
    weights[words] = torch.randn(30_522, weights[words].shape[1]) * 0.05  # the bundled tokenizer's vocabulary
    torch.save(weights, tmp_path / "RH_acc_mosi_1_0.8921.pth")
    command = ["import-checkpoint", "mmml", str(tmp_path / "RH_acc_mosi_1_0.8921.pth"), "--tokenizer", "minilm"]
    done = CliRunner().invoke(main, [*command, "--output", str(tmp_path / "bundle")])
    assert done.exit_code == 0, done.output
    assert Bundle.load(tmp_path / "bundle").card.settings["context"] == "dialogue"
    clip = next((DEMO / "Raw").glob("*/*.mp4"))
    answer = TrainedModel.load(tmp_path / "bundle").score([{"text": "I really like it.", "video": str(clip)}])
    assert answer["problem"].tolist() == [""]
    assert np.isfinite(answer["sentiment"]).all()


def test_without_the_tokenizer_a_bundle_says_so_when_it_is_asked(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    bundle = import_mmml(save(tmp_path, "zh_cc"), tokenizer=str(tmp_path / "nowhere"))
    assert not bundle.card.recomputable
    with pytest.raises(ProvenanceError, match="--tokenizer FOLDER"):
        TrainedModel.load(bundle).score([{"text": "好"}])
