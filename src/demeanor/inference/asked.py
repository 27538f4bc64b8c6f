"""Examples that several models answer for in turn, each of them once, although some are members of others."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32

from demeanor.data.bundle import Bundle
from demeanor.data.examples import Examples
from demeanor.inference.model import Embedded, TrainedModel
from demeanor.inference.predict import Prediction
from demeanor.models.log_pool import LogPool


@dataclass(frozen=True)
class Said:
    """What a model said of all examples, [N, outputs], and how many seconds that takes, its members' included."""

    outputs: Float32[np.ndarray, "utterances outputs"]
    seconds: float


class Asked:
    """Answers to the same examples, remembered by the weights they come from: a model joined of others that were asked
    before (`seeds: together` has every seed of a branch) takes what they said. What representations make is made once.

    Asked in batches of its own a member says the same but for the last bits.
    """

    def __init__(self, examples: Examples, device: str = "cpu"):
        self.embedded, self.device = Embedded(examples), device
        self._said: dict[str, Said] = {}

    def __call__(self, bundle: Bundle) -> Said:
        """What the model of a bundle says, all its modalities together; errors as TrainedModel.load and `predict`."""
        if bundle.weights_sha256 not in self._said:
            self._said[bundle.weights_sha256] = self._ask(bundle)
        return self._said[bundle.weights_sha256]

    def _ask(self, bundle: Bundle) -> Said:
        began = time.perf_counter()
        model = TrainedModel.load(bundle, self.device)
        members = {name: one.get("weights_sha256") for name, one in bundle.card.protocol.get("members", {}).items()}
        known = {name: self._said[weights] for name, weights in members.items() if weights in self._said}
        if known and isinstance(model.network, Prediction) and isinstance(model.network.system, LogPool):
            answers = {name: torch.from_numpy(said.outputs) for name, said in known.items()}
            model.network.system.take(answers)
        outputs = model.predict(self.embedded.for_model(model))
        return Said(outputs, time.perf_counter() - began + sum(said.seconds for said in known.values()))
