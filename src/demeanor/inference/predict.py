"""A bundle back to a network, and what that says of examples."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float32

from demeanor.data.batch import EVALUATION_BATCH
from demeanor.data.batches import Batches
from demeanor.data.bundle import Bundle
from demeanor.data.construction import construct, fill
from demeanor.data.examples import Examples
from demeanor.data.normaliser import Normaliser
from demeanor.kernels.linear import use_onednn_linear
from demeanor.models import find_system
from demeanor.models.base import System
from demeanor.representations.embedding import Embedding


def build(bundle: Bundle) -> System:
    """The trained model of a bundle, in evaluation mode on the CPU."""
    card = bundle.card
    system_class = find_system(card.system)
    weights, where = bundle.part("model"), f"bundle of {card.branch[:80]}"
    system = construct(
        lambda: system_class(system_class.Settings(**card.settings), card.inputs, card.task), weights, where
    )
    fill(system, weights, where, lambda name: is_training_buffer(system, name))
    use_onednn_linear(system)
    return system.eval()


def is_training_buffer(system: System, name: str) -> bool:
    """Is this tensor of the state dict of use in training alone?"""
    return any(name == buffer or name.startswith(f"{buffer}.") for buffer in system.training_buffers)


class Prediction:
    """The system of a bundle and what makes its batches: examples in, head outputs out. Threads may share one."""

    def __init__(self, bundle: Bundle, device: torch.device):
        """InputError where card and weights are not of one model."""
        self.card = bundle.card
        self.device = device
        self.system = build(bundle).to(device)
        self.normaliser = Normaliser.from_tensors(bundle.part("normaliser"))

    @property
    def dimension(self) -> int:
        """Length of one output."""
        return self.card.task.outputs

    def require(self, examples: Examples) -> None:
        """ProvenanceError where a stream was made in another way than those of training."""
        for specification in self.card.inputs.values():
            stream = examples.stream(specification.stream)
            specification.provenance.require(stream.provenance, specification.stream)

    def outputs(
        self, examples: Examples, dropped: Sequence[Collection[str]]
    ) -> Float32[np.ndarray, "subsets utterances outputs"]:
        """Numbers, or logits for classes, in the order of `examples`: for each entry of `dropped`, as if its roles had
        not been recorded."""
        batches = Batches(examples, self.card.inputs, None, self.normaliser, self.system.card.batching)
        return forward_subsets(self.system, batches, self.dimension, dropped, self.device)


class Network(Protocol):
    """What a model of any kind is inside: see Prediction and Embedding."""

    @property
    def dimension(self) -> int:
        """Length of one output."""

    def require(self, examples: Examples) -> None:
        """ProvenanceError where a stream was made in another way than those of training."""

    def outputs(
        self, examples: Examples, dropped: Sequence[Collection[str]]
    ) -> Float32[np.ndarray, "subsets utterances outputs"]:
        """For each entry of `dropped`, as if these roles had not been recorded."""


#: kind of a bundle -> the network that is built from it
NETWORKS: Mapping[str, Callable[[Bundle, torch.device], Network]] = {"predicts": Prediction, "embeds": Embedding}


def on_device(system: torch.nn.Module, device: torch.device) -> bool:
    """Moving a system to where it is would exchange the memory under a call that another thread makes."""
    here = next((value.device for value in (*system.parameters(), *system.buffers())), device)
    return here.type == device.type and device.index in (None, here.index)


def forward_all(
    system: System,
    batches: Batches,
    outputs: int,
    without: Collection[str] = (),
    device: torch.device | str = "cpu",
    batch_size: int = EVALUATION_BATCH,
) -> Float32[np.ndarray, "utterances outputs"]:
    """Predictions of all rows as if the roles `without` had not been recorded."""
    return forward_subsets(system, batches, outputs, [without], device, batch_size)[0]


@torch.inference_mode()
def forward_subsets(
    system: System,
    batches: Batches,
    outputs: int,
    dropped: Sequence[Collection[str]],
    device: torch.device | str = "cpu",
    batch_size: int = EVALUATION_BATCH,
) -> Float32[np.ndarray, "subsets utterances outputs"]:
    """Predictions of all rows, for each entry of `dropped` without its roles.

    Batches go in order of length and are made once, whatever is then left out of them; results are back in order of
    rows. A few rows, as a request has them, go through the system once for all subsets.

    Threads may share a system that is in evaluation mode and on its device already: it is then left as it is.
    """
    was_training = system.training
    if was_training:
        system.eval()
    if not on_device(system, torch.device(device)):
        system.to(device)
    predicted = np.full((len(dropped), len(batches), outputs), np.nan, dtype=np.float32)
    at_once = len(dropped) > 1 and len(batches) * len(dropped) <= batch_size
    for batch in batches.iterate(batches.plan(batch_size)):
        rows = batch.rows.numpy()
        if at_once:
            output = system(batch.stacked(dropped).to(device))
            predicted[:, rows] = output.prediction.float().cpu().numpy().reshape(len(dropped), len(rows), outputs)
            continue
        for number, roles in enumerate(dropped):
            output = system(batch.without(roles).to(device))
            predicted[number, rows] = output.prediction.float().cpu().numpy()
    system.train(was_training)
    return predicted
