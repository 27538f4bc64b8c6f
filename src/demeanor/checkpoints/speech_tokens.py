"""The speech tokens of TAB fusion from their official files: k-means vq-wav2vec, dict.txt and the speech-BERT.

docs/systems/tab_fusion.md#speech-tokens, #vq-checkpoint, #encoders. What is there becomes one folder in open formats,
checked to belong together, that the parameters name:

    audio.tokens: {extractor: vq_wav2vec_ids, parameters: {checkpoint: <folder>/vq_wav2vec.safetensors,
                                                           dictionary: <folder>/dict.txt}}
    model:        {speech_encoder: <folder>}
"""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from demeanor.data.errors import InputError
from demeanor.data.files import sha256_of_file, write_atomically, write_json
from demeanor.features.speech_codes import FIRST, PairDictionary, convert, load_checkpoint, read_official
from demeanor.features.vq_wav2vec import VqLayout
from demeanor.models.tab_fusion.fairseq import MIDDLE, encoder_configuration, encoder_weights

LICENCE = "MIT (fairseq's code and released models)"
QUANTISER, DICTIONARY, CARD = "vq_wav2vec.safetensors", "dict.txt", "card.json"
#: What `<mask>` adds to the embedding of a model trained by masking (docs/systems/tab_fusion.md#speech-tokens).
MASK = 1
ADVICE = (
    "Give vq-wav2vec_kmeans.pt, bert_kmeans.tar, bert_kmeans.pt (with dict.txt beside it), or a folder that holds them."
)


@dataclass(frozen=True)
class SpeechTokens:
    """Parts of the pipeline from a waveform to a vector, any of them: `quantiser` (a path and its layout), `dictionary`
    (its text), `weights` and `configuration` of the encoder under Hugging Face's names."""

    quantiser: Path | None = None
    layout: VqLayout | None = None
    dictionary: str | None = None
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    configuration: Mapping[str, Any] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)

    def save(self, folder: Path | str) -> None:
        """config.json and model.safetensors of the encoder, dict.txt, vq_wav2vec.safetensors, card.json."""
        from safetensors.torch import save_file

        with write_atomically(folder) as temporary:
            temporary.mkdir()
            configuration = dict(self.configuration)
            if self.dictionary is not None:
                (temporary / DICTIONARY).write_text(self.dictionary, encoding="utf-8")
                configuration["dictionary_sha256"] = sha256_of_file(temporary / DICTIONARY)
            if self.weights:
                write_json(temporary / "config.json", {**configuration, "architectures": ["RobertaModel"]})
                tensors = {name: value.float().contiguous().clone() for name, value in self.weights.items()}
                save_file(tensors, temporary / "model.safetensors", {"format": "pt"})
            if self.quantiser is not None:
                convert(self.quantiser, temporary / QUANTISER)
            card = {"sources_sha256": dict(self.sources), "licence": LICENCE, "parts": self.parts}
            write_json(temporary / CARD, card)

    @property
    def parts(self) -> dict[str, str]:
        """What was found, in words, by part: codes, ids, encoder."""
        tensors = {}
        if self.layout is not None:
            books = "shared by" if self.layout.codebooks == 1 else "for each of"
            tensors["codes"] = (
                f"{QUANTISER}: {self.layout.codewords} codewords {books} {self.layout.groups} groups, 16 kHz"
            )
        if self.dictionary is not None:
            tensors["ids"] = f"{DICTIONARY}: {len(self.dictionary.splitlines()):,} pairs"
        if self.weights:
            size = self.configuration
            tensors["encoder"] = (
                f"RoBERTa, {size['num_hidden_layers']} layers of {size['hidden_size']}, vocabulary "
                f"{size['vocab_size']:,}, {size['max_position_embeddings'] - 2:,} tokens"
            )
        return tensors

    def __str__(self) -> str:
        lines = ["speech tokens of TAB fusion", *(f"{name:<11} {what}" for name, what in self.parts.items())]
        absent = [name for name in ("codes", "ids", "encoder") if name not in self.parts]
        return "\n".join([*lines, f"not given   {', '.join(absent)}"] if absent else lines)


def import_speech_tokens(path: Path | str) -> SpeechTokens:
    """What a file or folder holds of the three; InputError for a stranger, or for parts that do not belong together."""
    path = Path(path)
    if not path.exists():
        raise InputError(str(path), ["there is no such file"], ADVICE)
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    parts: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for file in files:
        if file.name == DICTIONARY:
            parts.setdefault("dictionary", _dictionary(file.read_bytes(), str(file)))
        elif file.suffix == ".pt":
            parts |= _checkpoint(file, file, str(file))
        elif ".tar" in file.suffixes and tarfile.is_tarfile(file):
            parts |= _archive(file)
        else:
            continue
        sources[file.name] = sha256_of_file(file)
    beside = path.parent / DICTIONARY
    if path.is_file() and "weights" in parts and "dictionary" not in parts and beside.is_file():
        parts["dictionary"] = _dictionary(beside.read_bytes(), str(beside))
        sources[DICTIONARY] = sha256_of_file(beside)
    if not parts:
        raise InputError(str(path), ["holds nothing of vq-wav2vec or of a speech-BERT"], ADVICE)
    tokens = SpeechTokens(**parts, sources=sources)
    problems = mismatches(tokens)
    if problems:
        raise InputError(str(path), problems, "Take all three files from the same release.")
    return tokens


def mismatches(tokens: SpeechTokens) -> list[str]:
    """Why these parts are not of one codebook: sizes of dictionary, embedding and codebook that contradict."""
    if tokens.dictionary is None:
        return []
    pairs = [tuple(map(int, line.split(" ")[0].split("-"))) for line in tokens.dictionary.splitlines()]
    problems = []
    expected = len(pairs) + FIRST
    vocabulary = tokens.configuration.get("vocab_size", expected)
    if vocabulary not in (expected, expected + MASK):
        problems.append(
            f"dict.txt numbers {expected:,} ids ({expected + MASK:,} with <mask>), the encoder has {vocabulary:,}"
        )
    if tokens.layout is not None:
        beyond = sum(max(pair) >= tokens.layout.codewords for pair in pairs)
        if beyond:
            problems.append(f"{beyond:,} pairs of dict.txt are beyond the codebook's {tokens.layout.codewords} words")
        if tokens.layout.groups != 2:
            problems.append(f"codes come in {tokens.layout.groups} groups, dict.txt lists pairs")
    return problems


def _archive(path: Path) -> dict[str, Any]:
    """bert_kmeans.tar: a checkpoint and its dict.txt, read in place; nothing is unpacked."""
    arrays: dict[str, Any] = {}
    with tarfile.open(path) as archive:
        for member in archive:
            name = Path(member.name).name
            content = archive.extractfile(member) if member.isfile() and not name.startswith("._") else None
            if content is None:
                continue
            where = f"{path}:{member.name}"
            if name == DICTIONARY:
                arrays["dictionary"] = _dictionary(content.read(), where)
            elif name.endswith(".pt"):
                arrays |= _checkpoint(io.BytesIO(content.read()), None, where)
    return arrays


def _checkpoint(source: Path | io.BytesIO, path: Path | None, where: str) -> dict[str, Any]:
    """Either a speech-BERT or a vq-wav2vec; the latter is read once more by `convert`, which needs its path."""
    state, options = read_official(source, where)
    if any(MIDDLE in name for name in state):
        weights = encoder_weights(state, where)
        return {"weights": weights, "configuration": encoder_configuration(weights, options, where)}
    if path is None:
        raise InputError(where, ["is no speech-BERT"], ADVICE)
    return {"quantiser": path, "layout": load_checkpoint(path).layout}


def _dictionary(content: bytes, where: str) -> str:
    """The text of a dict.txt whose every line is a pair, listed once."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / DICTIONARY
        copy.write_bytes(content)
        try:
            PairDictionary(copy)
        except InputError as error:
            raise InputError(where, error.problems, error.advice) from None
    return content.decode("utf-8")
