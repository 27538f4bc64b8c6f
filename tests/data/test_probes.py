"""What was found of every recording, as a dictionary has it and in a part of its room."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import pytest

from demeanor.data.media import MediaProbe, Probes

SOUND = MediaProbe(1.5, has_audio=True, silent=False)
FOUND = {
    "a": SOUND,
    "b": replace(SOUND, duration=0.25),
    "c": MediaProbe(error="no such file"),
    "d": replace(SOUND, broken={"vision": "cut short"}, remarks=("mixed_down",), tracks=("director's comment",)),
    "e": replace(SOUND, broken={"vision": "of another kind"}),
    "f": replace(SOUND, silent=None),
}


def test_as_in_a_dictionary():
    probes = Probes(FOUND.items())
    assert probes == FOUND
    assert (list(probes), len(probes), "z" in probes, probes.get("z")) == (list(FOUND), len(FOUND), False, None)
    with pytest.raises(KeyError, match="z"):
        probes["z"]
    assert not Probes()


def test_a_recording_takes_little_memory():
    tracemalloc.start()
    try:
        probes = Probes((f"u{n:07d}", MediaProbe(n / 7, has_audio=True, silent=False)) for n in range(20_000))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert probes["u0000007"] == MediaProbe(1.0, has_audio=True, silent=False)
    assert held / len(probes) < 64
