"""MMML beyond parity: what is run is exactly what counts, context from dialogues, meaningless settings, adapters."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoConfig, AutoModel, Data2VecAudioModel, HubertModel

from demeanor.data.batch import Batch, Padded
from demeanor.data.bundle import InputSpecification
from demeanor.data.errors import InputError, MissingExtraError
from demeanor.data.provenance import Provenance
from demeanor.data.ragged import Ragged
from demeanor.data.stream import Stream
from demeanor.data.task import Task
from demeanor.models.mmml import sources
from demeanor.models.mmml.checkpoint import OPTIONAL, our_name, read_published
from demeanor.models.mmml.dialogue import rows_before
from demeanor.models.mmml.frames import Convolutions, length_groups
from demeanor.models.mmml.inputs import history
from demeanor.models.mmml.settings import tiny_speech
from demeanor.models.mmml.speech import SpeechEncoder, masked_spans
from demeanor.models.mmml.streams import AUDIO_CONTEXT, TEXT_CONTEXT, write_context
from demeanor.models.mmml.system import MMML
from tests.benchmarks.bench_mmml import measure, table
from tests.models.examples import VOCABULARY, example_batch
from tests.parity.golden import PROJECT

MAKER = Provenance(extractor="example", version="1")
TASK = Task(name="sentiment", kind="regression", column="sentiment")
PUBLISHED = {"conv_kernel": [10, 3, 3, 3, 3, 2, 2], "conv_stride": [5, 2, 2, 2, 2, 2, 2], "conv_dim": [8] * 7}
SPEECH = {
    "data2vec": {"model_type": "data2vec-audio", "num_conv_pos_embeddings": 5, "conv_pos_kernel_size": 19, **PUBLISHED},
    "hubert": {"model_type": "hubert", "num_conv_pos_embeddings": 128, **PUBLISHED},
    "hubert_stable": {
        "model_type": "hubert",
        "num_conv_pos_embeddings": 128,
        "do_stable_layer_norm": True,
        "feat_extract_norm": "layer",
        "conv_bias": True,
        **PUBLISHED,
    },
    "wav2vec2": {"model_type": "wav2vec2", "num_conv_pos_embeddings": 128, **PUBLISHED},
}


def speech(kind: str, **more):
    values = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
        "num_conv_pos_embedding_groups": 4, "layerdrop": 0.0, "apply_spec_augment": False, **SPEECH[kind], **more,
    }  # fmt: skip
    torch.manual_seed(3)
    network = AutoModel.from_config(AutoConfig.for_model(values.pop("model_type"), **values))
    # Fresh positional convolutions are nearly zero: make what leaks through them visible.
    for name, parameter in network.named_parameters():
        if "pos_conv_embed" in name and name.endswith(("weight", "original1", "bias")):
            torch.nn.init.normal_(parameter, std=0.2)
    return network.eval()


def waveforms(lengths: list[int], padded: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    mask = torch.arange(padded) < torch.tensor(lengths)[:, None]
    return torch.randn((len(lengths), padded), generator=generator) * mask, mask, torch.tensor(lengths)


def specification(stream: str, dimension: int = 1) -> InputSpecification:
    return InputSpecification(stream=stream, dimension=dimension, integer=stream.startswith("text"), provenance=MAKER)


INPUTS = {"text": specification("text.tokens"), "audio": specification("audio.waveform")}


@pytest.mark.parametrize("kind", SPEECH)
@pytest.mark.parametrize("grouped", [False, True])
def test_only_the_frames_that_count_are_run_and_the_result_is_that_of_the_whole(kind, grouped, monkeypatch):
    """The network run over rows padded to a second, against ours over the valid frames of each group."""
    padded, lengths = 16_000, [4_000, 9_001, 3_000, 16_000 if grouped else 9_500]
    network = speech(kind).double()
    values, mask, counts = waveforms(lengths, padded)
    values = values.double()
    with torch.no_grad():
        whole = network(values, attention_mask=mask.long()).last_hidden_state
    monkeypatch.setattr("demeanor.models.mmml.speech.GROUP_FRAMES", 0 if grouped else 10_000)
    encoder = SpeechEncoder(network).eval()
    with torch.no_grad():
        found = encoder(values[:, : max(lengths)], counts, padded)
    assert found.mask.sum(dim=1).tolist() == encoder.convolutions.frames(counts).tolist()
    expected = whole[:, : found.mask.shape[1]]
    torch.testing.assert_close(found.hidden[found.mask], expected[found.mask], atol=1e-10, rtol=0)


def test_data2vec_needs_its_whole_margin():
    """36 frames for the published sizes; one less and the leak of the positional convolutions is cut."""
    encoder = SpeechEncoder(speech("data2vec").double()).eval()
    assert encoder.margin == 36
    values, _, counts = waveforms([4_000], 4_000)
    values = values.double()
    with torch.no_grad():
        found = encoder(values, counts, 96_000).hidden
        encoder.margin = 35
        cut = encoder(values, counts, 96_000).hidden
        encoder.margin = 60
        more = encoder(values, counts, 96_000).hidden
    torch.testing.assert_close(more, found, atol=1e-12, rtol=0)
    assert (cut - found).abs().max() > 1e-7


@pytest.mark.parametrize("kind", ["data2vec", "hubert"])
def test_gradients_of_the_trained_part_are_those_of_the_whole(kind):
    padded, lengths = 16_000, [4_000, 9_001]
    values, mask, counts = waveforms(lengths, padded)
    network, values = speech(kind).double(), values.double()
    network.feature_extractor._freeze_parameters()
    valid = Convolutions(tuple(PUBLISHED["conv_kernel"]), tuple(PUBLISHED["conv_stride"])).frames(counts)
    whole = network(values, attention_mask=mask.long()).last_hidden_state
    torch.cat([row[:count] for row, count in zip(whole, valid, strict=True)]).square().sum().backward()
    expected = {name: value.grad.clone() for name, value in network.named_parameters() if value.grad is not None}
    network.zero_grad()
    found = SpeechEncoder(network).eval()(values[:, : max(lengths)], counts, padded)
    found.hidden[found.mask].square().sum().backward()
    for name, gradient in expected.items():
        got = dict(network.named_parameters())[name].grad
        torch.testing.assert_close(got, gradient, atol=1e-8, rtol=1e-6, msg=name)


@pytest.mark.parametrize("kind", ["data2vec", "hubert"])
def test_the_memory_of_the_front_gives_the_same_and_runs_it_once(kind):
    values, _, counts = waveforms([4_000, 9_001, 3_000], 9_001)
    network = speech(kind)
    plain, remembering = SpeechEncoder(network).eval(), SpeechEncoder(network, memory=0.01).eval()
    with torch.no_grad():
        expected = plain(values, counts, 16_000).hidden
        for _ in range(2):
            torch.testing.assert_close(remembering(values, counts, 16_000).hidden, expected, atol=1e-5, rtol=0)
        assert (len(remembering.memory), remembering.memory.hits) == (3, 3)
        # Other neighbours and another padding find the same rows; another sound, or padded length, does not.
        remembering(values[[2, 0], :5_000], counts[[2, 0]], 16_000)
        assert remembering.memory.hits == 5
        remembering(values[[2]] * 0.5, counts[[2]], 16_000)
        remembering(values[[2]], counts[[2]], 9_000)
        assert (len(remembering.memory), remembering.memory.hits) == (5, 5)


def test_the_memory_of_the_front_stays_within_its_room():
    encoder = SpeechEncoder(speech("data2vec"), memory=2_000 / 2**30).eval()
    values, _, counts = waveforms([4_000, 9_001, 3_000], 9_001)
    with torch.no_grad():
        encoder(values, counts, 16_000)
    assert 0 < encoder.memory.used <= 2_000


def test_frozen_convolutions_and_layers_have_no_gradient_and_no_noise():
    encoder = SpeechEncoder(speech("data2vec", hidden_dropout=0.5), tuned=1).train()
    values, _, counts = waveforms([4_000], 4_000)
    encoder(values, counts, 16_000).pooled.sum().backward()
    trained = {name for name, value in encoder.named_parameters() if value.grad is not None}
    assert trained
    assert all(".layers.1." in name for name in trained)
    assert not encoder.network.encoder.layers[0].training
    assert encoder.network.encoder.layers[1].training


def test_masked_spans_lie_in_valid_frames():
    config = AutoConfig.for_model("data2vec-audio", mask_time_prob=0.3, mask_time_length=4, mask_time_min_masks=2)
    valid = torch.tensor([40, 12, 3, 4])
    torch.manual_seed(0)
    shares = []
    for _ in range(50):
        spans = masked_spans(valid, 40, config)
        assert not spans[torch.arange(40) >= valid[:, None]].any()
        assert not spans[2].any()
        assert bool(spans[:2].any(dim=1).all())
        shares.append(spans[0].float().mean())
    assert 0.15 < float(torch.stack(shares).mean()) < 0.32


def test_spec_augment_trains_its_embedding():
    encoder = SpeechEncoder(speech("data2vec", apply_spec_augment=True, mask_time_length=4)).train()
    values, _, counts = waveforms([9_000], 9_000)
    encoder(values, counts, 16_000).pooled.sum().backward()
    assert encoder.network.masked_spec_embed.grad.abs().sum() > 0


@pytest.mark.parametrize(("given", "named"), [
    ({"fusion": "cc", "version": "v2"}, "version"),
    ({"fusion": "cc", "layers": 3}, "layers"),
    ({"mixer_layers": 2}, "mixer_layers"),
    ({"tasks": "MM"}, "tasks"),
    ({"tasks": "MX"}, "tasks"),
    ({"tasks": "MT", "task_weights": {"A": 0.5}}, "task_weights"),
    ({"lora_rank": 4, "tune_text": 1}, "lora_rank"),
])  # fmt: skip
def test_meaningless_settings_are_refused_by_name(given, named):
    with pytest.raises(InputError, match=named):
        MMML.Settings(**given)


@pytest.mark.parametrize(("given", "named"), [
    ({"tasks": "MTAV"}, "there is no vision stream"),
    ({"heads": 5}, "heads"),
    ({"version": "v3", "mixer_heads": 5}, "mixer_heads"),
    ({"pooling": "pooler", "text_configuration": {"model_type": "distilbert", "vocab_size": 9}}, "pooler"),
    ({"audio_encoder": "smal"}, "Did you mean 'small'"),
    ({"audio_configuration": {"model_type": "wavlm"}}, "wavlm"),
    ({"lora_rank": 2}, "lora_rank"),
])  # fmt: skip
def test_settings_that_do_not_fit_the_streams_are_refused_by_name(given, named, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    settings = {**MMML.tiny().as_dict(), **given}
    if "audio_encoder" in given:
        settings["audio_configuration"] = {}
    with pytest.raises(InputError, match=named):
        MMML(MMML.Settings(**settings), INPUTS, TASK)


def test_context_and_a_version_are_refused():
    settings = MMML.Settings(**{**MMML.tiny("dialogue").as_dict(), "version": "v2"})
    with pytest.raises(InputError, match="version"):
        MMML(settings, INPUTS, TASK)


def test_turns_of_a_context_stream_are_not_counted_by_the_system():
    with pytest.raises(InputError, match="text_context: only `context: dialogue` counts turns"):
        MMML.Settings(text_context=2)


def test_a_dialogue_has_no_role_for_a_context_stream():
    settings = MMML.tiny("dialogue")
    assert MMML.card_of(settings).batching == "dialogue"
    with pytest.raises(InputError, match="there is no role 'text_context'; it has text, audio, vision"):
        MMML(settings, {**INPUTS, "text_context": specification("text.c")}, TASK)


def test_another_sample_rate_is_refused():
    wrong = InputSpecification(
        stream="audio.waveform", dimension=1, provenance=Provenance(extractor="x", version="1", rate=8000.0)
    )
    with pytest.raises(InputError, match="8000 samples a second"):
        MMML(MMML.tiny(), {**INPUTS, "audio": wrong}, TASK)


@pytest.mark.parametrize("version", ["v1", "v2", "v3"])
@pytest.mark.parametrize("vision", [False, True])
def test_every_version_trains_with_and_without_a_face(version, vision):
    inputs = {**INPUTS, "vision": specification("vision.frames", 7)} if vision else INPUTS
    system = MMML(MMML.Settings(**{**MMML.tiny().as_dict(), "version": version}), inputs, TASK).train()
    batch = example_batch(system)
    terms = system.loss(system(batch), batch)
    assert set(terms) == {"total", "loss_M", "loss_T", "loss_A", *(["loss_V"] if vision else [])}
    terms["total"].backward()
    missing = [name for name, value in system.named_parameters() if value.requires_grad and value.grad is None]
    assert not missing


def test_heads_learn_their_own_labels_and_only_where_they_were_recorded():
    system = MMML(MMML.Settings(**{**MMML.tiny().as_dict(), "task_weights": {"T": 0.5}}), INPUTS, TASK).eval()
    batch = example_batch(system)
    batch.labels["text"] = torch.arange(8.0)
    with torch.no_grad():
        output = system(batch)
        terms = system.loss(output, batch)
    present = batch["text"].present
    found = (output.auxiliary["head_T"][:, 0] - batch.labels["text"])[present].abs().mean()
    assert not present.all()
    assert terms["loss_T"].item() == pytest.approx(found.item())
    expected = terms["loss_M"] + 0.5 * terms["loss_T"] + terms["loss_A"]
    assert terms["total"].item() == pytest.approx(expected.item())


def test_a_single_head_is_the_prediction_where_no_joint_one_is_trained():
    system = MMML(MMML.Settings(**{**MMML.tiny().as_dict(), "tasks": "AT"}), INPUTS, TASK).eval()
    with torch.no_grad():
        output = system(example_batch(system))
    assert torch.equal(output.prediction, output.auxiliary["head_A"])


def dialogue_batch(lengths: list[int], turns: list[int]) -> Batch:
    """Dialogues of the given numbers of turns; waveforms of the given numbers of samples."""
    generator = np.random.default_rng(5)
    count = len(lengths)
    words = [generator.integers(5, VOCABULARY, generator.integers(2, 6)) for _ in range(count)]
    ids = np.zeros((count, 8), np.int64)
    spoken = np.zeros((count, 8), bool)
    for row, part in enumerate(words):
        ids[row, : len(part) + 2] = [2, *part, 3]
        spoken[row, : len(part) + 2] = True
    sound = np.zeros((count, max(lengths)), np.float32)
    heard = np.arange(max(lengths)) < np.array(lengths)[:, None]
    sound[heard] = generator.standard_normal(int(heard.sum()))
    dialogue = torch.tensor([number for number, size in enumerate(turns) for _ in range(size)])
    turn = torch.tensor([place for size in turns for place in range(size)])
    rows = torch.arange(count)
    inputs = {
        "text": Padded(torch.from_numpy(ids)[..., None], torch.from_numpy(spoken)),
        "audio": Padded(torch.from_numpy(sound)[..., None], torch.from_numpy(heard)),
    }
    return Batch(inputs, tuple(map(str, range(count))), rows, dialogue, turn, torch.full_like(rows, -1),
                 {"target": torch.linspace(-1, 1, count)})  # fmt: skip


def with_context(batch: Batch, text_turns: int, audio_turns: int, folder, reference: bool) -> Batch:
    """The same utterances with their past as streams."""
    names = list(batch.ids)
    table = pd.DataFrame({"utterance_id": names, "split": "train", "dialogue": batch.dialogue, "turn": batch.turn})
    streams = {}
    for role, kind in (("text", np.int32), ("audio", np.float32)):
        rows = [
            value[mask].numpy().astype(kind) for value, mask in zip(batch[role].values, batch[role].mask, strict=True)
        ]
        streams[role] = Stream(f"{role}.x", Ragged.from_sequences(dict(zip(names, rows, strict=True))), MAKER)
    written = write_context(
        folder, table, streams["text"], streams["audio"], text_turns, audio_turns, 9, 0.05, reference=reference
    )
    inputs = dict(batch.inputs)
    for role, name in (("text_context", TEXT_CONTEXT), ("audio_context", AUDIO_CONTEXT)):
        assert not written[name].provenance.recomputable
        values, mask = written[name].ragged.gather(range(len(batch)))
        inputs[role] = Padded(torch.from_numpy(values), torch.from_numpy(mask))
    return Batch(inputs, batch.ids, batch.rows, batch.dialogue, batch.turn, batch.speaker, batch.labels)


@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize(("text_turns", "audio_turns"), [(2, 1), (3, 2)])
def test_context_from_the_dialogue_equals_context_streams(text_turns, audio_turns, reference, tmp_path):
    """Some clips are longer than the limit of 800 samples: newest and oldest ends differ."""
    batch = dialogue_batch([300, 1200, 500, 40, 900, 700, 0, 650], [4, 1, 3])
    values = {**MMML.tiny().as_dict(), "reference": reference, "text_length": 9}
    torch.manual_seed(0)
    over_turns = {"context": "dialogue", "text_context": text_turns, "audio_context": audio_turns}
    dialogue = MMML(MMML.Settings(**{**values, **over_turns}), INPUTS, TASK).eval()
    roles = {"text_context": specification("text.c"), "audio_context": specification("audio.c")}
    streams = MMML(MMML.Settings(**values), {**INPUTS, **roles}, TASK).eval()
    streams.load_state_dict(dialogue.state_dict())
    with torch.no_grad():
        expected = streams(with_context(batch, text_turns, audio_turns, tmp_path, reference))
        found = dialogue(batch)
    for letter in "MTA":
        torch.testing.assert_close(
            found.auxiliary[f"head_{letter}"], expected.auxiliary[f"head_{letter}"], atol=2e-6, rtol=1e-5
        )


def test_every_clip_of_a_dialogue_is_encoded_once(monkeypatch):
    system = MMML(MMML.tiny("dialogue"), INPUTS, TASK).eval()
    batch = dialogue_batch([300, 600, 500, 40, 700], [3, 2])
    seen = []
    run = system.speech._encode
    monkeypatch.setattr(
        system.speech, "_encode", lambda waveform, *rest: (seen.append(len(waveform)), run(waveform, *rest))[1]
    )
    with torch.no_grad():
        system(batch)
    assert sum(seen) == len(batch)


def test_history_stops_at_the_first_other_group():
    assert history(["a", "a", "a", "b", "a", "a"], 2) == [[], [0], [0, 1], [], [], [4]]
    batch = dialogue_batch([10] * 5, [3, 2])
    assert rows_before(batch, 2) == [[], [0], [0, 1], [], [3]]


def test_length_groups_are_optimal_and_complete():
    lengths = [10, 300, 12, 290, 11, 150]
    groups = length_groups(lengths, overhead=20, largest=6)
    assert sorted(row for group in groups for row in group) == list(range(6))
    assert sorted(map(sorted, groups)) == [[0, 2, 4], [1, 3], [5]]
    assert len(length_groups(lengths, overhead=10_000, largest=6)) == 1
    assert max(map(len, length_groups([5] * 10, overhead=10_000, largest=4))) == 4
    assert length_groups([], 10, 4) == []


def pretrained_folder(tmp_path):
    settings = MMML.tiny()
    torch.manual_seed(11)
    places = {}
    for name, configuration in (("text", settings.text_configuration), ("audio", tiny_speech())):
        values = dict(configuration)
        network = AutoModel.from_config(AutoConfig.for_model(values.pop("model_type"), **values))
        network.save_pretrained(tmp_path / name)
        places[f"{name}_encoder"] = str(tmp_path / name)
    return {**settings.as_dict(), "text_configuration": {}, "audio_configuration": {}, **places}


def test_pretrained_folders_are_loaded_frozen_in_front_and_learn_slower(tmp_path):
    values = pretrained_folder(tmp_path)
    system = MMML(MMML.Settings(**{**values, "pretrained_rate": 0.1}), INPUTS, TASK)
    known = Data2VecAudioModel.from_pretrained(values["audio_encoder"]).state_dict()
    for name, value in system.speech.network.state_dict().items():
        assert torch.equal(value, known[name])
    assert not any(value.requires_grad for value in system.speech.network.feature_extractor.parameters())
    rates = {id(value): group["lr"] for group in system.parameter_groups(1e-3, 0.01) for value in group["params"]}
    for name, value in system.named_parameters():
        if value.requires_grad:
            assert rates[id(value)] == pytest.approx(1e-3 if name.startswith("fusion") else 1e-4), name
    # A bundle is built again without the folders, and refuses to be trained from its random start.
    again = MMML(MMML.Settings(**system.settings.as_dict()), INPUTS, TASK)
    with pytest.raises(InputError, match="text_configuration comes from a bundle"):
        again.on_train_start(lambda: [], 0)
    again.load_state_dict(system.state_dict())
    again.on_train_start(lambda: [], 0)


def test_reference_decays_everything_and_ours_spares_biases_and_norms(tmp_path):
    for reference in (True, False):
        system = MMML(MMML.Settings(**{**MMML.tiny().as_dict(), "reference": reference}), INPUTS, TASK)
        groups = system.parameter_groups(1e-3, 0.01)
        spared = [value.ndim for group in groups if group["weight_decay"] == 0 for value in group["params"]]
        assert set(spared) == (set() if reference else {1})


def test_adapters_train_little_and_survive_a_bundle(tmp_path):
    pytest.importorskip("peft")
    system = MMML(MMML.Settings(**{**pretrained_folder(tmp_path), "lora_rank": 2}), INPUTS, TASK).train()
    batch = example_batch(system)
    system.loss(system(batch), batch)["total"].backward()
    trained = [name for name, value in system.named_parameters() if value.requires_grad]
    assert all("lora_" in name for name in trained if name.startswith(("words", "speech")))
    assert any("lora_" in name for name in trained)
    again = MMML(MMML.Settings(**system.settings.as_dict()), INPUTS, TASK)
    again.load_state_dict(system.state_dict())
    with torch.no_grad():
        assert torch.equal(again.eval()(batch).prediction, system.eval()(batch).prediction)


def test_adapters_without_their_package_name_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(MissingExtraError, match=r"demeanor\[lora\]"):
        sources.add_adapters(torch.nn.Linear(2, 2), 2)


def test_gradient_checkpointing_changes_no_gradient():
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        values = {**MMML.tiny().as_dict(), "gradient_checkpointing": checkpointing, "dropout": 0.0}
        values["text_configuration"] |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        values["audio_configuration"] |= {"hidden_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}
        system = MMML(MMML.Settings(**values), INPUTS, TASK).train()
        batch = example_batch(system)
        system.loss(system(batch), batch)["total"].backward()
        gradients.append({name: value.grad for name, value in system.named_parameters() if value.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], value, atol=1e-6, rtol=1e-4)


def test_sixteen_bit_samples_and_floats_are_the_same_sound():
    system = MMML(MMML.tiny(), INPUTS, TASK).eval()
    batch = dialogue_batch([300, 600, 500], [3])
    sound = (batch["audio"].values * 3000).round()
    with torch.no_grad():
        found = []
        for values in (sound.to(torch.int16), sound.long(), sound.float(), sound / 32768):
            inputs = {**batch.inputs, "audio": Padded(values, batch["audio"].mask)}
            found.append(system(Batch(inputs, batch.ids, *[getattr(batch, n) for n in
                                      ("rows", "dialogue", "turn", "speaker", "labels")])).prediction)  # fmt: skip
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], atol=1e-5, rtol=0)


def test_a_long_recording_counts_with_its_first_seconds():
    system = MMML(MMML.tiny(), INPUTS, TASK).eval()
    batch = dialogue_batch([800, 300, 600], [3])
    noise = torch.randn(3, 5000, 1)
    mask = torch.zeros((3, 5000), dtype=torch.bool)
    mask[0] = True
    mask[1:, :800] = batch["audio"].mask[1:]
    noise[:, :800] = batch["audio"].values
    longer = {**batch.inputs, "audio": Padded(noise, mask)}
    with torch.no_grad():
        expected = system(batch).prediction
        found = system(
            Batch(longer, batch.ids, batch.rows, batch.dialogue, batch.turn, batch.speaker, batch.labels)
        ).prediction
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_published_keys_all_have_a_place():
    tables = PROJECT.parent / "shared" / "specs" / "mmml_state_dict"
    if not tables.is_dir():
        pytest.skip("the tables of published keys are not here")
    for path in tables.glob("*.tsv"):
        names = [line.split("\t")[0] for line in path.read_text().splitlines() if line]
        unknown = [name for name in names if our_name(name) is None and not OPTIONAL.fullmatch(name)]
        assert not unknown, path.name
        mapped = [our_name(name) for name in names]
        aliases = 25 if path.stem == "audio_spec" else 0
        assert len(set(mapped)) == len(mapped) - aliases, path.name


def test_published_files_are_read_without_running_code(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "good.pth")
    assert list(read_published(tmp_path / "good.pth")) == ["a"]
    torch.save({"a": torch.nn.Linear(1, 1)}, tmp_path / "bad.pth")
    with pytest.raises(InputError, match="not a readable checkpoint"):
        read_published(tmp_path / "bad.pth")
    with pytest.raises(InputError, match="no such file"):
        read_published(tmp_path / "none.pth")


def test_hubert_with_old_weight_norm_names():
    network = speech("hubert")
    assert isinstance(network, HubertModel)
    name = "hubert_model.encoder.pos_conv_embed.conv.weight_g"
    assert our_name(name).removeprefix("speech.network.") in network.state_dict()


def test_the_benchmark_compares_equal_networks():
    """On sizes that take no time: the straight way gives the same numbers and keeps more for the backward pass."""
    found = measure(1, 1, 2, torch.device("cpu"), 1, width=64, channels=8)
    assert found["difference"] < 1e-5
    assert found["saved"]["straight"] > 2 * found["saved"]["ours"]
    assert "training step" in table([found], "a test")
