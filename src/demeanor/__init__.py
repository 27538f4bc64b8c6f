"""Demeanor reads words, voice and face, and learns sentiment and emotion from them."""

import os

# ONNX Runtime, by which a voice is found, opens a session of usage reports when it is imported, unless it reads this.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    # Imported when it is asked for: `import demeanor` stays fast.
    if name == "Demeanor":
        from importlib import import_module

        return import_module("demeanor.analyser").Demeanor
    raise AttributeError(f"module 'demeanor' has no attribute '{name}'")
