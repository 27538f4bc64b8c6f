"""What MMML reads of the turns before, made by a command's own settings: from transcripts to an answer."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from demeanor.data.errors import InputError
from demeanor.data.examples import Examples
from demeanor.data.ragged import Ragged
from demeanor.data.stream import Stream
from demeanor.data.utterances import make_table
from demeanor.features import find_extractor
from demeanor.features.base import Clip
from demeanor.features.clips import clips_of
from demeanor.features.engine import extract_streams
from demeanor.inference.model import TrainedModel
from demeanor.models.mmml.streams import TEXT_CONTEXT, write_context
from demeanor.models.mmml.system import MMML
from demeanor.pipelines.feature_engineering.nodes import FeatureSettings
from demeanor.training.fit import fit, specify
from demeanor.training.settings import BranchSettings
from tests.toy import SENTIMENT, toy_score

FEATURES = """
text:
  text.tokens: {extractor: hf_tokens, parameters: {model: minilm, max_length: 96}}
  text.context_tokens: {extractor: hf_context_tokens, parameters: {model: minilm, before: 2}}
"""
BRANCH = """
system: mmml
task: sentiment
streams: {text: text.tokens, audio: audio.waveform, text_context: text.context_tokens}
training: {epochs: 1, batch_size: 4, threads: 1, device: cpu}
"""
SAID = ["I loved it", "really", None, "no it was dull", "dull", "you are right about that one"]


@pytest.fixture(scope="module")
def examples(tmp_path_factory) -> Examples:
    """Four dialogues of six turns; sound is made, not recorded."""
    folder = tmp_path_factory.mktemp("features")
    rows = [
        {"utterance_id": f"d{d}_{t}", "corpus": "toy", "split": "valid" if d == 3 else "train", "dialogue": f"d{d}",
         "turn": t, "text": text, "sentiment": float(t - 2)}
        for d in range(4) for t, text in enumerate(SAID)
    ]  # fmt: skip
    table = make_table(rows)
    settings = FeatureSettings(**yaml.safe_load(FEATURES))
    streams, _ = extract_streams(clips_of(table, folder), settings.text, folder / "cache", folder / "out", 1, False)
    generator = np.random.default_rng(0)
    sound = {row["utterance_id"]: generator.normal(0, 1000, (900, 1)).astype(np.int16) for row in rows}
    maker = find_extractor("waveform").provenance()
    waveform = Stream("audio.waveform", Ragged.from_sequences(sound, 1, np.dtype(np.int16)), maker)
    return Examples.of(table, {**streams, "audio.waveform": waveform})


def branch() -> BranchSettings:
    """Tiny encoders, the 30 522 word pieces of MiniLM's tokenizer."""
    tiny = MMML.tiny().as_dict()
    tiny["text_configuration"] |= {"vocab_size": 30_522}
    return BranchSettings(**yaml.safe_load(BRANCH), model=tiny)


@pytest.mark.parametrize("keep", ["newest", "oldest"])
def test_the_extractor_says_what_the_context_streams_say(examples: Examples, keep: str, tmp_path):
    """Against the streams that are written from whole streams; `oldest` and `marked` are the published program's."""
    reference = keep == "oldest"
    expected = write_context(
        tmp_path, examples.utterances, examples.stream("text.tokens"), examples.stream("audio.waveform"),
        text_length=6, reference=reference,
    )[TEXT_CONTEXT]  # fmt: skip
    extractor = find_extractor("hf_context_tokens", {"max_length": 6, "keep": keep, "marked": reference})
    for clip in clips_of(examples.utterances, tmp_path):
        if clip.spoken is None and reference:
            continue  # the streams have no token to mark a past with
        found = extractor.extract_clip(clip)
        np.testing.assert_array_equal(found, expected.ragged[clip.utterance_id], err_msg=clip.utterance_id)
    assert len(extractor.extract_clip(Clip("alone", text="hello"))) == (2 if reference else 0)


def test_it_is_trained_on_them_and_reads_the_turns_before_of_a_conversation(examples: Examples):
    settings = branch()
    bundle = fit("mmml", settings, SENTIMENT, examples, 1, toy_score, progress=False).bundle
    assert bundle.card.inputs["text_context"].provenance.recomputable
    lengths = examples.stream("text.context_tokens").ragged.lengths
    assert lengths[0] == 0
    assert max(lengths) > 6
    turns = [{"utterance_id": f"u{n}", "text": text, "dialogue": "d", "turn": n}
             for n, text in enumerate(["it was so dull", "hello", "hello"])]  # fmt: skip
    answers = TrainedModel.load(bundle).score(turns).set_index("utterance_id")
    alone = TrainedModel.load(bundle).score([{"utterance_id": "u1", "text": "hello"}]).set_index("utterance_id")
    assert not answers["problem"].any()
    # The same words after other words: the past is read, and it is that of the conversation.
    assert abs(answers.loc["u1", "sentiment"] - alone.loc["u1", "sentiment"]) > 1e-6
    assert abs(answers.loc["u1", "sentiment"] - answers.loc["u2", "sentiment"]) > 1e-6


def test_tokens_of_another_tokenizer_are_refused(examples: Examples):
    settings = branch()
    inputs = specify(settings, examples)
    strange = inputs["text_context"].provenance.model_copy(update={"parameters": {"vocabulary_sha256": "another"}})
    inputs["text_context"] = inputs["text_context"].model_copy(update={"provenance": strange})
    with pytest.raises(InputError, match="different tokenizers"):
        MMML(MMML.Settings(**settings.model), inputs, SENTIMENT)
