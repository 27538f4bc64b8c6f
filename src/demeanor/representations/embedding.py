"""Embedding with a pretrained representation, and what it has to be compared with."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float32

import demeanor
from demeanor.data.batch import EVALUATION_BATCH
from demeanor.data.bundle import Bundle
from demeanor.data.construction import construct, fill
from demeanor.data.examples import Examples
from demeanor.data.ragged import Ragged
from demeanor.data.stream import Stream
from demeanor.representations.base import RepresentationModel, build_representation, expand_mask, layout_of
from demeanor.representations.input_transform import InputTransform, output_provenance, specification, stored_normaliser


def load_representation(bundle: Bundle) -> RepresentationModel:
    """The model of a bundle, ready to embed; InputError where card and weights are not of one model."""
    card, weights, where = bundle.card, bundle.part("model"), f"bundle of {bundle.card.branch[:80]}"
    model = construct(
        lambda: build_representation(card.system, card.settings["model"], layout_of(bundle)), weights, where
    )
    fill(model, weights, where)
    return model.eval()


class Embedding:
    """The network of a representation's bundle and what prepares its matrix: examples in, vectors out.

    Threads may share one.
    """

    def __init__(self, bundle: Bundle, device: torch.device):
        """InputError where card and weights are not of one model."""
        self.bundle = bundle
        self.device = device
        self.transform = InputTransform.of(bundle)
        self.model = load_representation(bundle).to(device)

    @property
    def dimension(self) -> int:
        """R, the length of a vector."""
        return self.model.dimension

    def require(self, examples: Examples) -> None:
        """InputError for streams of another width, ProvenanceError for streams of another making, than in training."""
        self.transform.require(examples)

    def outputs(
        self, examples: Examples, dropped: Sequence[Collection[str]]
    ) -> Float32[np.ndarray, "subsets utterances dimension"]:
        """For each entry of `dropped`, as if these modalities had not been recorded; NaN for an utterance of which
        there is then no word and no frame."""
        made = np.full((len(dropped), len(examples), self.dimension), np.nan, dtype=np.float32)
        matrix, mask = self.transform(examples)
        for number, modalities in enumerate(dropped):
            values, some = self._vectors(*self._without(matrix, mask, modalities))
            made[number, some] = values
        return made

    def stream(self, examples: Examples, dropped: Collection[str] = (), name: str = "") -> Stream:
        """Stream `name`, by default `representation.<branch>`: [1, R] per utterance, [0, R] for one without any word
        or frame."""
        values, some = self._vectors(*self._without(*self.transform(examples), dropped))
        provenance = output_provenance(self.bundle, demeanor.__version__)
        ragged = Ragged(values, np.concatenate([[0], np.cumsum(some)]), examples.ids)
        return Stream(name or f"representation.{self.bundle.card.branch}", ragged, provenance)

    def _without(
        self, matrix: torch.Tensor, mask: torch.Tensor, modalities: Collection[str]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Word matrix [N, S, F] and mask [N, S, M] with nothing observed of `modalities`."""
        if not modalities:
            return matrix, mask
        matrix, mask, layout = matrix.clone(), mask.clone(), self.transform.layout
        for column, name in enumerate(layout.modalities):
            if name in modalities:
                first, last = layout.blocks[name]
                matrix[..., first:last], mask[..., column] = 0.0, False
        return matrix, mask

    @torch.no_grad()
    def _vectors(
        self, matrix: torch.Tensor, mask: torch.Tensor
    ) -> tuple[Float32[np.ndarray, "embedded dimension"], Bool[np.ndarray, " utterances"]]:
        """Vectors of the utterances of which anything was observed, and which these are."""
        some = mask.any(dim=2).any(dim=1)
        vectors = [
            self.model.embed(matrix[rows].to(self.device), mask[rows].to(self.device)).float().cpu()
            for rows in some.nonzero()[:, 0].split(EVALUATION_BATCH)
            if len(rows)
        ]
        values = torch.cat(vectors).numpy() if vectors else np.zeros((0, self.dimension), dtype=np.float32)
        return values, some.numpy()


def pooled_features(bundle: Bundle, examples: Examples) -> Stream:
    """Stream `representation.pooled_features`: the mean over observed words of each normalised column, [1, F].

    What a representation has to beat: the very features that it reads, without any learning.
    """
    transform = InputTransform.of(bundle)
    matrix, mask = transform(examples)
    cells = expand_mask(transform.layout, tuple(matrix.shape), mask)
    means = (matrix * cells).sum(dim=1) / cells.sum(dim=1).clamp(min=1)
    some = mask.any(dim=2).any(dim=1)
    offsets = np.concatenate([[0], np.cumsum(some.numpy())])
    provenance = output_provenance(bundle, demeanor.__version__).model_copy(
        update={"extractor": "pooled_features", "weights_sha256": None}
    )
    return Stream("representation.pooled_features", Ragged(means[some].numpy(), offsets, examples.ids), provenance)


def adapt(bundle: Bundle, examples: Examples) -> Bundle:
    """The same model with a normaliser for the corpora of `examples`, fitted on their train split.

    Needs no label. For a corpus that was left out of pretraining, and for imported checkpoints, whose own statistics
    were never saved (docs/systems/conv_autoencoder.md#q10). Streams of another width than the model's are an error.
    """
    transform, card = InputTransform.of(bundle), bundle.card
    if not transform.normalisers:
        # Nobody knows how an imported checkpoint's features were made: from now on, as these were.
        inputs = {name: specification(examples.stream(value.stream)) for name, value in card.inputs.items()}
        transform = replace(transform, inputs=inputs)
    clip = bool(card.settings["normaliser"].get("clip", True))
    transform = transform.fitted_on(examples, clip)
    settings = {**card.settings, "normaliser": stored_normaliser(transform, clip)}
    weights = {name: value for name, value in bundle.tensors.items() if name.startswith("model.")}
    card = card.model_copy(update={"settings": settings, "inputs": transform.inputs})
    return Bundle(card, {**weights, **transform.tensors()})
