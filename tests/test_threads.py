"""Whatever is registered answers many threads as it answers one: bytes are equal, whoever asks beside it.

Eight threads make 16 calls over mixed clips, and so do all extractors at once, which share tokenizers and models. What
one thread says comes after, from another object that has seen nothing else: no call may depend on an earlier one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from safetensors.torch import save_file
from tokenizers import pre_tokenizers

from demeanor.data.batches import Batches
from demeanor.features import EXTRACTORS, find_extractor, media
from demeanor.features.base import Clip, Extractor, Word
from demeanor.features.hub import load_model, load_tokenizer
from demeanor.features.openface import COLUMNS
from demeanor.features.sharing import Lending, loaded_once
from demeanor.features.vq_wav2vec import VqLayout, VqWav2vec
from demeanor.inference.predict import forward_all
from demeanor.models.tab_fusion.memory import forget
from demeanor.pipelines.ingestion import nodes
from demeanor.representations.base import REPRESENTATIONS, Layout, build_representation
from tests.features.media_samples import voice, write_recording
from tests.features.test_encoders import COLOURS, CONVOLUTIONS, PICTURES, SMALL, SPEECH, saved
from tests.models.examples import FORMS, build, card_of, example_batch
from tests.project import DEMO

THREADS, CALLS = 8, 16
#: Different batches or matrices that are asked for in turn.
ASKED = 4
FILMS = sorted((DEMO / "Raw" / "synthetic_01").glob("*.mp4"))[:4]
SAID = (
    "It was not that bad, honestly.", "no", "unbelievably supercalifragilistic, I would say", "well well well", None,
    "A much longer sentence that says very little about anything at all.",
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def often() -> Iterator[None]:
    """Threads take turns twenty times as often as usual: what can go wrong between them does."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(before / 20)
    yield
    sys.setswitchinterval(before)


def at_once(calls: Sequence[Callable[[], Any]], threads: int = THREADS) -> list[Any]:
    """What each call gives, made by that many threads that start together."""
    ready = Barrier(threads)
    with ThreadPoolExecutor(threads, initializer=ready.wait) as pool:
        return list(pool.map(lambda call: call(), calls))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny encoders of every kind with random weights, vectors, dictionaries and tables."""
    base = tmp_path_factory.mktemp("threads")
    torch.manual_seed(0)
    sound = {"preprocessor_config": {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "do_normalize": True}}
    saved(base / "speech", SPEECH["wav2vec2_stable"](), **sound)
    letters = {name: n for n, name in enumerate(["<pad>", "<s>", "</s>", "<unk>", "|", *"abcdehilnorstuvwy"])}
    config = transformers.Wav2Vec2Config(**SMALL, **{**CONVOLUTIONS, "vocab_size": len(letters)}, pad_token_id=0)
    saved(base / "ctc", transformers.Wav2Vec2ForCTC(config), vocab=letters, **sound)
    transformers.Wav2Vec2CTCTokenizer(str(base / "ctc" / "vocab.json")).save_pretrained(base / "ctc")
    for name, kind in (("image", "ViTImageProcessor"), ("video", "VideoMAEImageProcessor")):
        sizes = {"image_size": 32, "patch_size": 16, "num_frames": 2, "tubelet_size": 2}
        video = transformers.VideoMAEModel(transformers.VideoMAEConfig(**SMALL, **sizes))
        model = PICTURES["vit"]() if name == "image" else video
        saved(base / name, model, preprocessor_config={"image_processor_type": kind, **COLOURS})
    layout = VqLayout(8, ((10, 5), (8, 4), (4, 4), (4, 2)), codewords=5, width=4, codebooks=2)
    state = {name: torch.randn_like(value) for name, value in VqWav2vec(layout).state_dict().items()}
    layers = repr([(8, *layer) for layer in layout.layers])
    save_file(state, base / "vq.safetensors", {"conv_feature_layers": layers})
    (base / "dict.txt").write_text("".join(f"{a}-{b} 1\n" for a in range(5) for b in range(5)))
    (base / "vectors.txt").write_text("no 1 2 3\nwell 4 5 6\nsay 7 8 9\nit 1 0 1\n")
    (base / "bpe").mkdir()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    (base / "bpe" / "encoder.json").write_text(json.dumps({letter: n for n, letter in enumerate(alphabet)}))
    (base / "bpe" / "vocab.bpe").write_text("#version: 0.2\n")
    (base / "bpe" / "dict.txt").write_text("".join(f"{n} 1\n" for n in range(len(alphabet))))
    for film in FILMS:
        times = np.arange(3) * 0.5
        values = np.random.default_rng(len(film.stem)).random((3, len(COLUMNS) + 1))
        rows = "\n".join(",".join(map(str, [time, *row])) for time, row in zip(times, values, strict=True))
        (base / f"{film.stem}.csv").write_text(",".join(["timestamp", "success", *COLUMNS]) + "\n" + rows + "\n")
    write_recording(base / "radio.wav", voice(0.4, pitch=180), audio_codec="pcm_s16le")
    return base


def settings_of(folder: Path) -> dict[str, dict[str, Any]]:
    """For every extractor; one that works without settings needs no line here."""
    coded = {"checkpoint": str(folder / "vq.safetensors")}
    return {
        **{name: {} for name in EXTRACTORS},
        "librosa_frames": {"mfcc": 4, "pitch": False},
        "mel_spectrogram": {"padding": "random"}, "face_descriptors": {"rate": 4.0},
        "face_mesh": {"rate": 4.0, "gaze": "iris"},
        "hf_tokens": {"max_length": 5}, "hf_sentence": {"layer": 1}, "hf_context": {"before": 1},
        "hf_context_tokens": {"max_length": 6}, "hf_turn_tokens": {"max_length": 8},
        "vq_wav2vec_codes": coded, "vq_wav2vec_ids": {**coded, "dictionary": str(folder / "dict.txt")},
        "glove": {"vectors": str(folder / "vectors.txt")}, "roberta_bpe": {"folder": str(folder / "bpe")},
        "ctc_word_times": {"model": str(folder / "ctc")},
        "per_word": {"extractor": "librosa_frames", "parameters": {"chroma": False, "pitch": False}},
        "openface_csv": {"folder": str(folder)}, "hf_speech": {"model": str(folder / "speech"), "layers": [0, 1, -1]},
        "hf_speech_statistics": {"model": str(folder / "speech"), "layers": [0, 1, -1], "apart": True},
        "hf_image": {"model": str(folder / "image"), "rate": 4.0},
        "hf_video": {"model": str(folder / "video"), "rate": 4.0},
    }  # fmt: skip


def clips_in(folder: Path) -> list[Clip]:
    """Films and a wave file, as paths and as bytes, one clip without a word and all in one dialogue."""
    made = []
    for n, text in enumerate(SAID):
        film = FILMS[n] if n < len(FILMS) else folder / "radio.wav"
        words = tuple(Word(word, 0.1 * k, 0.1 * k + 0.1) for k, word in enumerate((text or "").split())) or None
        media = film.read_bytes() if n in (2, 5) else film
        end = 0.45 if n < len(FILMS) else None
        made.append(Clip(str(n), text, "en", words, media, 0.0, end, alignment="corpus", dialogue=SAID, turn=n))
    return made


def asked(extractor: Extractor, clips: Sequence[Clip], calls: int = CALLS) -> list[Callable[[], bytes]]:
    """That many calls, over the clips in turn."""
    return [partial(_answer, extractor, clips[n % len(clips)]) for n in range(calls)]


def _answer(extractor: Extractor, clip: Clip) -> bytes:
    return whole(extractor.extract_clip(clip.without_cache()))


def whole(values: np.ndarray) -> bytes:
    return f"{values.shape} {values.dtype}".encode() + np.ascontiguousarray(values).tobytes()


def test_settings_are_those_of_extractors(folder: Path):
    assert set(settings_of(folder)) == set(EXTRACTORS), "settings of an extractor that there is none of"


@pytest.mark.parametrize("name", EXTRACTORS)
def test_an_extractor_answers_many_threads_as_it_answers_one(name: str, folder: Path):
    clips, settings = clips_in(folder), settings_of(folder)[name]
    load_tokenizer.cache_clear()  # loading, too, may happen in several threads at once
    load_model.cache_clear()
    found = at_once(asked(find_extractor(name, settings), clips))
    alone = find_extractor(name, settings)
    expected = [whole(alone.extract_clip(clip)) for clip in clips]
    assert found == [expected[n % len(clips)] for n in range(CALLS)]
    assert len(set(expected)) > 1


def test_all_extractors_at_once_do_not_disturb_each_other(folder: Path):
    clips = clips_in(folder)
    makers = [find_extractor(name, settings) for name, settings in settings_of(folder).items()]
    groups = zip(*(asked(maker, clips, len(clips)) for maker in makers), strict=True)
    calls = [call for group in groups for call in group]
    assert at_once(calls) == [call() for call in calls]


VARIANTS = [(name, False) for name in FORMS] + [
    (name, True) for name in FORMS if any(role.kind == "any" for role in card_of(name).roles.values())
]


@pytest.mark.parametrize(("name", "tokens"), VARIANTS, ids=lambda v: {True: "tokens", False: ""}.get(v, v))
def test_a_system_answers_many_threads_as_it_answers_one(name: str, tokens: bool):
    kind = card_of(name).tasks[0]
    system = build(name, kind, tokens).eval()
    size = 4 if system.card.batching == "dialogue" else 2
    batches = [example_batch(system, count=size, seed=n) for n in range(ASKED)]

    def answer(asked: Any, n: int) -> bytes:
        with torch.inference_mode():
            return whole(asked(batches[n]).prediction.numpy())

    forget()  # what frozen encoders gave before
    found = at_once([lambda n=n: answer(system, n % ASKED) for n in range(CALLS)])
    forget()
    other = build(name, kind, tokens).eval()
    expected = [answer(other, n) for n in reversed(range(ASKED))][::-1]
    assert found == [expected[n % ASKED] for n in range(CALLS)]
    assert len(set(expected)) > 1


@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_a_representation_answers_many_threads_as_it_answers_one(name: str):
    torch.manual_seed(3)
    layout = Layout(steps=12, blocks={"text": (0, 5), "audio": (5, 10)})
    model = build_representation(name, {}, layout).eval()
    matrices = torch.randn(ASKED, 2, 12, 10)
    mask = torch.rand(ASKED, 2, 12, 2) > 0.3
    if model.closed_form:
        model.solve(matrices.flatten(0, 1), mask.flatten(0, 1))

    def answer(n: int) -> bytes:
        with torch.no_grad():
            return whole(model.embed(matrices[n], mask[n]).numpy())

    found = at_once([lambda n=n: answer(n % ASKED) for n in range(CALLS)])
    alone = [answer(n) for n in range(ASKED)]
    assert found == [alone[n % ASKED] for n in range(CALLS)]


def test_a_shared_system_is_left_where_it_is_and_as_it_is(monkeypatch: pytest.MonkeyPatch):
    system = build("late_fusion").eval()

    def moved(*arguments: Any, **options: Any) -> None:
        raise AssertionError("a system that is in use was moved")

    monkeypatch.setattr(type(system), "to", moved)

    class One(Batches):
        def __init__(self) -> None: ...

        def __len__(self) -> int:
            return 8

        def plan(self, *arguments: Any, **options: Any) -> Any: ...

        def iterate(self, *arguments: Any) -> Any:
            return iter([example_batch(system)])

    assert np.isfinite(forward_all(system, One(), 1)).all()


def test_what_is_lent_serves_one_thread_at_a_time_and_is_used_again():
    made: list[object] = []
    lending = Lending(lambda: made.append(thing := object()) or thing)
    with lending.lent() as one, lending.lent() as two:
        assert one is not two
    with lending.lent() as again:
        assert again in (one, two)
    with pytest.raises(ZeroDivisionError), lending.lent() as spoilt:
        _ = 1 / 0
    assert len(made) == 2
    with lending.lent() as first, lending.lent() as second:
        assert spoilt not in (first, second)


def test_what_is_loaded_is_loaded_once_however_many_ask():
    made: list[int] = []

    @loaded_once(maxsize=4)
    def slow(number: int) -> object:
        made.append(number)
        sum(range(20_000))
        return object()

    found = at_once([lambda n=n: slow(n % 2) for n in range(CALLS)])
    assert sorted(made) == [0, 1]
    assert len(set(map(id, found))) == 2


def test_ingestion_sees_the_same_in_threads_and_no_recording_stops_it(monkeypatch: pytest.MonkeyPatch):
    paths = [FILMS[n % len(FILMS)].relative_to(DEMO).as_posix() for n in range(8)]
    corpus: Any = SimpleNamespace(
        root=DEMO,
        utterances=pd.DataFrame({"utterance_id": [f"u{n}" for n in range(9)], "media": [*paths, "no_access.mp4"]}),
    )
    plain = media.opened

    def guarded(path: Path) -> Any:
        if path.name == "no_access.mp4":
            raise PermissionError(13, "Permission denied", str(path))
        return plain(path)

    monkeypatch.setattr(media, "opened", guarded)
    monkeypatch.setattr(nodes, "WAITING", 5)
    found = dict(nodes.probe_media(corpus))
    assert "Permission denied" in (found.pop("u8").error or "")
    alone = [nodes.probe_one(film) for film in FILMS]
    assert list(found.values()) == [alone[n % len(FILMS)] for n in range(8)]
