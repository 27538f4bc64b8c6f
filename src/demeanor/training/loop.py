"""The one training loop of all systems, in plain torch."""

from __future__ import annotations

import contextlib
import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from demeanor.data.batch import Batch
from demeanor.data.batches import Batches, drop_roles
from demeanor.data.errors import DemeanorError
from demeanor.data.progress import Progress
from demeanor.data.task import Better, Task
from demeanor.evaluation.metrics import direction_of
from demeanor.kernels.allocator import MallocRetention, retain_freed_memory
from demeanor.models.base import System
from demeanor.models.blocks.auxiliary_heads import left_out_of, losses
from demeanor.training.checkpoint import Checkpoint
from demeanor.training.distributed.group import Processes
from demeanor.training.schedules import plateaus, schedule
from demeanor.training.settings import TrainingSettings

Score = Callable[[Task, np.ndarray, np.ndarray], dict[str, float]]
Report = Callable[[dict[str, float], int], None]


class TrainingFailed(DemeanorError):
    """The loss stopped being a number, or no epoch could be scored."""


class Loop:
    """State of one training; `run` goes from where the checkpoint stands to the end.

    Without `valid` among the batches nothing chooses an epoch: the last one is kept. `draws`: corpus -> how often an
    epoch meets each of its rows; None: every row once.
    """

    def __init__(
        self,
        system: System,
        task: Task,
        batches: Mapping[str, Batches],
        training: TrainingSettings,
        seed: int,
        score: Score,
        device: torch.device,
        processes: Processes,
        draws: Mapping[str, float] | None = None,
    ):
        self.system, self.task, self.batches, self.training = system, task, batches, training
        self.seed, self.score, self.device, self.processes, self.draws = seed, score, device, processes, draws
        self.selection = selection_of(task, training)
        groups = system.parameter_groups(training.learning_rate, training.weight_decay)
        groups = [group for group in groups if group["params"]]
        groups += left_out_of(groups, system, training.learning_rate)
        kind = torch.optim.AdamW if training.optimiser == "adamw" else torch.optim.Adam
        # Fused: one pass over the memory instead of a dozen, and no temporary copies of the largest weights.
        self.optimiser = kind(groups, lr=training.learning_rate, weight_decay=training.weight_decay, fused=True)
        self.scaler = torch.amp.GradScaler(device.type, enabled=training.precision == "float16")
        self.planned = len(self._plan(epoch=1))
        steps = training.epochs * math.ceil(self.planned / training.gradient_accumulation)
        self.history: list[dict[str, float]] = []
        falls = training.schedule == "plateau"
        factor = (lambda _: self._plateau_factor()) if falls else schedule(training, steps)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimiser, factor)
        self.best_epoch = 0
        self._best_weights: dict[str, torch.Tensor] = {}
        #: What no step changes is in the pretrained encoder already: an epoch's checkpoint need not hold it again.
        self.frozen = {
            name for name, value in system.named_parameters(remove_duplicate=False) if not value.requires_grad
        }

    def run(
        self, checkpoint: Checkpoint, report: Report, title: str, progress: bool, epochs: int | None = None
    ) -> None:
        """`epochs`: stop after so many, with the learning rates of a training of all. TrainingFailed where no epoch had
        a finite validation metric."""
        epochs = self.training.epochs if epochs is None else min(epochs, self.training.epochs)
        if not self._resume(checkpoint, report):
            self.system.on_train_start(self._first_pass, len(self.batches["train"]))
        forward = self.processes.wrap(self.system)
        with (
            retain_freed_memory() as memory,
            Progress(title, epochs, "epochs", progress) as bar,
        ):
            bar.advance(len(self.history))
            while len(self.history) < epochs and not self._exhausted():
                row = self._epoch(forward, len(self.history) + 1, memory)
                self.history.append(row)
                if self.training.schedule == "plateau":
                    for group, rate in zip(self.optimiser.param_groups, self.scheduler.base_lrs, strict=True):
                        group["lr"] = rate * self._plateau_factor()
                improved = self._improved()
                if improved:
                    self.best_epoch = len(self.history)
                    if checkpoint.folder is None:
                        self._best_weights = {name: value.clone() for name, value in self._learnt().items()}
                checkpoint.save(self._state(), improved)
                report(row, len(self.history))
                watched = (name for name in ("train_loss", self._watched) if name in row)
                bar.advance(note=", ".join(f"{name} {row[name]:.3f}" for name in watched))
        if self.best_epoch == 0:
            raise TrainingFailed(
                f"{title}: no epoch gave a finite validation '{self.selection[0]}'. "
                "Look at the labels of the valid split, or lower the learning rate."
            )
        self.system.load_state_dict(self.best_weights(checkpoint))
        checkpoint.finish(self.history, self.best_epoch)

    def best_weights(self, checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
        """All tensors of the best epoch's system, the frozen ones among them. Shapes [...] as of its state dict."""
        return {**self.system.state_dict(), **(checkpoint.best() or self._best_weights)}

    def frozen_digest(self) -> str:
        """Hash of what is frozen, "" where nothing is: a training goes on only with the encoder it began with."""
        state = self.system.state_dict()
        digest = hashlib.blake2b(digest_size=16)
        for name in sorted(self.frozen & state.keys()):
            value = state[name].detach().cpu()
            digest.update(name.encode() + value.reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest() if self.frozen else ""

    def _learnt(self) -> dict[str, torch.Tensor]:
        return {name: value for name, value in self.system.state_dict().items() if name not in self.frozen}

    @property
    def _watched(self) -> str:
        return f"valid_{self.selection[0]}"

    def _epoch(self, forward: Any, epoch: int, memory: MallocRetention) -> dict[str, float]:
        began = time.perf_counter()
        seed_everything(self.seed, epoch)
        self.system.train()
        generator = torch.Generator().manual_seed(mixed(self.seed, epoch))
        plan = self._plan(epoch)
        totals: dict[str, float] = {}
        seen = 0
        self.optimiser.zero_grad(set_to_none=True)
        shares = [self.processes.shard(rows, self.batches["train"]) for rows in plan]
        made = self.batches["train"].iterate([rows for rows, _ in shares], self.training.workers)
        for number, (whole, (_, counted)) in enumerate(zip(made, shares, strict=True), 1):
            batch = drop_roles(whole, self.training.modality_dropout, generator).to(self.device)
            last = number == len(plan)
            due = number % self.training.gradient_accumulation == 0 or (last and not self.training.drop_remainder)
            where = f"epoch {epoch}, batch {number} of {len(plan)}"
            terms, output = self._backward(forward, batch, counted / len(plan[number - 1]), due, where)
            self.system.on_step_end(output, batch, epoch)
            if due:
                self._step()
            memory.maybe_trim()
            for name, value in terms.items():
                totals[name] = totals.get(name, 0.0) + value * counted
            seen += counted
        totals, seen = self.processes.all_reduce(totals, seen)
        row = {f"train_{'loss' if name == 'total' else name}": value / seen for name, value in totals.items()}
        if "valid" in self.batches:
            row.update(self._validate())
        seconds = time.perf_counter() - began
        row.update(epoch=float(epoch), learning_rate=self.optimiser.param_groups[0]["lr"], seconds=seconds)
        row["utterances_per_second"] = seen / seconds
        return row

    def _backward(self, forward: Any, batch: Batch, part: float, due: bool, where: str) -> tuple[dict[str, float], Any]:
        amp = self.training.precision != "float32"
        kind = torch.bfloat16 if self.training.precision == "bfloat16" else torch.float16
        quiet = forward.no_sync() if self.processes.distributed and not due else contextlib.nullcontext()
        with quiet:
            with torch.autocast(self.device.type, dtype=kind, enabled=amp):
                output = forward(batch)
                terms = losses(self.system, output, batch)
            # Several processes average gradients: weigh each share so that the sum is the mean over the whole batch.
            weight = part * self.processes.world_size
            loss = terms["total"]
            if not bool(torch.isfinite(loss)):
                raise TrainingFailed(
                    f"{where}: the loss became {float(loss.detach())} at utterances {', '.join(batch.ids[:3])}, ... "
                    "Lower the learning rate, set clip_norm, or use precision float32."
                )
            self.scaler.scale(loss * weight).backward()
        return {name: float(value.detach()) for name, value in terms.items()}, output

    def _step(self) -> None:
        norm, value = self.training.clip_norm, self.training.clip_value
        if norm is not None or value is not None:
            self.scaler.unscale_(self.optimiser)
        if value is not None:
            torch.nn.utils.clip_grad_value_(self.system.parameters(), value)
        if norm is not None:
            torch.nn.utils.clip_grad_norm_(self.system.parameters(), norm)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.optimiser.zero_grad(set_to_none=True)
        self.scheduler.step()

    @torch.inference_mode()
    def _validate(self) -> dict[str, float]:
        """Metrics and mean loss on the valid split, each utterance counted once and equally."""
        valid = self.batches["valid"]
        predicted = np.full((len(valid), self.task.outputs), np.nan, dtype=np.float32)
        total = 0.0
        self.system.eval()
        for made in valid.iterate(valid.plan(self.training.batch_size)):
            batch = made.to(self.device)
            output = self.system(batch)
            total += float(self.system.loss(output, batch)["total"]) * len(batch)
            predicted[made.rows.numpy()] = output.prediction.float().cpu().numpy()
        target = self.task.targets(valid.examples.utterances)
        row = {f"valid_{name}": value for name, value in self.score(self.task, predicted, target).items()}
        return {**row, "valid_loss": total / len(valid)}

    def _plan(self, epoch: int) -> list[np.ndarray]:
        shuffle = np.random.default_rng([self.seed, epoch])
        most = self.training.max_tokens_per_batch
        return self.batches["train"].plan(self.training.batch_size, most, shuffle, self.draws)

    def _first_pass(self) -> Iterator[Batch]:
        train = self.batches["train"]
        return (batch.to(self.device) for batch in train.iterate(train.plan(self.training.batch_size)))

    def _improved(self) -> bool:
        if "valid" not in self.batches:
            return True
        value = self.history[-1].get(self._watched, math.nan)
        if not math.isfinite(value):
            return False
        if self.best_epoch == 0:
            return True
        best = self.history[self.best_epoch - 1][self._watched]
        return value < best if self.selection[1] == "min" else value > best

    def _plateau_factor(self) -> float:
        losses = [row["valid_loss"] for row in self.history]
        return 0.1 ** plateaus(losses, self.training.plateau_patience)

    def _exhausted(self) -> bool:
        return len(self.history) - self.best_epoch >= self.training.patience

    def _state(self) -> dict[str, Any]:
        return {
            "model": self._learnt(),
            "optimiser": self.optimiser.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
            "history": self.history,
            "best_epoch": self.best_epoch,
        }

    def _resume(self, checkpoint: Checkpoint, report: Report) -> bool:
        state = self.processes.broadcast(checkpoint.latest())
        if state is None:
            return False
        if not state.get("finished"):
            self.system.load_state_dict({**self.system.state_dict(), **state["model"]})
            self.optimiser.load_state_dict(state["optimiser"])
            self.scheduler.load_state_dict(state["scheduler"])
            self.scaler.load_state_dict(state["scaler"])
        self.history, self.best_epoch = state["history"], state["best_epoch"]
        for number, row in enumerate(self.history, 1):
            report(row, number)
        return True


def selection_of(task: Task, training: TrainingSettings) -> tuple[str, Better]:
    """The metric, or loss, by which the best epoch is chosen, and which way it points."""
    if training.selection is None:
        return task.selection_metric
    return training.selection, direction_of(training.selection)


def mixed(seed: int, epoch: int) -> int:
    """The seed of one epoch, apart from those of its neighbours."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])


def seed_everything(seed: int, epoch: int = 0) -> None:
    """Seed torch and numpy from (seed, epoch), so that an epoch's numbers do not depend on those before it."""
    torch.manual_seed(mixed(seed, epoch))
    np.random.seed(mixed(seed, epoch))
