"""A file that grows: windows come while it is written, with those of the whole file at the end."""

from __future__ import annotations

import numpy as np
import pytest

from demeanor.data.errors import InputError
from demeanor.timeline.hearing import energy
from demeanor.timeline.live import follow
from tests.timeline.examples import RATE, silence, voice, write_wav
from tests.timeline.test_run import CountingScorer


def test_windows_come_while_the_file_grows(tmp_path):
    whole = write_wav(tmp_path / "whole.wav", np.concatenate([voice(7), silence(13)])).read_bytes()
    growing = tmp_path / "growing.wav"
    written = [0]

    def write_on(_: float) -> None:
        """Two seconds more at every look."""
        upto = min(written[0] + 2 * 2 * RATE + 44 * (written[0] == 0), len(whole))
        growing.write_bytes(whole[:upto])
        written[0] = upto

    found = []
    for window in follow(growing, CountingScorer(), energy(), window=6.0, wait=write_on, patience=2.0):
        seconds = (written[0] - 44) / 2 / RATE
        assert window.end <= seconds + 1e-6, "a window of what was not there yet"
        assert seconds - window.end < 3.0 + 2.0, "it comes as soon as it is there"
        found.append(window)
    assert [(one.start, one.end) for one in found] == [
        (0, 3), (0, 6), (3, 9), (6, 12), (9, 15), (12, 18), (14, 20)
    ]  # fmt: skip
    assert [one.voice for one in found] == [True, True, True, True, False, False, False]
    assert all(one.answers["sentiment"].answered for one in found if one.voice)


def test_a_file_that_never_comes_is_an_error_in_a_sentence(tmp_path):
    with pytest.raises(InputError, match="nothing of it could be read"):
        list(follow(tmp_path / "never.wav", CountingScorer(), energy(), wait=lambda _: None, patience=1.0))
