"""The convolutional autoencoder's training as its authors ran it (docs/systems/conv_autoencoder.md#training), for
parity and study.

Use `demeanor.training.pretraining.loop.pretrain` for everything else: here the learning rate falls with the epoch
number whatever the loss, weight decay pulls on batch norm too, and padding counts (docs/systems/conv_autoencoder.md#q4,
#q5, #q7, #q11).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from demeanor.representations.conv_autoencoder import ConvAutoencoder

RATE, DECAY, BATCH, EPOCHS, PATIENCE = 2e-2, 1e-3, 32, 100, 10
FALLS_AFTER, FALLS_AT_MOST = 11, 7


def reference_rate(epoch: int) -> float:
    """Learning rate of an epoch, from 0.

    A plateau schedule with patience 10 is fed with the epoch number, which never improves, and so divides the rate
    by ten every 11 epochs until the change falls below its epsilon.
    """
    return RATE * 0.1 ** min(epoch // FALLS_AFTER, FALLS_AT_MOST)


@dataclass
class EarlyStopping:
    """Best score so far; stops before an epoch once more than ten have brought nothing."""

    best: float = 100.0
    best_epoch: int = 0
    waited: int = 0
    epochs: int = 0

    def add(self, score: float) -> bool:
        """True if `score` of the next epoch is a new best."""
        self.epochs += 1
        if score < self.best:
            self.best, self.best_epoch, self.waited = score, self.epochs, 0
            return True
        self.waited += 1
        return False

    @property
    def stop(self) -> bool:
        """Whether the authors' loop would end here."""
        return self.waited > PATIENCE or self.epochs >= EPOCHS


@dataclass
class ReferenceHistory:
    """Per epoch: learning rate, train and valid score. A score is divided by batches * 32, not by the samples."""

    rate: list[float] = field(default_factory=list)
    train_score: list[float] = field(default_factory=list)
    valid_score: list[float] = field(default_factory=list)
    best_epoch: int = 0
    best_score: float = math.inf


def train_as_reference(
    model: ConvAutoencoder,
    train: Float[Tensor, "samples steps features"],
    valid: Float[Tensor, "others steps features"],
    orders: Sequence[Sequence[int]] | None = None,
    seed: int = 42,
) -> ReferenceHistory:
    """Train `model` in place and leave it with the weights of its best epoch.

    orders  the order of the train samples per epoch; None draws one per epoch from `seed`
    """
    optimiser = torch.optim.Adam(model.parameters(), RATE, weight_decay=DECAY)
    generator = torch.Generator().manual_seed(seed)
    stopping, history, best = EarlyStopping(), ReferenceHistory(), copy.deepcopy(model.state_dict())
    while not stopping.stop and (orders is None or stopping.epochs < len(orders)):
        rate = reference_rate(stopping.epochs)
        for group in optimiser.param_groups:
            group["lr"] = rate
        if orders is None:
            order = torch.randperm(len(train), generator=generator)
        else:
            order = torch.as_tensor(orders[stopping.epochs], dtype=torch.long)
        model.train()
        history.rate.append(rate)
        history.train_score.append(_score(model, train, order, optimiser))
        model.eval()
        with torch.no_grad():
            history.valid_score.append(_score(model, valid, torch.arange(len(valid)), None))
        if stopping.add(history.valid_score[-1]):
            best = copy.deepcopy(model.state_dict())
    model.load_state_dict(best)
    history.best_epoch, history.best_score = stopping.best_epoch, stopping.best
    return history


def _score(model: ConvAutoencoder, data: Tensor, order: Tensor, optimiser: torch.optim.Optimizer | None) -> float:
    """Sum of batch error * batch size over (batches * 32); takes a step per batch where there is an optimiser."""
    total, parts = 0.0, order.split(BATCH)
    for rows in parts:
        batch = data[rows]
        reconstruction, _ = model(batch)
        loss = (reconstruction - batch).square().mean()
        if optimiser is not None:
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        total += loss.item() * len(rows)
    return total / (len(parts) * BATCH)
