"""Unimodal label generation: pseudo labels from distances to class centres.

Self-MM, https://arxiv.org/abs/2102.04830, section 3.3; docs/systems/self_mm.md#label-generation.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, distributed, nn

from demeanor.data.errors import InputError

FUSION = "fusion"
MODALITIES = ("text", "audio", "vision")
MODES = (FUSION, *MODALITIES)
EPSILON = 1e-8


class LabelBank(nn.Module):
    """Labels, features and class centres of every training utterance, for the fusion and the three modalities.

    All of it are float32 buffers, whatever precision training runs in: they travel in checkpoints, so that a resumed
    run goes on exactly. They are empty until `start` knows how many utterances there are, and a bundle without them
    loads as it is. Under several processes each gathers the rows of all before it updates: one bank, kept everywhere.

    dimensions    mode -> width of its feature
    limit         pseudo labels are clipped to [-limit, limit] (H)
    exclude_zero  whether utterances labelled exactly zero stay out of the positive centre
    reference     the published behaviour throughout: an empty class makes a centre of NaN, and utterances that were
                  not visited yet enter the first epoch's centres as vectors of zero
    """

    anchor: Tensor
    labels: Tensor
    seen: Tensor
    filled: Tensor

    BUFFERS = ("labels", "seen", "filled", *(f"{kind}_{mode}" for mode in MODES for kind in ("features", "centres")))

    def __init__(self, dimensions: Mapping[str, int], limit: float, exclude_zero: bool = True, reference: bool = False):
        super().__init__()
        self.dimensions = dict(dimensions)
        self.limit = limit
        self.exclude_zero = exclude_zero
        self.reference = reference
        self.restored = False
        self.register_buffer("anchor", torch.zeros(0), persistent=False)  # knows the device before there is a bank
        for name in self.BUFFERS:
            self.register_buffer(name, None)

    @property
    def started(self) -> bool:
        """Whether `allocate` has been called, or a state with room for examples loaded."""
        return self._buffers["labels"] is not None

    def allocate(self, examples: int) -> None:
        """Room for as many training examples: no labels (NaN), nothing seen, all features and centres zero."""
        device = self.anchor.device
        self.labels = torch.full((len(MODES), examples), float("nan"), device=device)
        self.seen = torch.zeros((len(MODES), examples), dtype=torch.bool, device=device)
        self.filled = torch.zeros((len(MODES), 2), dtype=torch.bool, device=device)
        for mode in MODES:
            width = self.dimensions[mode]
            setattr(self, f"features_{mode}", torch.zeros((examples, width), device=device))
            setattr(self, f"centres_{mode}", torch.zeros((2, width), device=device))

    def start(self, rows: Int[Tensor, " count"], labels: Float[Tensor, " count"], examples: int) -> None:
        """Give every mode the multimodal label. A bank that a checkpoint has just filled stays as it is. InputError for
        a row beyond the train split."""
        if self.restored and self.started and self.labels.shape[1] == examples:
            self.restored = False
            return
        rows, labels = gather_rows(rows.to(self.anchor.device), labels.float().to(self.anchor.device))
        if len(rows) and int(rows.max()) >= examples:
            raise InputError(
                "label bank", [f"row {int(rows.max())} of a batch; the train split has {examples} utterances"]
            )
        self.allocate(examples)
        self.labels[:, rows] = labels.unsqueeze(0)

    def label(self, mode: str, rows: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Current labels of one modality at these rows."""
        return self.labels[MODES.index(mode), rows]

    def weight(self, mode: str, rows: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """How far a modality's label has moved from the common one: the weight of
        docs/systems/self_mm.md#training-step, 1 for the fusion."""
        labels = self.label(mode, rows)
        if mode == FUSION:
            return torch.ones_like(labels)
        return (labels - self.label(FUSION, rows)).abs().tanh()

    def centres(self, mode: str) -> Float[Tensor, "2 dimension"]:
        """Positive, then negative centre."""
        return getattr(self, f"centres_{mode}")

    def features(self, mode: str) -> Float[Tensor, "examples dimension"]:
        """Latest features of one modality for every training example; zeros where none were seen."""
        return getattr(self, f"features_{mode}")

    @torch.no_grad()
    def update(
        self,
        rows: Int[Tensor, " batch"],
        features: Mapping[str, Tensor],
        present: Mapping[str, Bool[Tensor, " batch"]],
        epoch: int,
    ) -> None:
        """One training step: labels (from the second epoch on), features, centres, in this order
        (docs/systems/self_mm.md#training-step).

        features by modality [batch, dimension]; InputError if the bank was never started.
        """
        if not self.started:
            raise InputError("label bank", ["it was never started"], "Call `on_train_start` before the first epoch.")
        stacked = torch.cat([features[mode].detach().float() for mode in MODES], dim=1)
        flags = torch.stack([present[mode] for mode in MODES], dim=1)
        rows, stacked, flags = gather_rows(rows, stacked, flags)
        parts = dict(zip(MODES, stacked.split([self.dimensions[mode] for mode in MODES], dim=1), strict=True))
        known = {mode: flags[:, n] for n, mode in enumerate(MODES)}
        if epoch > 1:
            self._update_labels(rows, parts, known, epoch)
        for n, mode in enumerate(MODES):
            here = known[mode]
            self.features(mode)[rows[here]] = parts[mode][here]
            self.seen[n, rows[here]] = True
            self._update_centres(n, mode)

    def _update_labels(
        self, rows: Tensor, features: Mapping[str, Tensor], present: Mapping[str, Tensor], epoch: int
    ) -> None:
        """Section 5.2. With one centre missing there is no distance to compare, and labels stay as they are."""
        common = self.label(FUSION, rows)
        fusion = self._offset(FUSION, features[FUSION])
        for n, mode in enumerate(MODES):
            if mode == FUSION or not (self.reference or bool(self.filled[[0, n]].all())):
                continue
            own = self._offset(mode, features[mode])
            ratio = own / (fusion + EPSILON)
            new = 0.5 * ratio * common + 0.5 * (common + own - fusion)
            new = new.clamp(-self.limit, self.limit)
            old = self.label(mode, rows)
            moved = (epoch - 1) / (epoch + 1) * old + 2 / (epoch + 1) * new
            self.labels[n, rows] = torch.where(present[mode], moved, old)

    def _offset(self, mode: str, features: Tensor) -> Tensor:
        """(D_negative - D_positive) / (D_positive + epsilon), D the Euclidean distance, not scaled by the width."""
        positive, negative = ((features - centre).norm(dim=1) for centre in self.centres(mode))
        return (negative - positive) / (positive + EPSILON)

    def _update_centres(self, n: int, mode: str) -> None:
        """Means over the whole train split as one product; an empty class keeps its previous centre."""
        labels = self.labels[n]
        positive = labels > 0 if self.exclude_zero else labels >= 0
        members = torch.stack([positive, labels < 0])
        if not self.reference:
            members = members & self.seen[n]
        count = members.sum(dim=1, keepdim=True)
        if self.reference:
            # The published order of summation: where two distances nearly cancel, labels amplify its last digit.
            mean = torch.stack([self.features(mode)[members[side]].mean(dim=0) for side in (0, 1)])
        else:
            mean = (members.to(torch.float32) @ self.features(mode)) / count
            mean = torch.where(count > 0, mean, self.centres(mode))
            self.filled[n] |= count[:, 0] > 0
        self.centres(mode).copy_(mean)

    def _load_from_state_dict(self, state_dict, prefix, *arguments, **keywords) -> None:
        """Take the buffers of a checkpoint whatever their size; a bundle has none and leaves the bank empty."""
        labels = state_dict.get(f"{prefix}labels")
        if labels is not None:
            if not self.started or self.labels.shape != labels.shape:
                self.allocate(labels.shape[1])
            self.restored = True
        super()._load_from_state_dict(state_dict, prefix, *arguments, **keywords)


def gather_rows(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Rows of all processes, the same in each; what it is given where there is one process.

    Tensors share their first axis; the processes' counts may differ. A sampler that fills up the last batch may
    repeat an utterance: its first visit counts.

    Each [rows, ...].
    """
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return tensors
    world, device = distributed.get_world_size(), tensors[0].device
    counts = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(world)]
    distributed.all_gather(counts, torch.tensor([len(tensors[0])], device=device))
    longest = int(torch.stack(counts).max())
    joined = []
    for tensor in tensors:
        sent = tensor.to(torch.uint8) if tensor.dtype == torch.bool else tensor
        padded = sent.new_zeros((longest, *sent.shape[1:]))
        padded[: len(sent)] = sent
        parts = [torch.empty_like(padded) for _ in range(world)]
        distributed.all_gather(parts, padded.contiguous())
        whole = torch.cat([part[: int(count)] for part, count in zip(parts, counts, strict=True)])
        joined.append(whole.to(tensor.dtype))
    rows = joined[0].tolist()
    first = torch.tensor([n for n, row in enumerate(rows) if row not in rows[:n]], dtype=torch.int64, device=device)
    return tuple(value[first] for value in joined)
