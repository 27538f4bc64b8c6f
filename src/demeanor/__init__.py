"""Demeanor reads words, voice and face, and learns sentiment and emotion from them."""

__version__ = "0.1.0"
