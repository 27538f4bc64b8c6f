"""Imports for the fork server alone: loaded once, shared by all workers, so that a new one is soon there."""

from __future__ import annotations

import gc
from contextlib import suppress
from importlib import import_module

#: What every worker needs.
NEEDED = (
    "av", "cv2", "torch", "demeanor.features.media", "demeanor.features.sound", "demeanor.inference.extraction",
    "demeanor.server.extraction", "demeanor.server.lengths",
)  # fmt: skip
#: What the usual extractors load when they are first asked; a wheel that is not installed is not missed here. Not
#: transformers, which takes longer than all of these together: the packaged MiniLM does without it, and workers import
#: it themselves for a model that reads another encoder.
USUAL = ("opensmile", "tokenizers", "safetensors.torch")

gc.disable()  # nothing that an import makes is garbage
for _name in NEEDED:
    import_module(_name)
for _name in USUAL:
    with suppress(ImportError):
        import_module(_name)
gc.freeze()  # what all workers share is not looked through again, and so stays shared
gc.enable()
