"""vq-wav2vec (Baevski, Schneider and Auli, 2020, arXiv 1910.05453): speech to discrete codes, in plain torch.

docs/systems/tab_fusion.md#vq-wav2vec. Names of modules are those of the official
checkpoints, so that their state dicts load as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from threading import Lock

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from demeanor.data.errors import InputError

#: (kernel, stride) of the released models' eight blocks: 100 frames per second from 16 kHz, 465 samples each.
RELEASED_LAYERS = ((10, 5), (8, 4), (4, 2), (4, 2), (4, 2), (1, 1), (1, 1), (1, 1))
#: Frames whose distances to all codewords are held at once.
BLOCK = 64
#: Held while the precision of a GPU's convolutions, which is the whole process', is another one.
_PRECISION = Lock()


@dataclass(frozen=True)
class VqLayout:
    """layers (kernel, stride) of the encoder; log_compression is off in the released models."""

    channels: int
    layers: tuple[tuple[int, int], ...]
    codewords: int
    width: int
    codebooks: int
    groups: int = 2
    log_compression: bool = False
    gumbel_depth: int = 0
    gumbel_hidden: int = 0

    @property
    def shortest(self) -> int:
        """Samples of the receptive field: shorter sounds have no code."""
        field, stride = 1, 1
        for kernel, step in self.layers:
            field += (kernel - 1) * stride
            stride *= step
        return field


class ConvolutionalEncoder(nn.Module):
    """Blocks of convolution, group norm over channels and time, GELU. [B, samples] -> [B, channels, frames].

    The norm runs over the whole utterance, so every frame depends on all samples: one utterance at a time, never
    padded (docs/systems/tab_fusion.md#vq-encoder).
    """

    def __init__(self, layout: VqLayout):
        super().__init__()
        self.log_compression = layout.log_compression
        self.conv_layers = nn.ModuleList()
        width = 1
        for kernel, stride in layout.layers:
            self.conv_layers.append(
                nn.Sequential(
                    nn.Conv1d(width, layout.channels, kernel, stride=stride, bias=False),
                    nn.Dropout(0.0),
                    nn.GroupNorm(1, layout.channels),
                    nn.GELU(),
                )
            )
            width = layout.channels

    def forward(self, samples: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch channels frames"]:
        hidden = samples.unsqueeze(1)
        for layer in self.conv_layers:
            hidden = layer(hidden)
        return (hidden.abs() + 1).log() if self.log_compression else hidden


class KmeansQuantiser(nn.Module):
    """Nearest codeword per group after a grouped projection (docs/systems/tab_fusion.md#vq-quantiser)."""

    def __init__(self, layout: VqLayout):
        super().__init__()
        self.groups = layout.groups
        self.embedding = nn.Parameter(torch.zeros(layout.codewords, layout.codebooks, layout.width))
        self.projection = nn.Sequential(
            nn.Conv1d(layout.channels, layout.channels, 1, groups=layout.groups, bias=False),
            nn.GroupNorm(layout.groups, layout.channels),
        )

    def forward(self, encoded: Float[Tensor, "batch channels frames"]) -> Int[Tensor, "batch frames groups"]:
        projected = self.projection(encoded)
        batch, channels, frames = projected.shape
        points = projected.transpose(1, 2).reshape(batch, frames, self.groups, channels // self.groups)
        blocks = [self._nearest(points[:, start : start + BLOCK]) for start in range(0, frames, BLOCK)]
        return torch.cat(blocks, dim=1)

    def _nearest(self, points: Float[Tensor, "batch frames groups width"]) -> Int[Tensor, "batch frames groups"]:
        # Differences, not the expanded square: rounding of the latter would change codes that are nearly tied.
        distances = torch.linalg.vector_norm(points[None] - self.embedding[:, None, None], dim=-1)
        return distances.argmin(dim=0)

    def codewords(self, codes: Int[Tensor, "batch frames groups"]) -> Float[Tensor, "batch channels frames"]:
        """The codewords of each frame's codes, groups side by side."""
        return _concatenated(
            [self.embedding[:, min(g, self.embedding.shape[1] - 1)] for g in range(self.groups)], codes
        )


class GumbelQuantiser(nn.Module):
    """The most probable codeword per group (https://arxiv.org/abs/1910.05453, section 3.1)."""

    def __init__(self, layout: VqLayout):
        super().__init__()
        self.groups, self.count = layout.groups, layout.codewords
        self.vars = nn.Parameter(torch.zeros(1, layout.codebooks * layout.codewords, layout.width))
        outputs = layout.groups * layout.codewords
        if layout.gumbel_depth <= 1:
            self.weight_proj: nn.Module = nn.Linear(layout.channels, outputs)
        else:
            widths = [layout.channels, *[layout.gumbel_hidden] * (layout.gumbel_depth - 1)]
            hidden = [nn.Sequential(nn.Linear(before, after), nn.GELU()) for before, after in pairwise(widths)]
            self.weight_proj = nn.Sequential(*hidden, nn.Linear(widths[-1], outputs))

    def forward(self, encoded: Float[Tensor, "batch channels frames"]) -> Int[Tensor, "batch frames groups"]:
        logits = self.weight_proj(encoded.transpose(1, 2))
        return logits.unflatten(-1, (self.groups, self.count)).argmax(dim=-1)

    def codewords(self, codes: Int[Tensor, "batch frames groups"]) -> Float[Tensor, "batch channels frames"]:
        """The codewords of each frame's codes, groups side by side."""
        books = self.vars[0].split(self.count)
        return _concatenated([books[min(g, len(books) - 1)] for g in range(self.groups)], codes)


def _concatenated(books: list[Tensor], codes: Int[Tensor, "batch frames groups"]) -> Tensor:
    return torch.cat([book[codes[..., g]] for g, book in enumerate(books)], dim=-1).transpose(1, 2)


class VqWav2vec(nn.Module):
    """Samples in [-1, 1] at 16 kHz, one utterance, to codes [frames, groups]; 100 frames per second."""

    def __init__(self, layout: VqLayout):
        super().__init__()
        self.layout = layout
        self.feature_extractor = ConvolutionalEncoder(layout)
        quantiser = GumbelQuantiser if layout.gumbel_depth else KmeansQuantiser
        self.vector_quantizer: KmeansQuantiser | GumbelQuantiser = quantiser(layout)

    @torch.inference_mode()
    def codes(self, samples: Float[Tensor, " samples"]) -> Int[Tensor, "frames groups"]:
        """Codes of a recording at 16 kHz, none where it is shorter than the receptive field."""
        if len(samples) < self.layout.shortest:
            return torch.zeros((0, self.layout.groups), dtype=torch.long, device=samples.device)
        if samples.device.type != "cuda":
            return self._codes(samples)
        # TF32 would round the convolutions on a GPU and with them some codes.
        with _PRECISION, torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False):
            return self._codes(samples)

    def _codes(self, samples: Float[Tensor, " samples"]) -> Int[Tensor, "frames groups"]:
        return self.vector_quantizer(self.feature_extractor(samples[None]))[0]


def layout_of(
    state: Mapping[str, Tensor], strides: tuple[int, ...] | None = None, log_compression: bool = False, where: str = ""
) -> VqLayout:
    """The layout that a state dict's shapes imply; strides are not among them and default to the released ones.

    `state` by fairseq's names, convolutions [channels, inputs, kernel]; InputError for another network.
    """
    kernels: list[int] = []
    while (name := f"feature_extractor.conv_layers.{len(kernels)}.0.weight") in state:
        kernels.append(state[name].shape[-1])
    strides = strides or tuple(stride for _, stride in RELEASED_LAYERS)
    problems = []
    if not kernels:
        problems.append("no tensor feature_extractor.conv_layers.0.0.weight")
    if len(kernels) != len(strides):
        problems.append(f"{len(kernels)} convolutions, but {len(strides)} strides are known")
    kmeans, gumbel = "vector_quantizer.embedding", "vector_quantizer.vars"
    projections = [name for name in state if name.startswith("vector_quantizer.weight_proj.")]
    if (kmeans in state) == (gumbel in state) or (gumbel in state and not projections):
        problems.append(f"needs either {kmeans}, or {gumbel} with weight_proj")
    if problems:
        raise InputError(where or "vq-wav2vec checkpoint", problems, "Is it the checkpoint of a vq-wav2vec model?")
    channels = state["feature_extractor.conv_layers.0.0.weight"].shape[0]
    layers = tuple(zip(kernels, strides, strict=True))
    if kmeans in state:
        codewords, codebooks, width = state[kmeans].shape
        return VqLayout(channels, layers, codewords, width, codebooks, channels // width, log_compression)
    _, rows, width = state[gumbel].shape
    linear = sorted(name for name in projections if name.endswith(".weight"))
    outputs = state[linear[-1]].shape[0]  # layers are numbered, the output layer last
    groups = channels // width
    codewords = outputs // groups
    hidden = state["vector_quantizer.weight_proj.0.0.weight"].shape[0] if len(linear) > 1 else 0
    return VqLayout(
        channels, layers, codewords, width, rows // codewords, groups, log_compression, len(linear), hidden
    )  # fmt: skip


def build(state: Mapping[str, Tensor], layout: VqLayout, where: str = "") -> VqWav2vec:
    """The model with its weights, ready to encode. Heads that codes do not need are passed over; anything else that
    is missing or of another shape is refused.

    `state` has the shapes [...] of the layout; InputError lists what has not.
    """
    model = VqWav2vec(layout)
    needed = model.state_dict()
    problems = [f"no tensor {name}" for name in needed if name not in state]
    problems += [
        f"{name}: shape {tuple(state[name].shape)}, expected {tuple(value.shape)}"
        for name, value in needed.items()
        if name in state and state[name].shape != value.shape
    ]
    heads = ("feature_aggregator.", "wav2vec_predictions.", "dropout_feats", "dropout_agg")
    problems += [f"unknown tensor {name}" for name in state if name not in needed and not name.startswith(heads)]
    if problems:
        raise InputError(where or "vq-wav2vec checkpoint", problems)
    model.load_state_dict({name: state[name].float() for name in needed})
    return model.eval().requires_grad_(False)
