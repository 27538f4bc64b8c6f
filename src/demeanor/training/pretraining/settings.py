"""How a representation is pretrained: settings alone, so that reading them loads no heavy library."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from demeanor.data.settings import Settings
from demeanor.representations.word_matrix import WordMatrixSettings


class RepresentationSettings(Settings):
    """Settings of `demeanor.training.pretraining.loop.pretrain`.

    The reference trained with Adam at 2e-2, coupled decay of 1e-3 on everything and a rate that fell with the epoch
    number (docs/systems/conv_autoencoder.md#training, #q4, #q5); several of its encoders collapsed.
    """

    representation: str = Field(default="conv_autoencoder", description="name in the registry of representations")
    model: dict[str, Any] = Field(default_factory=dict, description="the representation's own settings")
    word_matrix: WordMatrixSettings = WordMatrixSettings()
    normalise_each_corpus: bool = Field(
        default=True, description="min and max per corpus where several are mixed; false: of the mixture"
    )
    clip: bool = Field(default=True, description="normalised values beyond the train split's range stay in [0, 1]")
    normalise_padding: bool = Field(
        default=False,
        description="true: padding counts as zeros of the features when min and max are fitted, as in the reference",
    )
    epochs: int = Field(default=30, ge=1)
    patience: int = Field(default=8, ge=1, description="epochs without improvement on validation before it stops")
    batch_size: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    plateau: int = Field(default=3, ge=1, description="epochs without improvement before the rate falls to a third")
    on_collapse: Literal["stop", "warn"] = Field(default="stop", description="when the latent ignores its input")
    precision: Literal["float32", "bfloat16"] = "float32"
    compile: bool = Field(default=False, description="torch.compile the model; pays on a GPU and for long trainings")
    threads: int | None = Field(default=None, ge=1, description="CPU threads; None: as many as torch has")
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, ...")
    enabled: bool = Field(default=True, exclude=True, description="false: it stands ready and is not learnt")

    @model_validator(mode="after")
    def _known_representation(self) -> RepresentationSettings:
        # Imported here, not above: a representation brings torch along, and commands that train nothing start fast.
        if self.model:
            from demeanor.representations.base import find_representation

            find_representation(self.representation).Settings(**self.model)
        return self
