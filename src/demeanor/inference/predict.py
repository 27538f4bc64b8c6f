"""A bundle back to a model, and predictions for examples."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import torch

from demeanor.data.bundle import Bundle
from demeanor.data.construction import construct, fill
from demeanor.data.examples import Examples
from demeanor.data.stream import Stream
from demeanor.inference.batches import Batches
from demeanor.inference.normaliser import Normaliser
from demeanor.kernels.linear import quicken
from demeanor.models import find_system
from demeanor.models.base import System

EVALUATION_BATCH = 64


def build(bundle: Bundle) -> System:
    """The trained model of a bundle, in evaluation mode on the CPU."""
    card = bundle.card
    system_class = find_system(card.system)
    weights, where = bundle.part("model"), f"bundle of {card.branch[:80]}"
    system = construct(
        lambda: system_class(system_class.Settings(**card.settings), card.inputs, card.task), weights, where
    )
    fill(system, weights, where, lambda name: is_training_buffer(system, name))
    quicken(system)
    return system.eval()


def is_training_buffer(system: System, name: str) -> bool:
    """Is this tensor of the state dict of use in training alone?"""
    return any(name == buffer or name.startswith(f"{buffer}.") for buffer in system.training_buffers)


def check_provenance(bundle: Bundle, examples: Examples) -> None:
    """Refuse examples whose streams were made in another way than those the bundle was trained on."""
    for specification in bundle.card.inputs.values():
        stream = examples.stream(specification.stream)
        specification.provenance.require(stream.provenance, specification.stream)


def with_representations(bundle: Bundle, examples: Examples) -> Examples:
    """The examples with the streams that the bundle's own representations make, where they are not there yet."""
    return Embedded(examples).for_bundle(bundle)


class Embedded:
    """Examples for several bundles in turn: what their representations make is made once where they carry the same."""

    def __init__(self, examples: Examples):
        self.examples = examples
        self._made: dict[tuple[str, str], Stream] = {}

    def for_bundle(self, bundle: Bundle) -> Examples:
        missing = [stream for stream in bundle.card.representations if stream not in self.examples.streams]
        if not missing:
            return self.examples
        made = {stream: self._stream(stream, bundle.representation(stream)) for stream in missing}
        return Examples.of(self.examples.utterances, {**self.examples.streams, **made})

    def _stream(self, name: str, representation: Bundle) -> Stream:
        from demeanor.representations.embedding import embed

        key = name, representation.weights_sha256
        if key not in self._made:
            self._made[key] = embed(representation, self.examples, name=name)
        return self._made[key]


def batches_of(bundle: Bundle, examples: Examples, labelled: bool = False) -> Batches:
    card = bundle.card
    normaliser = Normaliser.from_tensors(bundle.part("normaliser"))
    batching = find_system(card.system).card.batching
    return Batches(examples, card.inputs, card.task if labelled else None, normaliser, batching)


def predict(
    bundle: Bundle,
    examples: Examples,
    without: Collection[str] = (),
    system: System | None = None,
    device: torch.device | str = "cpu",
) -> np.ndarray:
    """Predictions [N, outputs] in the order of `examples`: numbers, or logits for classes.

    without : roles to be treated as not recorded
    """
    examples = with_representations(bundle, examples)
    check_provenance(bundle, examples)
    system = system or build(bundle)
    return forward_all(system, batches_of(bundle, examples), bundle.card.task.outputs, without, device)


def on_device(system: torch.nn.Module, device: torch.device) -> bool:
    """Moving a system to where it is would exchange the memory under a call that another thread makes."""
    here = next((value.device for value in (*system.parameters(), *system.buffers())), device)
    return here.type == device.type and device.index in (None, here.index)


@torch.inference_mode()
def forward_all(
    system: System,
    batches: Batches,
    outputs: int,
    without: Collection[str] = (),
    device: torch.device | str = "cpu",
    batch_size: int = EVALUATION_BATCH,
) -> np.ndarray:
    """Predictions [N, outputs] of all rows; batches go in order of length, results back in order of rows.

    Threads may share a system that is in evaluation mode and on its device already: it is then left as it is.
    """
    was_training = system.training
    if was_training:
        system.eval()
    if not on_device(system, torch.device(device)):
        system.to(device)
    predicted = np.full((len(batches), outputs), np.nan, dtype=np.float32)
    for batch in batches.iterate(batches.plan(batch_size)):
        output = system(batch.without(without).to(device))
        predicted[batch.rows.numpy()] = output.prediction.float().cpu().numpy()
    system.train(was_training)
    return predicted
