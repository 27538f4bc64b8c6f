"""The registry of systems: one line each, imported only when one is used."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from demeanor.data.errors import InputError, nearest

if TYPE_CHECKING:
    from demeanor.models.base import Card, System
    from demeanor.models.published import Published

#: name -> "module:class". A new system is one file in this folder and one line here.
SYSTEMS: dict[str, str] = {
    "text_only": "demeanor.models.unimodal:TextOnly",
    "audio_only": "demeanor.models.unimodal:AudioOnly",
    "vision_only": "demeanor.models.unimodal:VisionOnly",
    "ridge": "demeanor.models.ridge:Ridge",
    "ridge_classes": "demeanor.models.ridge_classes:RidgeClasses",
    "late_fusion": "demeanor.models.late_fusion:LateFusion",
    "self_mm": "demeanor.models.self_mm:SelfMM",
    "self_mm_text": "demeanor.models.self_mm_text:SelfMMText",
    "ef_lstm": "demeanor.models.ef_lstm:EFLSTM",
    "lf_dnn": "demeanor.models.lf_dnn:LFDNN",
    "tfn": "demeanor.models.tfn:TFN",
    "lmf": "demeanor.models.lmf:LMF",
    "mfn": "demeanor.models.mfn:MFN",
    "graph_mfn": "demeanor.models.graph_mfn:GraphMFN",
    "mult": "demeanor.models.mult:MulT",
    "misa": "demeanor.models.misa:MISA",
    "tetfn": "demeanor.models.tetfn:TETFN",
    "mag_bert": "demeanor.models.mag_bert:MAGBERT",
    "mctn": "demeanor.models.mctn:MCTN",
    "mmim": "demeanor.models.mmim:MMIM",
    "cenet": "demeanor.models.cenet:CENET",
    "almt": "demeanor.models.almt:ALMT",
    "tfr_net": "demeanor.models.tfr_net:TFRNet",
    "mlf_dnn": "demeanor.models.multitask:MLFDNN",
    "mtfn": "demeanor.models.multitask:MTFN",
    "mlmf": "demeanor.models.multitask:MLMF",
    "contextual_lstm": "demeanor.models.contextual_lstm:ContextualLSTM",
    "multilogue_net": "demeanor.models.multilogue.system:MultilogueNet",
    "mmml": "demeanor.models.mmml.system:MMML",
    "mmml_text": "demeanor.models.mmml.text_only:MMMLText",
    "mmml_audio_spectrogram": "demeanor.models.mmml.audio_only:SpectrogramAudio",
    "mmml_audio_descriptors": "demeanor.models.mmml.audio_only:DescriptorAudio",
    "mmml_audio_waveform": "demeanor.models.mmml.audio_only:RawAudio",
    "tab_fusion": "demeanor.models.tab_fusion.system:TabFusion",
    "log_pool": "demeanor.models.log_pool:LogPool",
}


def find_system(name: str) -> type[System]:
    """The class of a registered system; an unknown name is an InputError with the nearest one."""
    if name not in SYSTEMS:
        raise InputError("system", [f"there is no system '{name}'.{nearest(name, SYSTEMS)}"])
    module, class_name = SYSTEMS[name].split(":")
    return getattr(importlib.import_module(module), class_name)


def card_of(name: str, settings: Mapping[str, Any]) -> Card:
    """The card of a registered system under the settings of a bundle or a branch; InputError for an unknown name."""
    system = find_system(name)
    return system.card_of(system.Settings(**settings))


def find_published(name: str) -> Published | None:
    """What was published of a registered system's settings: `PUBLISHED` in its module or its Settings', else None."""
    system = find_system(name)
    published: dict[str, Published] = {}
    for place in (system.__module__, system.Settings.__module__):
        published |= getattr(sys.modules[place], "PUBLISHED", {})
    return published.get(name)
