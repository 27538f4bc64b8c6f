"""Pretraining of representations: one small loop in plain torch."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import demeanor
from demeanor.data.bundle import Bundle, BundleCard
from demeanor.data.device import choose_device
from demeanor.data.errors import DemeanorError
from demeanor.data.examples import Examples
from demeanor.data.files import sha256_of
from demeanor.data.task import Task
from demeanor.kernels.allocator import MallocRetention, retain_freed_memory
from demeanor.representations.base import RECONSTRUCTION, RepresentationModel, build_representation
from demeanor.representations.input_transform import InputTransform, stored_normaliser
from demeanor.training.checkpoint import Checkpoint, identity_of
from demeanor.training.pretraining.collapse import CollapsedEncoderError, latent_health
from demeanor.training.pretraining.settings import RepresentationSettings
from demeanor.training.threads import threads

Report = Callable[[int, dict[str, float]], None]
#: Normalised matrix [N, S, F] and what was observed [N, S, M].
MatrixAndMask = tuple[Tensor, Tensor]
PATIENT_COLLAPSES = 3
#: Utterances whose loss is computed at once.
LOSS_BATCH = 256


def pretrain(
    settings: RepresentationSettings,
    development: Examples | Sequence[Examples],
    task: Task | None = None,
    seed: int = 1,
    on_epoch: Report | None = None,
    checkpoints: Path | str | None = None,
    name: str = "",
) -> tuple[Bundle, list[dict[str, float]]]:
    """Train a representation on the train split(s), keep the epoch that reconstructs the valid split best.

    development  examples of one corpus, or a sequence of them, one per corpus of a mixture
    task         recorded in the protocol for whoever probes it; no label is ever read here
    on_epoch     called with (epoch from 1, metrics) after each epoch
    checkpoints  folder from which a training that was killed goes on to the same result
    name         of the branch; the representation's by default
    Returns the bundle and one dict of metrics per epoch. Raises CollapsedEncoderError when the latent stops
    depending on its input for three epochs, unless `on_collapse` is "warn".
    """
    parts = [development] if isinstance(development, Examples) else list(development)
    transform = InputTransform.fit(
        parts,
        settings.word_matrix,
        settings.normalise_each_corpus,
        settings.clip,
        masked=not settings.normalise_padding,
    )
    train = _transformed(transform, [part.split("train") for part in parts])
    valid = _transformed(transform, [part.split("valid") for part in parts])
    notes = []
    if len(valid[0]) == 0:
        notes.append("no validation split: the epoch was chosen on the train split")
        valid = train
    with threads(settings.threads), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_representation(settings.representation, settings.model, transform.layout)
        # Examples are hashed without their utterances' order mattering to the model; the hash is for the reader.
        data_hash = sha256_of([part.data_hash for part in parts])[:16] if len(parts) > 1 else parts[0].data_hash
        checkpoint = Checkpoint(checkpoints, identity_of(settings, data=data_hash, seed=seed))
        if model.closed_form:
            history = _solve(model, train, valid, on_epoch)
        else:
            with retain_freed_memory() as memory:
                history = _loop(model, settings, train, valid, seed, on_epoch, checkpoint, memory)
    best = min(history, key=lambda entry: entry["valid_loss"])
    health = latent_health(model, valid[0])
    if health.collapsed and settings.on_collapse == "stop":
        raise CollapsedEncoderError(health.sensitivity, settings.representation)
    if health.collapsed:
        notes.append(f"collapsed: latent sensitivity {health.sensitivity:.1e}")
    corpora = sorted({name for part in parts for name in part.utterances["corpus"].unique()})
    card = BundleCard(
        branch=name or settings.representation,
        kind="embeds",
        system=settings.representation,
        settings={
            "model": model.settings.as_dict(),
            "word_matrix": transform.settings.as_dict(),
            "layout": transform.layout.as_dict(),
            "normaliser": stored_normaliser(transform, settings.clip),
        },
        task=RECONSTRUCTION,
        inputs=transform.inputs,
        protocol={
            "corpus": "+".join(corpora),
            "seed": seed,
            "train": len(train[0]),
            "valid": len(valid[0]),
            "epochs": len(history),
            "best_epoch": int(best["epoch"]),
            "dimension": model.dimension,
            "probed_on": None if task is None else task.describe(),
            "training": settings.as_dict(),
        },
        metrics={name: float(value) for name, value in best.items() if name.startswith(("valid", "latent", "recon"))},
        data_hash=data_hash,
        version=demeanor.__version__,
        notes="; ".join(notes),
    )
    tensors = {f"model.{name}": value.cpu().numpy() for name, value in model.state_dict().items()}
    checkpoint.remove()
    return Bundle(card, {**tensors, **transform.tensors()}), history


def pretrain_reporting(
    settings: RepresentationSettings, development: Examples, checkpoints: Path | str | None, name: str, report: Report
) -> tuple[Bundle, list[dict[str, float]]]:
    """`pretrain` as a worker is asked for it: what varies alone, and where to report to."""
    return pretrain(settings, development, on_epoch=report, checkpoints=checkpoints, name=name)


def _transformed(transform: InputTransform, parts: Sequence[Examples]) -> MatrixAndMask:
    """Matrices and masks of all parts; utterances without any word or frame are left out."""
    transformed = [transform(part) for part in parts if len(part)]
    if not transformed:
        layout = transform.layout
        empty = torch.zeros(0, layout.steps, layout.width)
        return empty, torch.zeros(0, layout.steps, len(layout.modalities), dtype=torch.bool)
    matrix, mask = (torch.cat(list(values)) for values in zip(*transformed, strict=True))
    some = mask.any(dim=2).any(dim=1)
    return (matrix, mask) if bool(some.all()) else (matrix[some], mask[some])


@dataclass
class _Progress:
    """Where a training stands: what a checkpoint holds beside the model's and the optimiser's state."""

    history: list[dict[str, float]] = field(default_factory=list)
    best_loss: float = float("inf")
    waited: int = 0
    collapses: int = 0

    def add(self, entry: dict[str, float], collapsed: bool) -> bool:
        """True if this epoch is the best so far; an epoch whose encoder ignores its input never is."""
        self.history.append(entry)
        improved = entry["valid_loss"] < self.best_loss and not collapsed
        self.best_loss = entry["valid_loss"] if improved else self.best_loss
        self.waited = 0 if improved else self.waited + 1
        self.collapses = self.collapses + 1 if collapsed else 0
        return improved


def _loop(
    model: RepresentationModel,
    settings: RepresentationSettings,
    train: MatrixAndMask,
    valid: MatrixAndMask,
    seed: int,
    on_epoch: Report | None,
    checkpoint: Checkpoint,
    memory: MallocRetention,
) -> list[dict[str, float]]:
    device = choose_device(settings.device)
    model.to(device)
    train, valid = (train[0].to(device), train[1].to(device)), (valid[0].to(device), valid[1].to(device))
    optimiser = torch.optim.Adam(model.parameter_groups(settings.learning_rate, settings.weight_decay), fused=True)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=1 / 3, patience=settings.plateau)
    best, progress = copy.deepcopy(model.state_dict()), _Progress()
    stored = checkpoint.latest()
    if stored is not None:
        for part in (model, optimiser, schedule):
            part.load_state_dict(stored[type(part).__name__])
        best, progress = checkpoint.best() or best, _Progress(**stored["progress"])
    for epoch in range(len(progress.history) + 1, settings.epochs + 1):
        if progress.waited >= settings.patience:
            break
        # Seeded anew each epoch, so that a training that was killed goes on as if it had not been.
        torch.manual_seed(seed * 100_003 + epoch)
        entry = {"epoch": float(epoch), "learning_rate": float(optimiser.param_groups[0]["lr"])}
        entry |= _train_epoch(model, settings, optimiser, *train, memory) | evaluate(model, *valid)
        health = latent_health(model, valid[0])
        entry |= {"latent_variance": health.variance, "latent_sensitivity": health.sensitivity}
        if not np.isfinite(entry["train_loss"]):
            raise DemeanorError(
                f"{settings.representation}: the loss is {entry['train_loss']} in epoch {epoch}. "
                "Lower the learning rate, or use float32."
            )
        schedule.step(entry["valid_loss"])
        improved = progress.add(entry, health.collapsed)
        if improved:
            best = copy.deepcopy(model.state_dict())
        state = {type(part).__name__: part.state_dict() for part in (optimiser, schedule)}
        checkpoint.save(
            {type(model).__name__: model.state_dict(), "model": best, "progress": asdict(progress), **state}, improved
        )
        if on_epoch is not None:
            on_epoch(epoch, entry)
        if progress.collapses >= PATIENT_COLLAPSES and settings.on_collapse == "stop":
            raise CollapsedEncoderError(health.sensitivity, f"{settings.representation}, epoch {epoch}")
    if np.isfinite(progress.best_loss):
        model.load_state_dict(best)
    model.to("cpu")
    return progress.history


def _train_epoch(
    model: RepresentationModel,
    settings: RepresentationSettings,
    optimiser: torch.optim.Optimizer,
    matrix: Tensor,
    mask: Tensor,
    memory: MallocRetention,
) -> dict[str, float]:
    """One pass over the train split; the data are on the device already."""
    started = time.perf_counter()
    loss_of = torch.compile(model.loss) if settings.compile else model.loss
    total = torch.zeros((), dtype=torch.float64, device=matrix.device)
    model.train()
    for rows in batches(len(matrix), settings.batch_size, shuffle=True):
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(matrix.device.type, torch.bfloat16, enabled=settings.precision == "bfloat16"):
            loss = loss_of(matrix[rows], mask[rows])["total"]
        loss.backward()
        optimiser.step()
        total += loss.detach().double() * len(rows)
        del loss
        memory.maybe_trim()
    train_loss = float(total) / len(matrix)
    seconds = time.perf_counter() - started
    return {"train_loss": train_loss, "words_per_second": float(mask.any(dim=2).sum()) / max(seconds, 1e-9)}


def _solve(
    model: RepresentationModel, train: MatrixAndMask, valid: MatrixAndMask, on_epoch: Report | None
) -> list[dict[str, float]]:
    model.solve(*train)
    health = latent_health(model, valid[0])
    entry = {"epoch": 1.0, "train_loss": evaluate(model, *train)["valid_loss"], **evaluate(model, *valid)}
    entry |= {"latent_variance": health.variance, "latent_sensitivity": health.sensitivity}
    if on_epoch is not None:
        on_epoch(1, entry)
    return [entry]


def batches(size: int, batch_size: int, shuffle: bool) -> Iterator[Tensor]:
    """Row numbers of each batch; the last one may be short. Each [batch], the whole of them `size` numbers."""
    order = torch.randperm(size) if shuffle else torch.arange(size)
    yield from order.split(batch_size)


@torch.no_grad()
def evaluate(model: RepresentationModel, matrix: Tensor, mask: Tensor) -> dict[str, float]:
    """Mean loss per utterance in evaluation mode, in all ("valid_loss") and per modality.

    matrix [utterances, steps, features]; mask [utterances, steps] or [utterances, steps, blocks].
    """
    model.eval()
    sums: dict[str, float] = {}
    for rows in batches(len(matrix), LOSS_BATCH, shuffle=False):
        for name, value in model.loss(matrix[rows], mask[rows]).items():
            sums[name] = sums.get(name, 0.0) + float(value) * len(rows)
    return {"valid_loss" if name == "total" else name: value / len(matrix) for name, value in sums.items()}
