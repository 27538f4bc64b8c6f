"""faster-whisper's model, asked for the languages and the words of stretches of speech; and where it is found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from demeanor.data.errors import MissingExtraError
from demeanor.data.files import sha256_of_file
from demeanor.data.places import anchored, expanded
from demeanor.features.base import SAMPLE_RATE, Word
from demeanor.features.hub import EncoderError
from demeanor.features.sharing import loaded_once
from demeanor.features.whisper_base import WHISPER_BASE, WHISPER_BASE_SHA256, packaged, recogniser_folder

#: Seconds that are heard at once: the model reads thirty, and a stretch is a little wider than its span.
PIECE = 29.0
#: Seconds of sound and silence that the encoder is given.
REACHES = (10.0, 15.0, 20.0, 30.0)
#: Whisper's own rule (section 4.5): probably no speech, and improbable words besides.
NO_SPEECH, IMPROBABLE = 0.6, -1.0
#: A text that zlib makes this much shorter repeats itself: the model was caught in a loop.
REPETITIVE = 2.4
#: Names of the hub under which the packaged weights go as well.
SAME = frozenset({"openai/whisper-base", "Systran/faster-whisper-base"})
#: OpenAI's names of models, of which the hub has these conversions.
CONVERSIONS = "Systran/faster-whisper-{}"
ADVICE = (
    "Give 'whisper-base' (pip install 'demeanor[speech]'), or a folder with model.bin, config.json and tokenizer.json,"
    " as ct2-transformers-converter writes it."
)


@dataclass(frozen=True)
class Recogniser:
    """A Whisper that several threads may use at once; `sha256` is that of its weights.

    workers  passes that it makes at the same time, each on one core; 1: one pass, on all cores
    """

    model: Any
    sha256: str
    workers: int = 1

    def knows(self, language: str) -> bool:
        """Can it hear that language (ISO 639-1)?"""
        return language in self.model.supported_languages

    def hear(
        self,
        pieces: Sequence[Float[np.ndarray, " _time"]],
        choose: Callable[[int, Callable[[], Mapping[str, float]]], str],
    ) -> list[list[Word]]:
        """Words of each stretch of 16 kHz sound with times from its beginning, as many as their text has between
        spaces; none where the model doubts that somebody speaks, or repeats itself.

        pieces  of like length (`reach`), at most thirty seconds each
        choose  the language (ISO 639-1) of a piece, of its number and what gives the model's probabilities of
                languages; who knows the language does not ask for them, which saves a pass of the decoder
        """
        from faster_whisper.tokenizer import Tokenizer
        from faster_whisper.transcribe import get_compression_ratio, get_suppressed_tokens, merge_punctuations

        model, multilingual = self.model, self.model.model.is_multilingual
        encoded = self._encoded(self._features(pieces))
        asked = cache(lambda: self._languages(encoded, len(pieces)))
        languages = [choose(number, partial(lambda place: asked()[place], number)) for number in range(len(pieces))]
        languages = [name if multilingual else "en" for name in languages]
        tokenizers = {
            name: Tokenizer(model.hf_tokenizer, multilingual, task="transcribe", language=name)
            for name in dict.fromkeys(languages)
        }
        prompts = [model.get_prompt(tokenizers[name], [], without_timestamps=True) for name in languages]
        results = model.model.generate(
            encoded, prompts, beam_size=1, max_length=model.max_length, suppress_blank=True, return_scores=True,
            suppress_tokens=get_suppressed_tokens(tokenizers[languages[0]], [-1]), return_no_speech_prob=True,
        )  # fmt: skip
        tokens = [[one for one in result.sequences_ids[0] if one < tokenizers[languages[0]].eot] for result in results]
        frames = [max(2, len(piece) // model.feature_extractor.hop_length) for piece in pieces]
        timings = {
            name: model.find_alignment(tokenizer, tokens, encoded, frames) for name, tokenizer in tokenizers.items()
        }
        found: list[list[Word]] = []
        for number, (result, name) in enumerate(zip(results, languages, strict=True)):
            text, timing = tokenizers[name].decode(tokens[number]), timings[name][number]
            doubted = result.no_speech_prob > NO_SPEECH and result.scores[0] < IMPROBABLE
            if doubted or not text.strip() or get_compression_ratio(text) > REPETITIVE:
                found.append([])
                continue
            merge_punctuations(timing, "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、")
            found.append(whole_words(timing))
        return found

    def _features(self, pieces: Sequence[np.ndarray]) -> np.ndarray:
        from faster_whisper.audio import pad_or_trim

        extract = self.model.feature_extractor
        frames = round(max(reach(len(piece)) for piece in pieces) * SAMPLE_RATE / extract.hop_length)
        return np.stack([pad_or_trim(extract(piece)[..., :-1], frames) for piece in pieces])

    def _encoded(self, features: Float[np.ndarray, "pieces bands frames"]) -> Any:
        """On the CPU piece by piece: attention to all places of many pieces at once would take hundreds of megabytes
        and saves nothing."""
        import ctranslate2

        if self.model.model.device != "cpu" or len(features) == 1:
            return self.model.encode(features)
        states = [np.asarray(self.model.encode(features[n : n + 1])) for n in range(len(features))]
        return ctranslate2.StorageView.from_array(np.concatenate(states))

    def _languages(self, encoded: Any, count: int) -> list[dict[str, float]]:
        if not self.model.model.is_multilingual:
            return [{"en": 1.0}] * count
        answers = self.model.model.detect_language(encoded)
        return [{token.strip("<|>"): float(share) for token, share in answer} for answer in answers]


def primary(language: str) -> str:
    """`en` of `en-US` or `EN_us`: models know languages without their regions."""
    return language.replace("_", "-").split("-")[0].lower()


def reach(samples: int) -> float:
    """Seconds that the encoder is given for a stretch: the model was trained on thirty, silence included, and
    understands ten nearly as well in a third of the time, where at least two of them are silence."""
    seconds = samples / SAMPLE_RATE
    return next(limit for limit in REACHES if seconds <= limit - 2.0 or limit == REACHES[-1])


def whole_words(timing: Sequence[dict[str, Any]]) -> list[Word]:
    """The model's pieces as words between spaces; a word is as probable as its pieces are on average."""
    groups: list[list[dict[str, Any]]] = []
    for piece in timing:
        if not piece["word"].strip():
            continue
        if groups and not piece["word"][0].isspace():
            groups[-1].append(piece)
        else:
            groups.append([piece])
    words: list[Word] = []
    for group in groups:
        parts = "".join(piece["word"] for piece in group).split()
        start, end = float(group[0]["start"]), float(group[-1]["end"])
        confidence = float(np.clip(np.mean([piece["probability"] for piece in group]), 0.0, 1.0))
        edges = np.linspace(start, max(end, start), len(parts) + 1)
        words += [Word(part, float(edges[n]), float(edges[n + 1]), confidence) for n, part in enumerate(parts)]
    return words


def place_of(model: str) -> Path:
    """Folder of a CTranslate2 Whisper; EncoderError, WeightsError or MissingExtraError in one sentence."""
    if model == WHISPER_BASE or (model in SAME and packaged()):
        return recogniser_folder()
    folder = anchored(model)
    if not folder.is_dir():
        if expanded(model).is_absolute() or model.startswith((".", "~")):
            raise EncoderError(f"recogniser '{model}': there is no such folder.\n{ADVICE}")
        folder = _from_hub(model)
    missing = [name for name in ("model.bin", "config.json", "tokenizer.json") if not (folder / name).is_file()]
    if missing:
        raise EncoderError(f"recogniser '{model}' has no {', no '.join(missing)}.\n{ADVICE}")
    return folder


def _from_hub(model: str) -> Path:
    from faster_whisper.utils import download_model
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    name = CONVERSIONS.format(model.removeprefix("openai/whisper-")) if model.startswith("openai/whisper-") else model
    try:
        return Path(download_model(name))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise EncoderError(
            f"recogniser '{model}' can be had neither from a local folder nor from the Hugging Face hub ({first}).\n"
            f"{ADVICE}"
        ) from None


def can_recognise() -> bool:
    """Are faster-whisper and the packaged weights installed? Nothing is loaded for this."""
    from importlib.util import find_spec

    return find_spec("faster_whisper") is not None and packaged()


@loaded_once(maxsize=2)
def load_recogniser(model: str, workers: int = 1) -> Recogniser:
    """The model, int8 on the CPU and float16 on a GPU; errors as of `place_of`, and where it cannot be loaded.
    MissingExtraError without the extra `speech`, EncoderError for a model that cannot be loaded.

    workers  passes at the same time, each on one core: for much sound better than one pass on all cores, which wait for
             one another at every layer
    """
    try:
        from faster_whisper import WhisperModel
    except ImportError:
        raise MissingExtraError("speech recognition", "speech") from None
    from demeanor.data.device import choose_device
    from demeanor.data.processors import available_cores

    folder = place_of(model)
    device = choose_device().type
    kind = "cuda" if device == "cuda" and _cuda() else "cpu"
    try:
        loaded = WhisperModel(
            str(folder), device=kind, compute_type="float16" if kind == "cuda" else "int8",
            cpu_threads=1 if workers > 1 else available_cores(), num_workers=workers, local_files_only=True,
        )  # fmt: skip
    except (RuntimeError, ValueError, OSError, KeyError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise EncoderError(f"recogniser '{model}' cannot be loaded ({first}).\n{ADVICE}") from None
    known = WHISPER_BASE_SHA256 if folder == _packaged_folder(model) else sha256_of_file(folder / "model.bin")
    return Recogniser(loaded, known, workers)


def _packaged_folder(model: str) -> Path | None:
    return recogniser_folder() if model == WHISPER_BASE or (model in SAME and packaged()) else None


def _cuda() -> bool:
    import ctranslate2

    return ctranslate2.get_cuda_device_count() > 0
