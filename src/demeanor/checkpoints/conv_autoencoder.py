"""Bundles from the checkpoints that the convolutional autoencoder's authors released
(docs/systems/conv_autoencoder.md#released).

A released file holds weights and nothing else: not its modalities, its column order, or the statistics that its
inputs were normalised with. What is inferred is said so in the bundle; what is unknown stays unknown until
`demeanor.representations.embedding.adapt` fits it on a train split.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

import demeanor
from demeanor.data.bundle import Bundle, BundleCard, InputSpecification
from demeanor.data.errors import InputError
from demeanor.data.files import sha256_of_file
from demeanor.data.provenance import Provenance
from demeanor.representations.base import RECONSTRUCTION, Layout
from demeanor.representations.conv_autoencoder import ConvAutoencoder, ConvAutoencoderSettings
from demeanor.representations.word_matrix import WordMatrixSettings
from demeanor.training.pretraining.collapse import CollapsedEncoderError, latent_health

LICENCE = "MIT (weights, github.com/lobracost/mlr); the corpora's own licences for the data"
#: Samples in the train splits of the released mixtures, from the batch norms' step counters
#: (docs/systems/conv_autoencoder.md#released).
TRAIN_SIZES = {"cmumosei": 16327, "cmumosi": 1283, "iemocap": 2717}
#: modality -> (words in a file's name, stream, features, extractor, frames per second),
#: docs/systems/conv_autoencoder.md#input.
MODALITIES: dict[str, tuple[tuple[str, ...], str, int, str, float | None]] = {
    "audio": (("audio", "acoustic"), "audio.frames", 74, "COVAREP", 100.0),
    # "visaul" is how a released file spells it.
    "vision": (("visual", "visaul", "vision"), "vision.frames", 35, "FACET 4.2", 30.0),
    "text": (("text",), "text.words", 300, "glove_vectors", None),
}
CANONICAL, IEMOCAP_ORDER = ("audio", "text", "vision"), ("audio", "vision", "text")


def import_conv_autoencoder(
    path: Path | str,
    modalities: Sequence[str] = (),
    force: bool = False,
    order: Sequence[str] = (),
) -> Bundle:
    """The bundle of a released .pt file, whose weights are read without running anything in it.

    modalities  of audio, text, vision; needed where the file's name does not say (a checkpoint has no width)
    force       import an encoder that ignores its input all the same
    order       of the columns; the default is what most of its training samples had
    Raises InputError for another kind of file or architecture, CollapsedEncoderError for a dead encoder.
    """
    path = Path(path)
    weights = read_checkpoint(path)
    channels, latent = check_architecture(weights, path)
    named, corpora = from_name(path.stem)
    chosen = tuple(modalities) or named
    if not chosen:
        raise InputError(
            str(path),
            ["its name does not say which modalities it was trained on"],
            "Give them: --modalities audio,text,vision (all of them for a name without a modality in the release).",
        )
    unknown = [f"there is no modality '{name}'" for name in chosen if name not in MODALITIES]
    unknown += [f"`order` lacks '{name}'" for name in chosen if order and name not in order]
    if unknown:
        raise InputError(str(path), unknown, f"There is: {', '.join(MODALITIES)}.")
    only_iemocap = corpora == ("iemocap",)
    placed = tuple(order) or (IEMOCAP_ORDER if only_iemocap else CANONICAL)
    blocks, start = {}, 0
    for name in placed:
        if name in chosen:
            blocks[name] = (start, start + MODALITIES[name][2])
            start += MODALITIES[name][2]
    layout = Layout(steps=20, blocks=blocks)
    settings = ConvAutoencoderSettings(
        channels=channels, representation_channels=latent, initialisation="reference", masked=False, decay_all=True
    )
    model = ConvAutoencoder(settings, layout)
    model.load_state_dict(weights)
    health = latent_health(model, torch.zeros(0, layout.steps, layout.width))
    if health.collapsed and not force:
        raise CollapsedEncoderError(
            health.sensitivity,
            str(path),
            "Its embeddings are of no use. Take another checkpoint, pretrain one with `kedro run --pipelines "
            "representation_learning`, or import it all the same with --force.",
        )
    steps = int(weights["encoder.conv1.1.num_batches_tracked"])
    order_stored = placed + tuple(name for name in CANONICAL if name not in placed)
    matrix = WordMatrixSettings(
        streams={name: MODALITIES[name][1] for name in blocks},
        order=order_stored,
        # MOSEI and MOSI were "aligned" without averaging; IEMOCAP's file was averaged per word
        # (docs/systems/conv_autoencoder.md#q2).
        pool="mean" if only_iemocap else "last",
        components={},
    )
    card = BundleCard(
        branch=path.stem,
        kind="embeds",
        system="conv_autoencoder",
        settings={
            "model": settings.as_dict(),
            "word_matrix": matrix.as_dict(),
            "layout": layout.as_dict(),
            "normaliser": {"fitted_on": [], "clip": False, "masked": False},
        },
        task=RECONSTRUCTION,
        inputs={name: _input(name) for name in blocks},
        protocol={
            "corpus": "+".join(corpora) or "unknown",
            "train": sum(TRAIN_SIZES[name] for name in corpora) or None,
            "seed": 42,
            "best_epoch": _epochs(steps, corpora),
            "dimension": model.dimension,
            "batches_tracked": steps,
            "source": path.name,
            "source_sha256": sha256_of_file(path),
        },
        metrics={"latent_sensitivity": health.sensitivity},
        version=demeanor.__version__,
        licence=LICENCE,
        notes=" ".join(_notes(tuple(blocks), corpora, health.collapsed, bool(modalities))),
    )
    return Bundle(card, {f"model.{name}": value.numpy() for name, value in model.state_dict().items()})


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """State of a .pt file on the CPU, whatever device it was written on; code in the file is never run.

    Name -> tensor of any shape [...]; InputError for what is no file of plain weights.
    """
    if not path.is_file():
        raise InputError(str(path), ["there is no such file"])
    if not zipfile.is_zipfile(path):
        raise InputError(str(path), ["is no torch checkpoint (a zip archive)"], "Give a released ConvAE_*.pt file.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            str(path), [f"cannot be read as plain weights: {reason}"], "Give a released ConvAE_*.pt file."
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(str(path), ["holds something else than a state_dict"], "Give a released ConvAE_*.pt file.")
    return dict(state)


def check_architecture(weights: Mapping[str, Tensor], path: Path) -> tuple[int, int]:
    """(channels, representation channels) of a state that fits the released architecture; all differences at once.

    `weights` by published name, kernels [out, in, height, width]; InputError lists what does not fit.
    """
    key_first, key_last = "encoder.conv1.0.weight", "encoder.conv4.weight"
    if key_first not in weights or key_last not in weights or weights[key_first].ndim != 4:
        found = ", ".join(sorted(weights)[:3]) or "nothing"
        raise InputError(
            str(path),
            [f"holds no convolutional autoencoder (no {key_first} or {key_last}; it begins with {found})"],
            "Give a released ConvAE_*.pt file.",
        )
    channels, latent = weights[key_first].shape[0], weights[key_last].shape[0]
    expected = ConvAutoencoder(
        ConvAutoencoderSettings(channels=channels, representation_channels=latent),
        Layout(blocks={"audio": (0, MODALITIES["audio"][2])}),
    ).state_dict()
    problems = [f"'{name}' is missing" for name in expected if name not in weights]
    problems += [f"'{name}' is not part of the model" for name in weights if name not in expected]
    problems += [
        f"'{name}' has shape {list(weights[name].shape)}, expected {list(value.shape)}"
        for name, value in expected.items()
        if name in weights and weights[name].shape != value.shape
    ]
    if problems:
        raise InputError(
            str(path),
            problems,
            "Only the final architecture is supported (kernels 3, 3, 5, 5). Intermediate versions of September 2021 "
            "had other kernels and poolings, and a checkpoint does not record them.",
        )
    return channels, latent


def from_name(stem: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(modalities, corpora) that a released file's name tells; both empty where it is another kind of name.

    ConvAE_audio_text: those modalities of MOSEI and IEMOCAP. ConvAE_cmumosei_iemocap: all modalities of those corpora.
    """
    if not stem.startswith("ConvAE_"):
        return (), ()
    words = [word for word in re.split(r"[_\W]+", stem.removeprefix("ConvAE_")) if word]
    spelled = {word: name for name, entry in MODALITIES.items() for word in entry[0]}
    if words and all(word in spelled for word in words):
        found = {spelled[word] for word in words}
        return tuple(name for name in CANONICAL if name in found), ("cmumosei", "iemocap")
    if words and all(word in TRAIN_SIZES for word in words):
        return CANONICAL, tuple(words)
    return (), ()


def _input(modality: str) -> InputSpecification:
    _, stream, dimension, extractor, rate = MODALITIES[modality]
    provenance = Provenance(
        extractor=extractor,
        version="CMU Multimodal SDK",
        rate=rate,
        unit="word" if rate is None else "frame",
        licence="as the corpus",
        recomputable=False,
        notes="what the checkpoint's authors used; the file itself does not say",
    )
    return InputSpecification(stream=stream, dimension=dimension, provenance=provenance)


def _epochs(steps: int, corpora: Sequence[str]) -> int | None:
    """Best epoch, from 1, if the step counter is a whole number of epochs of 32 samples each."""
    batches = -(-sum(TRAIN_SIZES[name] for name in corpora) // 32)
    return steps // batches if batches and steps % batches == 0 else None


def _notes(modalities: tuple[str, ...], corpora: tuple[str, ...], collapsed: bool, given: bool) -> list[str]:
    notes = ["Imported from a released checkpoint."]
    notes.append("Modalities as given." if given else "Modalities and corpora inferred from the file's name.")
    notes.append("The statistics its inputs were normalised with were never saved: fit them with adapt().")
    if "iemocap" in corpora and len(corpora) > 1:
        notes.append("Its training mixed two column orders: IEMOCAP's was audio, vision, text.")
    if len(modalities) < len(CANONICAL):
        notes.append(
            "It was probably trained on columns cut with IEMOCAP's order, which are other features for the samples "
            "from MOSEI (86 % of them)."
        )
    if collapsed:
        notes.append("COLLAPSED: its embedding hardly depends on its input.")
    return notes
