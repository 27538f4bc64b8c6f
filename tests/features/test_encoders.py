"""Hugging Face encoders of every kind, tiny and with random weights, from local folders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from demeanor.data.errors import InputError, ProvenanceError
from demeanor.features import extractor_from, find_extractor
from demeanor.features.base import Clip
from demeanor.features.hub import EncoderError, bundled_minilm
from tests.features.media_samples import faces, voice, write_recording

TEXTS = [
    "It was not that bad, honestly.", "no", None, "   ", "I loved it! " * 12, "unbelievably supercalifragilistic",
    "well well well", "A much longer sentence that says very little about anything at all.",
]  # fmt: skip
SPEECH = {
    "wav2vec2": lambda: transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**SMALL, **CONVOLUTIONS)),
    "wav2vec2_stable": lambda: transformers.Wav2Vec2Model(
        transformers.Wav2Vec2Config(**SMALL, **CONVOLUTIONS, do_stable_layer_norm=True, feat_extract_norm="layer")
    ),
    "hubert": lambda: transformers.HubertModel(transformers.HubertConfig(**SMALL, **CONVOLUTIONS)),
    "wavlm": lambda: transformers.WavLMModel(transformers.WavLMConfig(**SMALL, **CONVOLUTIONS)),
    "data2vec": lambda: transformers.Data2VecAudioModel(
        transformers.Data2VecAudioConfig(
            **SMALL, **{**CONVOLUTIONS, "num_conv_pos_embeddings": 3}, conv_pos_kernel_size=5
        )
    ),
    "whisper": lambda: transformers.WhisperModel(
        transformers.WhisperConfig(
            d_model=16, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
            encoder_ffn_dim=16, decoder_ffn_dim=16, vocab_size=60, num_mel_bins=80, pad_token_id=0, bos_token_id=1,
            eos_token_id=2, decoder_start_token_id=1,
        )
    ),
}  # fmt: skip
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
CONVOLUTIONS = {
    "conv_dim": (8,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2, "vocab_size": 8,
}  # fmt: skip


def saved(folder: Path, model, **files: dict) -> str:
    model.save_pretrained(folder)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return str(folder)


def clips() -> list[Clip]:
    return [Clip(f"t{n}", text=text) for n, text in enumerate(TEXTS)]


@pytest.mark.parametrize("name", ["hf_tokens", "hf_words", "hf_sentence"])
def test_text_alone_and_in_a_batch(name: str):
    extractor = find_extractor(name)
    together = extractor.extract(clips())
    for clip, values in zip(clips(), together, strict=True):
        assert values.dtype == extractor.dtype
        assert values.shape[1] == extractor.dimension
        assert (len(values) == 0) == (clip.spoken is None)
        np.testing.assert_allclose(extractor.extract_clip(clip), values, atol=1e-5)
    if name == "hf_words":
        assert [len(values) for values in together] == [len((clip.text or "").split()) for clip in clips()]


def test_sentence_is_the_normalised_mean_of_the_states():
    folder = bundled_minilm()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        states = model(**tokenizer(TEXTS[0], return_tensors="pt")).last_hidden_state[0]
    clip = Clip("a", text=TEXTS[0])
    mean = find_extractor("hf_sentence", {"normalise": False}).extract_clip(clip)[0]
    np.testing.assert_allclose(mean, states.mean(dim=0), atol=1e-5)
    np.testing.assert_allclose(
        find_extractor("hf_sentence").extract_clip(clip)[0], mean / np.linalg.norm(mean), atol=1e-5
    )
    first = find_extractor("hf_sentence", {"normalise": False, "pooling": "cls"}).extract_clip(clip)[0]
    np.testing.assert_allclose(first, states[0], atol=1e-5)


def test_words_are_the_mean_of_their_pieces():
    tokenizer = transformers.AutoTokenizer.from_pretrained(bundled_minilm())
    model = transformers.AutoModel.from_pretrained(bundled_minilm()).eval()
    text = "Well, unbelievably good."
    encoded = tokenizer(text, return_tensors="pt", return_offsets_mapping=True)
    offsets = encoded.pop("offset_mapping")[0].tolist()
    with torch.inference_mode():
        states = model(**encoded).last_hidden_state[0]
    spans = [(0, 5), (6, 18), (19, 24)]
    values = find_extractor("hf_words").extract_clip(Clip("a", text=text))
    for value, (start, end) in zip(values, spans, strict=True):
        own = [n for n, (left, right) in enumerate(offsets) if right > left >= start and right <= end]
        np.testing.assert_allclose(value, states[own].mean(dim=0), atol=1e-5)


def test_a_text_longer_than_the_model_keeps_a_state_for_every_word():
    text = " ".join(f"word{n}" for n in range(400))
    values = find_extractor("hf_words").extract_clip(Clip("a", text=text))
    assert len(values) == 400
    assert (np.abs(values).sum(axis=1) > 0).all()
    assert len(find_extractor("hf_sentence").extract_clip(Clip("a", text=text))) == 1
    ids = find_extractor("hf_tokens", {"max_length": 20}).extract_clip(Clip("a", text=text))[:, 0]
    assert len(ids) == 20
    tokenizer = transformers.AutoTokenizer.from_pretrained(bundled_minilm())
    assert (ids[0], ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)


def test_other_weights_are_refused(tmp_path: Path):
    tokenizer = transformers.AutoTokenizer.from_pretrained(bundled_minilm())
    config = transformers.BertConfig(**SMALL, vocab_size=tokenizer.vocab_size)
    for seed, name in ((0, "one"), (1, "two")):
        torch.manual_seed(seed)
        tokenizer.save_pretrained(saved(tmp_path / name, transformers.BertModel(config)))
    provenance = find_extractor("hf_sentence", {"model": str(tmp_path / "one")}).provenance()
    assert extractor_from(provenance).dimension == 16
    (tmp_path / "one" / "model.safetensors").write_bytes((tmp_path / "two" / "model.safetensors").read_bytes())
    from demeanor.features.hub import resolve

    resolve.cache_clear()
    with pytest.raises(ProvenanceError, match="weights_sha256"):
        extractor_from(provenance)


def test_an_encoder_that_cannot_be_had_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(EncoderError, match="no such folder"):
        find_extractor("hf_sentence", {"model": "/no/where"}).provenance()


@pytest.mark.parametrize("family", list(SPEECH))
def test_speech_encoders(family: str, tmp_path: Path):
    torch.manual_seed(0)
    whisper = family == "whisper"
    kind = "WhisperFeatureExtractor" if whisper else "Wav2Vec2FeatureExtractor"
    options = {"feature_size": 80} if whisper else {"feature_size": 1, "do_normalize": True}
    files = {"preprocessor_config": {"feature_extractor_type": kind, "sampling_rate": 16_000, **options}}
    folder = saved(tmp_path, SPEECH[family](), **files)
    sounds = [voice(seconds, pitch=100 + 20 * n) for n, seconds in enumerate((1.0, 0.3, 0.05, 0.7))]
    given = [Clip(str(n), recorded=sound) for n, sound in enumerate([*sounds, np.zeros(8000, np.float32)])]
    extractor = find_extractor("hf_speech", {"model": folder})
    together = extractor.extract(given)
    assert extractor.rate == 50.0
    assert len(together[-1]) == 0
    for clip, values in zip(given, together, strict=True):
        assert values.shape[1] == 16
        np.testing.assert_allclose(extractor.extract_clip(clip), values, atol=1e-5)
        if clip.waveform is not None and np.abs(clip.waveform).max() > 0 and not whisper:
            assert len(values) == (len(clip.waveform) - 400) // 320 + 1
            with torch.inference_mode():
                plain = extractor.model(extractor._input(clip.waveform)).last_hidden_state[0]
            np.testing.assert_allclose(values, plain, atol=1e-5)
    if whisper:
        assert [len(values) for values in together] == [50, 15, 3, 35, 0]
    mixed = find_extractor("hf_speech", {"model": folder, "layers": (0, -1), "weights": (0.25, 0.75)}).extract(given)
    zero = find_extractor("hf_speech", {"model": folder, "layers": (0,)}).extract(given)
    np.testing.assert_allclose(mixed[0], 0.25 * zero[0] + 0.75 * together[0], atol=1e-5)


def test_whisper_is_given_sounds_as_long_as_they_are(tmp_path: Path):
    """An encoder that looks at few frames gives the same with and without the silence up to thirty seconds."""
    torch.manual_seed(0)
    files = {"preprocessor_config": {"feature_extractor_type": "WhisperFeatureExtractor", "feature_size": 80}}
    folder = saved(tmp_path, SPEECH["whisper"](), **files)
    clip = Clip("a", recorded=voice(2.0))
    padded = find_extractor("hf_speech", {"model": folder, "layers": (0,), "padded": True})
    cut = find_extractor("hf_speech", {"model": folder, "layers": (0,)})
    np.testing.assert_allclose(cut.extract_clip(clip), padded.extract_clip(clip), atol=1e-4)
    assert cut.provenance().fingerprint != padded.provenance().fingerprint
    long = find_extractor("hf_speech", {"model": folder}).extract_clip(Clip("b", recorded=voice(31.0)))
    assert len(long) == 31 * 50


@pytest.mark.parametrize("family", ["whisper", "hubert"])
def test_statistics_of_a_speech_encoder(family: str, tmp_path: Path):
    torch.manual_seed(0)
    kind = "WhisperFeatureExtractor" if family == "whisper" else "Wav2Vec2FeatureExtractor"
    options = {"feature_size": 80} if family == "whisper" else {"do_normalize": False}
    files = {"preprocessor_config": {"feature_extractor_type": kind, **options}}
    folder = saved(tmp_path, SPEECH[family](), **files)
    clips = [Clip("a", recorded=voice(1.0)), Clip("b", recorded=np.zeros(8000, np.float32)), Clip("c")]
    settings = {"model": folder, "layers": (0, 1), "spoken": False}
    frames = [find_extractor("hf_speech", {"model": folder, "layers": (n,)}).extract_clip(clips[0]) for n in (0, 1)]
    expected = [np.concatenate([one.mean(axis=0), one.std(axis=0)]) for one in frames]
    apart = find_extractor("hf_speech_statistics", {**settings, "apart": True})
    first, silent, absent = apart.extract(clips)
    np.testing.assert_allclose(first, expected, atol=1e-5)
    assert silent.shape == absent.shape == (0, 32)
    with pytest.raises(EncoderError, match=r"has no layer 6: `layers` are 0 .* to \d"):
        find_extractor("hf_speech_statistics", {**settings, "layers": (0, 6)}).provenance()
    mean = (frames[0] + frames[1]) / 2
    together = find_extractor("hf_speech_statistics", settings).extract_clip(clips[0])
    np.testing.assert_allclose(together, [np.concatenate([mean.mean(axis=0), mean.std(axis=0)])], atol=1e-5)


def test_statistics_of_what_whispers_heads_gather(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    files = {"preprocessor_config": {"feature_extractor_type": "WhisperFeatureExtractor", "feature_size": 80}}
    folder = saved(tmp_path / "whisper", SPEECH["whisper"](), **files)
    settings = {"model": folder, "spoken": False, "apart": True}
    clip = Clip("a", recorded=voice(1.0))
    reader = find_extractor("hf_speech_statistics", {**settings, "layers": (1, -1), "read": "attention"})
    values = reader.extract_clip(clip)
    seen: list[np.ndarray] = []  # by a hook, as the library's own layers compute it
    encoder = reader.model
    handles = [
        layer.self_attn.out_proj.register_forward_pre_hook(lambda module, given: seen.append(given[0][0].numpy()))
        for layer in encoder.layers
    ]
    states = find_extractor("hf_speech_statistics", {**settings, "layers": (0, 1, 2)})
    states.extract_clip(clip)
    for handle in handles:
        handle.remove()
    expected = [np.concatenate([one[:50].mean(axis=0), one[:50].std(axis=0)]) for one in seen]
    np.testing.assert_allclose(values, expected, atol=1e-5)
    assert "read" not in states.provenance().parameters
    assert reader.provenance().parameters["read"] == "attention"
    ran: list[int] = []
    for number, layer in enumerate(encoder.layers):
        monkeypatch.setattr(layer, "fc2", Counted(layer.fc2, ran, number))
    find_extractor("hf_speech_statistics", {**settings, "layers": (1,)}).extract_clip(clip)
    find_extractor("hf_speech_statistics", {**settings, "layers": (1,), "read": "attention"}).extract_clip(clip)
    assert ran == [0], "layers after the last one that is read are not computed"


class Counted(torch.nn.Module):
    """Says when it is called."""

    def __init__(self, inner: torch.nn.Module, calls: list[int], number: int):
        super().__init__()
        self.inner, self.calls, self.number = inner, calls, number

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        self.calls.append(self.number)
        return self.inner(values)


def test_attention_is_read_of_whisper_alone(tmp_path: Path):
    files = {"preprocessor_config": {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "do_normalize": False}}
    folder = saved(tmp_path, SPEECH["hubert"](), **files)
    with pytest.raises(EncoderError, match="is no Whisper: of others only `read: states` is known"):
        find_extractor("hf_speech_statistics", {"model": folder, "layers": (1,), "read": "attention"}).provenance()
    for wrong, said in (({"padded": True, "layers": (1,)}, "padded: false"), ({"layers": (0, 1)}, "from 1")):
        with pytest.raises(InputError, match=said):
            find_extractor("hf_speech_statistics", {"read": "attention", **wrong})


def test_long_sound_is_encoded_piece_by_piece(tmp_path: Path):
    files = {"preprocessor_config": {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "do_normalize": False}}
    folder = saved(tmp_path, SPEECH["hubert"](), **files)
    sound = voice(2.5)
    whole = find_extractor("hf_speech", {"model": folder, "window": 1.0}).extract_clip(Clip("a", recorded=sound))
    first = find_extractor("hf_speech", {"model": folder}).extract_clip(Clip("a", recorded=sound[:16_000]))
    np.testing.assert_allclose(whole[: len(first)], first, atol=1e-5)
    assert len(whole) == 49 + 49 + 24


PICTURES = {
    "vit": lambda: transformers.ViTModel(transformers.ViTConfig(**SMALL, image_size=32, patch_size=16)),
    "dinov2": lambda: transformers.Dinov2Model(
        transformers.Dinov2Config(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, mlp_ratio=2, image_size=32, patch_size=16
        )
    ),
    "clip": lambda: transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**SMALL, image_size=32, patch_size=16)),
}
COLOURS = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4], "size": {"height": 32, "width": 32}}


@pytest.mark.parametrize("family", list(PICTURES))
def test_image_encoders(family: str, tmp_path: Path):
    torch.manual_seed(0)
    kind = "CLIPImageProcessor" if family == "clip" else "ViTImageProcessor"
    files = {"preprocessor_config": {"image_processor_type": kind, **COLOURS}}
    folder = saved(tmp_path / "model", PICTURES[family](), **files)
    film = write_recording(tmp_path / "film.mp4", None, faces(12))
    radio = write_recording(tmp_path / "radio.m4a", voice(0.5))
    extractor = find_extractor("hf_image", {"model": folder, "rate": 5.0})
    values, none = extractor.extract([Clip("a", media=film), Clip("b", media=radio)])
    assert values.shape == (6, 16)
    assert none.shape == (0, 16)
    assert values.std(axis=0).max() > 0
    np.testing.assert_allclose(extractor.extract_clip(Clip("a", media=film)), values, atol=1e-5)


def test_video_encoder(tmp_path: Path):
    config = transformers.VideoMAEConfig(**SMALL, image_size=32, patch_size=16, num_frames=4, tubelet_size=2)
    files = {"preprocessor_config": {"image_processor_type": "VideoMAEImageProcessor", **COLOURS}}
    folder = saved(tmp_path / "model", transformers.VideoMAEModel(config), **files)
    film = write_recording(tmp_path / "film.mp4", None, faces(12))
    extractor = find_extractor("hf_video", {"model": folder, "rate": 5.0})
    values = extractor.extract_clip(Clip("a", media=film))
    assert values.shape == (2, 16)
    assert extractor.rate == 1.25
