"""Demeanor reads words, voice and face, and learns sentiment and emotion from them."""

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    # Imported when it is asked for: `import demeanor` stays fast.
    if name == "Demeanor":
        from importlib import import_module

        return import_module("demeanor.analyser").Demeanor
    raise AttributeError(f"module 'demeanor' has no attribute '{name}'")
