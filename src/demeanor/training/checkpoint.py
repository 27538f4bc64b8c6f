"""Checkpoints that survive `kill -9`: after every epoch, whole or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from demeanor.data.files import sha256_of, write_atomically
from demeanor.data.settings import Settings


class Checkpoint:
    """State of one training (system, seed) in `folder`.

    Random state is not stored: the loop seeds every epoch from (seed, epoch), so an epoch that was cut short is run
    again from its beginning and gives the same numbers.
    """

    LATEST, BEST = "latest.pt", "best.pt"

    def __init__(self, folder: Path | str | None, identity: Any):
        self.folder = None if folder is None else Path(folder)
        self.identity = sha256_of(identity)

    def save(self, state: dict[str, Any], improved: bool) -> None:
        """Keep `state` as the latest; its "model" also as the best if `improved`."""
        if self.folder is None:
            return
        if improved:
            self._write(self.BEST, {"model": state["model"]})
        self._write(self.LATEST, state)

    def finish(self, history: list[dict[str, float]], best_epoch: int) -> None:
        """Nothing will go on from here: of the latest state only the history is kept, beside the best weights.

        Optimiser and last weights are most of a checkpoint: three quarters of the 13 GB of a network of 840 million.
        """
        if self.folder is not None:
            self._write(self.LATEST, {"finished": True, "history": history, "best_epoch": best_epoch})

    def latest(self) -> dict[str, Any] | None:
        """The stored state, or None if there is none of this very training."""
        state = self._read(self.LATEST)
        if state is not None and state.get("finished") and self.best() is None:
            return None
        return state

    def best(self) -> dict[str, torch.Tensor] | None:
        """State dict of the best epoch, tensors of any shape [...], or None before the first."""
        state = self._read(self.BEST)
        return None if state is None else state["model"]

    def remove(self) -> None:
        """Remove what has been saved."""
        if self.folder is not None and self.folder.exists():
            shutil.rmtree(self.folder)

    def _write(self, name: str, state: dict[str, Any]) -> None:
        assert self.folder is not None
        # Given a name instead of a handle, torch loses the reason why a write failed ("unexpected pos 23488 vs 23376").
        with write_atomically(self.folder / name) as temporary, open(temporary, "wb") as handle:
            torch.save({"identity": self.identity, **state}, handle)

    def _read(self, name: str) -> dict[str, Any] | None:
        if self.folder is None or not (self.folder / name).is_file():
            return None
        # Written by us just above, with nothing but tensors and plain containers: weights_only refuses anything else.
        state = torch.load(self.folder / name, map_location="cpu", weights_only=True)
        if state.pop("identity") != self.identity:
            return None
        return state


def identity_of(settings: Settings, **more: Any) -> dict[str, Any]:
    """What makes two trainings the same one. How a branch is calibrated changes nothing of what it learns, nor do the
    seeds beside this one: of one more seed that alone is trained."""
    known = {key: value for key, value in settings.as_dict().items() if key != "calibration"}
    if isinstance(training := known.get("training"), dict):
        known["training"] = {key: value for key, value in training.items() if key != "seeds"}
    return {"settings": known, **more}
