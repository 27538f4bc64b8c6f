"""Demeanor reads words, voice and face, and learns sentiment and emotion from them."""

import os

# ONNX Runtime, by which a voice is found, opens a session of usage reports when it is imported, unless it reads this.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# Threads of torch that wait for each other keep their cores by default and look again and again: where anything else
# runs on the machine, all of it then takes many times as long. OpenMP reads this when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Of the memory to read a table Arrow's own allocator keeps five times what the table takes, that of the system nothing.
# Arrow reads this when it first allocates.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    # Imported when it is asked for: `import demeanor` stays fast.
    if name == "Demeanor":
        from importlib import import_module

        return import_module("demeanor.analyser").Demeanor
    raise AttributeError(f"module 'demeanor' has no attribute '{name}'")
