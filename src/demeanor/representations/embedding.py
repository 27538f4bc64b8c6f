"""Embedding with a pretrained representation, and what it has to be compared with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

import demeanor
from demeanor.data.bundle import Bundle
from demeanor.data.construction import construct, fill
from demeanor.data.device import choose_device
from demeanor.data.examples import Examples
from demeanor.data.ragged import Ragged
from demeanor.data.stream import Stream
from demeanor.representations.base import (
    EVALUATION_BATCH,
    RepresentationBundle,
    RepresentationModel,
    build_representation,
    expand_mask,
    layout_of,
)
from demeanor.representations.preparation import Preparation, output_provenance, specification, stored_normaliser


def load_representation(bundle: Bundle) -> RepresentationModel:
    """The model of a bundle, ready to embed."""
    card, weights, where = bundle.card, bundle.part("model"), f"bundle of {bundle.card.branch[:80]}"
    model = construct(
        lambda: build_representation(card.system, card.settings["model"], layout_of(bundle)), weights, where
    )
    fill(model, weights, where)
    return model.eval()


@torch.no_grad()
def embed(bundle: Bundle, examples: Examples, device: str = "cpu", name: str = "") -> Stream:
    """Stream `name`, by default `representation.<branch>`: [1, R] per utterance, [0, R] for one without any word or
    frame."""
    preparation = Preparation.of(bundle)
    place = choose_device(device)
    model = load_representation(bundle).to(place)
    matrix, mask = preparation(examples)
    some = mask.any(dim=2).any(dim=1)
    found = [
        model.embed(matrix[rows].to(place), mask[rows].to(place)).float().cpu()
        for rows in some.nonzero()[:, 0].split(EVALUATION_BATCH)
    ]
    values = torch.cat(found).numpy() if found else np.zeros((0, model.dimension), dtype=np.float32)
    offsets = np.concatenate([[0], np.cumsum(some.numpy())])
    provenance = output_provenance(bundle, demeanor.__version__)
    return Stream(name or f"representation.{bundle.card.branch}", Ragged(values, offsets, examples.ids), provenance)


def pooled_features(bundle: Bundle, examples: Examples) -> Stream:
    """Stream `representation.pooled_features`: the mean over observed words of each normalised column, [1, F].

    What a representation has to beat: the very features that it reads, without any learning.
    """
    preparation = Preparation.of(bundle)
    matrix, mask = preparation(examples)
    cells = expand_mask(preparation.layout, tuple(matrix.shape), mask)
    means = (matrix * cells).sum(dim=1) / cells.sum(dim=1).clamp(min=1)
    some = mask.any(dim=2).any(dim=1)
    offsets = np.concatenate([[0], np.cumsum(some.numpy())])
    provenance = output_provenance(bundle, demeanor.__version__).model_copy(
        update={"extractor": "pooled_features", "weights_sha256": None}
    )
    return Stream("representation.pooled_features", Ragged(means[some].numpy(), offsets, examples.ids), provenance)


def adapt(bundle: Bundle, examples: Examples) -> RepresentationBundle:
    """The same model with a normaliser for the corpora of `examples`, fitted on their train split.

    Needs no label. For a corpus that was left out of pretraining, and for imported checkpoints, whose own statistics
    were never saved (docs/systems/conv_autoencoder.md#q10). Streams of another width than the model's are an error.
    """
    preparation, card = Preparation.of(bundle), bundle.card
    if not preparation.normalisers:
        # Nobody knows how an imported checkpoint's features were made: from now on, as these were.
        inputs = {name: specification(examples.stream(value.stream)) for name, value in card.inputs.items()}
        preparation = replace(preparation, inputs=inputs)
    clip = bool(card.settings["normaliser"].get("clip", True))
    preparation = preparation.fitted_on(examples, clip)
    settings = {**card.settings, "normaliser": stored_normaliser(preparation, clip)}
    kept = {name: value for name, value in bundle.tensors.items() if name.startswith("model.")}
    card = card.model_copy(update={"settings": settings, "inputs": preparation.inputs})
    return RepresentationBundle(card, {**kept, **preparation.tensors()})
