"""TAB fusion beyond its golden numbers: windows, masks, frozen and tuned encoders, memory, cut and foreign ids."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from demeanor.data.batch import Batch, Padded
from demeanor.data.bundle import InputSpecification
from demeanor.data.errors import InputError
from demeanor.data.provenance import Provenance
from demeanor.models.tab_fusion import memory
from demeanor.models.tab_fusion.context import ContextAttention, window_of
from demeanor.models.tab_fusion.losses import penalty
from demeanor.models.tab_fusion.system import TabFusion, TabFusionSettings
from tests.models.examples import TASKS, example_batch, padded

EMOTION = TASKS["classification"]
WIDTH = 4
TINY = {
    "model_type": "roberta", "vocab_size": 60, "hidden_size": 12, "num_hidden_layers": 3, "num_attention_heads": 2,
    "intermediate_size": 16, "max_position_embeddings": 14, "type_vocab_size": 1, "pad_token_id": 1,
}  # fmt: skip
TOKENS = {"encoder_configuration": TINY, "speech_configuration": TINY}


@pytest.fixture(autouse=True)
def _nothing_remembered():
    memory.forget()
    yield
    memory.forget()


def given(stream: str, dimension: int = 1, extractor: str = "example", **parameters: object) -> InputSpecification:
    maker = Provenance(extractor=extractor, version="1", parameters=dict(parameters))
    return InputSpecification(stream=stream, dimension=dimension, integer=dimension == 1, provenance=maker)


def windows(before: int, after: int) -> InputSpecification:
    return given("text.context", (before + 1 + after) * WIDTH, before=before, after=after)


def system_of(inputs: dict[str, InputSpecification], task=EMOTION, **settings) -> TabFusion:
    torch.manual_seed(0)
    return TabFusion(TabFusionSettings(**settings), inputs, task)


def speech(**parameters: object) -> dict[str, InputSpecification]:
    return {"audio": given("audio.tokens", extractor="vq_wav2vec_ids", **parameters)}


def ids_batch(system: TabFusion, rows: list[list[int]], role: str = "audio") -> Batch:
    count = len(rows)
    values = {name: [np.zeros((0, 1), np.int64)] * count for name in system.inputs}
    values[role] = [np.array(row, dtype=np.int64)[:, None].reshape(-1, 1) for row in rows]
    number = torch.arange(count)
    return Batch(
        {name: padded(value) for name, value in values.items()}, tuple(map(str, range(count))), number, number,
        torch.zeros_like(number), number * 0 - 1, {"target": number % 3},
    )  # fmt: skip


class TestWindows:
    def test_a_narrower_window_is_cut_from_a_wider_stream(self):
        values = torch.arange(2 * 7 * WIDTH, dtype=torch.float32).reshape(2, -1) + 1
        for before, after, first in ((None, None, 0), (2, 1, 1), (3, 0, 0), (0, 0, 3)):
            window = window_of(windows(3, 3), before, after, None)
            laid, filled = window.cut(values)
            assert laid.shape == (2, window.slots, WIDTH)
            assert filled.all()
            torch.testing.assert_close(laid[0, window.before], values[0].unflatten(0, (7, WIDTH))[3])
            torch.testing.assert_close(laid[0, 0], values[0].unflatten(0, (7, WIDTH))[first])

    def test_what_the_stream_lacks_is_refused(self):
        with pytest.raises(InputError, match="before 4: it holds 3") as caught:
            window_of(windows(3, 0), 4, 1, None)
        assert len(caught.value.problems) == 2
        with pytest.raises(InputError, match="no 5 slots of equal width"):
            window_of(given("text.context", 28), None, None, 5)
        with pytest.raises(InputError, match="its maker tells of 3 turns before and 3 after"):
            window_of(windows(3, 3), None, None, 5)
        assert window_of(given("text.context", 28), None, None, 7).before == 3
        assert window_of(given("text.sentence", 28), None, None, None).slots == 1

    def test_the_past_alone_is_truly_past(self):
        """No later turn reaches a prediction (defect 4 of the published code), in either way of making windows."""
        torch.manual_seed(0)
        values = torch.randn(2, 1, 7 * WIDTH)
        later = values.clone()
        later[:, :, 4 * WIDTH :] = torch.randn(2, 1, 3 * WIDTH)
        for after, same in ((0, True), (1, False)):
            system = system_of({"context": windows(3, 3)}, after=after).eval()
            found = [
                system(
                    Batch({"context": Padded(v, torch.ones(2, 1) > 0)}, ("a", "b"), *[torch.arange(2)] * 4)
                ).prediction
                for v in (values, later)
            ]
            assert torch.allclose(*found, rtol=0, atol=1e-5) == same

    def test_a_dialogue_gives_the_windows_that_the_extractor_lays_out(self):
        turns = [4, 1, 6]
        dialogue = torch.cat([torch.full((n,), number) for number, n in enumerate(turns)])
        turn = torch.cat([torch.arange(n) for n in turns])
        vectors = torch.randn(len(turn), 1, WIDTH)
        present = torch.ones(len(turn), dtype=torch.bool)
        present[[2, 7]] = False
        number = torch.arange(len(turn))
        before, after = 2, 1
        laid = torch.zeros(len(turn), before + 1 + after, WIDTH)
        for row in range(len(turn)):
            for slot, offset in enumerate(range(-before, after + 1)):
                other = row + offset
                if 0 <= other < len(turn) and dialogue[other] == dialogue[row] and present[other]:
                    laid[row, slot] = vectors[other, 0]
        ids = tuple(map(str, range(len(turn))))
        gathered = Batch({"context": Padded(vectors, present[:, None])}, ids, number, dialogue, turn, number)
        stored = replace(gathered, inputs={"context": Padded(laid.flatten(1)[:, None], torch.ones(len(turn), 1) > 0)})
        one = system_of({"context": given("text.sentence", WIDTH)}, context="dialogue", before=before, after=after)
        two = system_of({"context": windows(before, after)})
        own = {name: value for name, value in one.state_dict().items() if name != "context.voice"}
        two.load_state_dict(own)
        torch.testing.assert_close(one.windows(gathered)[0], laid)
        torch.testing.assert_close(one.eval()(gathered).prediction, two.eval()(stored).prediction)

    def test_empty_slots_weigh_nothing_and_an_empty_window_is_zero(self):
        branch = ContextAttention(WIDTH, 6, 5, 2, 0.0, 3, True)
        laid, filled = torch.randn(3, 3, WIDTH), torch.tensor([[1, 1, 1], [0, 1, 0], [0, 0, 0]]) > 0
        vector, weights = branch(laid, filled)
        torch.testing.assert_close(weights.sum(dim=2), torch.tensor([[1.0], [1.0], [0.0]]).expand(3, 2))
        assert not weights[1][:, [0, 2]].any()
        assert not vector[2].any()
        laid[1, [0, 2]] += 5.0
        torch.testing.assert_close(branch(laid, filled)[0], vector)
        assert float(penalty(weights, filled.any(dim=1))) == pytest.approx(float(penalty(weights[:2], filled[:2, 1])))

    def test_a_place_tells_the_target_and_no_place_does_not(self):
        laid = torch.randn(2, 5, WIDTH)
        plain, placed = (ContextAttention(WIDTH, 6, 5, 2, 0.0, slots) for slots in (0, 5))
        torch.testing.assert_close(plain(laid.flip(1), None)[0], plain(laid, None)[0])
        torch.nn.init.normal_(placed.place)
        assert not torch.allclose(placed(laid.flip(1), None)[0], placed(laid, None)[0])

    def test_who_speaks(self):
        number = torch.arange(4)
        speaker = torch.tensor([0, 1, 0, -1])
        batch = Batch({}, tuple("abcd"), number, number * 0, number, speaker)
        system = system_of({"context": given("text.sentence", WIDTH)}, context="dialogue", before=2, after=0)
        same, other, unknown = [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]
        expected = [
            [unknown, unknown, same],
            [unknown, other, same],
            [same, other, same],
            [unknown, unknown, unknown],
        ]
        assert system.window.voices(batch).tolist() == expected
        assert system_of({"context": windows(1, 1)}).context.voice is None

    def test_rows_without_words_or_neighbours_are_answered(self):
        system = system_of({"context": given("text.sentence", WIDTH)}, context="dialogue").eval()
        number = torch.zeros(1, dtype=torch.long)
        alone = Batch({"context": Padded(torch.randn(1, 1, WIDTH), torch.ones(1, 1) > 0)}, ("a",), *[number] * 4)
        assert torch.isfinite(system(alone).prediction).all()
        assert torch.isfinite(system(alone.without(["context"])).prediction).all()


class TestTuning:
    def test_how_much_of_an_encoder_is_trained(self):
        trained = {}
        for tuned in (0, 1, 2, None):
            system = system_of(speech(), **TOKENS, tune_speech=tuned)
            trained[tuned] = {
                name.removeprefix("branches.audio.encoder.network.")
                for name, value in system.named_parameters()
                if value.requires_grad and ".encoder." in name
            }
        assert not trained[0]
        assert {name.split(".")[2] for name in trained[1]} == {"2"}
        assert {name.split(".")[2] for name in trained[2]} == {"1", "2"}
        assert "embeddings.word_embeddings.weight" in trained[None]
        assert "embeddings.token_type_embeddings.weight" not in trained[None]

    @pytest.mark.parametrize("tuned", [1, None])
    def test_gradients_reach_what_is_tuned(self, tuned: int | None):
        inputs = {"text": given("text.tokens"), **speech(), "context": windows(1, 1)}
        system = system_of(inputs, **TOKENS, tune_text=tuned, tune_speech=tuned)
        batch = example_batch(system)
        system.train()
        system.loss(system(batch), batch)["total"].backward()
        trained = {name: value for name, value in system.named_parameters() if value.requires_grad}
        assert [name for name, value in trained.items() if value.grad is None] == []
        assert sum(".encoder." in name for name in trained) > 20

    def test_a_frozen_encoder_drops_nothing_out(self):
        """Defect 9: model.train() must not make the frozen features noisy."""
        system = system_of(speech(), **TOKENS, cached=False).train()
        padded_ids = ids_batch(system, [[0, 9, 8, 2], [0, 7, 2]])["audio"]
        branch = system.branches["audio"]
        assert torch.equal(branch(padded_ids), branch(padded_ids))
        tuned = system_of(speech(), **TOKENS, tune_speech=None).train().branches["audio"]
        assert not torch.equal(tuned(padded_ids), tuned(padded_ids))

    def test_encoders_learn_at_their_own_rate(self):
        system = system_of(speech(), **TOKENS, tune_speech=None, encoder_learning_rate=1e-6)
        rates = {group["lr"] for group in system.parameter_groups(1e-3, 0.01)}
        assert rates == {1e-6, 1e-3}
        published = system_of(speech(), **TOKENS, tune_speech=None, reference=True)
        assert {(g["lr"], g["weight_decay"]) for g in published.parameter_groups(1e-3, 0.01)} == {(1e-3, 0.01)}


class TestMemory:
    ROWS = ([0, 9, 8, 7, 2], [0, 5, 2], [], [0, 9, 8, 7, 2], [0, 6, 6, 6, 6, 2])

    def test_a_frozen_encoder_is_asked_once_per_utterance(self):
        system = system_of(speech(), **TOKENS)
        batch, branch = ids_batch(system, list(self.ROWS)), system.branches["audio"]
        plain = system_of(speech(), **TOKENS, cached=False)
        calls = []
        branch.encoder.register_forward_hook(lambda module, args, output: calls.append(len(args[0])))
        for system_mode in (True, False, True):
            system.train(system_mode)
            with torch.inference_mode(not system_mode):
                vectors = branch(batch["audio"])
            torch.testing.assert_close(vectors, plain.branches["audio"](batch["audio"]), atol=1e-5, rtol=1e-5)
        assert calls == [1, 1, 1]  # each alone; the repeated row once, the empty one never
        system.train()
        system.loss(system(batch), batch)["total"].backward()
        assert system.fuse.weight.grad is not None
        same = system_of(speech(), **TOKENS).branches["audio"]
        assert same.memory is branch.memory  # another seed

    def test_other_weights_streams_or_lengths_have_memories_of_their_own(self):
        first = system_of(speech(), **TOKENS)
        found = {id(first.branches["audio"].memory)}
        found.add(id(system_of(speech(max_length=9), **TOKENS).branches["audio"].memory))
        found.add(id(system_of(speech(), **TOKENS, audio_length=5).branches["audio"].memory))
        found.add(id(system_of(speech(), **TOKENS, pooling="first").branches["audio"].memory))
        state = {name: value + 1.0 if "word_emb" in name else value for name, value in first.state_dict().items()}
        first.load_state_dict(state)
        found.add(id(first.branches["audio"].memory))
        assert len(found) == 5

    def test_a_folder_keeps_vectors_from_run_to_run(self, tmp_path: Path):
        system = system_of(speech(), **TOKENS, cache=str(tmp_path))
        batch = ids_batch(system, list(self.ROWS))
        expected = system.branches["audio"](batch["audio"])
        assert not list(tmp_path.glob("*/*.safetensors"))
        system.eval()
        assert len(list(tmp_path.glob("*/*.safetensors"))) == 1
        memory.forget()
        again = system_of(speech(), **TOKENS, cache=str(tmp_path))
        calls = []
        again.branches["audio"].encoder.register_forward_hook(lambda *_: calls.append(1))
        assert torch.equal(again.branches["audio"](batch["audio"]), expected)
        assert not calls
        assert again.settings.cache == ""  # a bundle names no folder of this machine

    def test_it_forgets_the_longest_unused(self):
        kept = memory.VectorMemory(2, room=2 * 4 * 2)
        for name in "abc":
            kept.put({name: np.ones(2, np.float32)})
            kept.get(["a"])
        assert set(kept.get(list("abc"))) == {"a", "c"}


class TestTokens:
    def test_long_audio_is_cut_with_its_last_token_and_counted(self, caplog: pytest.LogCaptureFixture):
        system = system_of(speech(), **TOKENS)
        long, short = [0, *range(10, 40), 2], [0, 10, 2]
        batch = ids_batch(system, [long, short, long])
        cut = ids_batch(system, [[0, *range(10, 20), 2]])  # 14 positions of which 12 are usable
        with caplog.at_level(logging.WARNING):
            system.on_train_start(lambda: [batch], 3)
            system.eval()
            found = system(batch).prediction
        assert "2 of 3 training utterances have more than 12 audio tokens and are cut" in caplog.text
        torch.testing.assert_close(found[0], system(cut).prediction[0])
        assert system.branches["audio"].cut == 2

    def test_what_the_extractor_cut_is_counted_too(self, caplog: pytest.LogCaptureFixture):
        system = system_of(speech(max_length=5), **TOKENS)
        batch = ids_batch(system, [[0, 9, 9, 9, 2], [0, 9, 2]])
        with caplog.at_level(logging.WARNING):
            system.on_train_start(lambda: [batch], 2)
        assert "1 of 2 training utterances have all 5 audio tokens that their stream allows" in caplog.text

    def test_ids_of_another_codebook_are_refused(self):
        with pytest.raises(InputError, match="23673 ids in its dictionary, 60 in the audio encoder's"):
            system_of(speech(vocabulary_size=23673), **TOKENS)
        known = {**TOKENS, "speech_configuration": {**TINY, "dictionary_sha256": "a" * 64}}
        with pytest.raises(InputError, match="its dictionary is bbbbbbbbbbbb"):
            system_of(speech(dictionary_sha256="b" * 64), **known)
        system_of(speech(dictionary_sha256="a" * 64, vocabulary_size=60), **known)
        system = system_of(speech(), **TOKENS)
        with pytest.raises(InputError, match="holds id 60; its encoder's vocabulary has 60"):
            system(ids_batch(system, [[0, 60, 2]]))
        strangers = ids_batch(system, [[0, 3, 3, 3, 9, 2]])
        with pytest.raises(InputError, match="75% of its code pairs are not in the dictionary"):
            system.on_train_start(lambda: [strangers], 1)

    def test_pairs_of_codes_and_tokens_without_an_encoder_are_refused(self):
        pairs = {"audio": given("audio.codes", 2).model_copy(update={"integer": True})}
        with pytest.raises(InputError, match="pairs of codes"):
            system_of(pairs, **TOKENS)
        with pytest.raises(InputError, match="speech_encoder"):
            system_of(speech())


class TestLoss:
    def test_margins_leave_unlabelled_rows_out(self):
        system = system_of({"context": windows(1, 1)}, loss="multi_margin")
        batch = example_batch(system)
        target = batch.target.clone()
        target[2:] = -1
        output = system.eval()(batch)
        rows = replace(output, prediction=output.prediction[:2])
        known = replace(batch, labels={"target": batch.target[:2]})
        found = system.loss(output, replace(batch, labels={"target": target}))["total"]
        torch.testing.assert_close(found, system.loss(rows, known)["total"])
        none = replace(batch, labels={"target": torch.full_like(target, -1)})
        assert float(system.loss(output, none)["total"]) == 0.0

    def test_balanced_weights_count_the_training_labels(self):
        system = system_of({"context": windows(1, 1)}, class_weights="balanced")
        batch = example_batch(system)
        labels = replace(batch, labels={"target": torch.tensor([0, 0, 0, 0, 1, 1, -1, -1])})
        system.on_train_start(lambda: [labels], 8)
        torch.testing.assert_close(system.class_weights, torch.tensor([0.5, 1.0, 1.0]))

    def test_settings_that_mean_nothing(self):
        for task, settings in ((TASKS["regression"], {"loss": "multi_margin"}),
                               (TASKS["multilabel"], {"class_weights": "balanced"})):  # fmt: skip
            with pytest.raises(InputError):
                system_of({"context": windows(1, 1)}, task, **settings)
        with pytest.raises(InputError, match="no stream"):
            system_of({})
        with pytest.raises(InputError, match="odd number"):
            TabFusionSettings(slots=4)
        with pytest.raises(InputError, match="`cached` is false"):
            TabFusionSettings(cache="x", cached=False)
        with pytest.raises(InputError, match="slots: windows are gathered from the dialogue"):
            TabFusionSettings(context="dialogue", slots=3)

    def test_of_a_dialogue_three_turns_on_each_side_are_read_unless_more_is_said(self):
        sentence = {"context": given("text.sentence", WIDTH)}
        window = system_of(sentence, context="dialogue", after=0).window
        assert (window.before, window.after) == (3, 0)
