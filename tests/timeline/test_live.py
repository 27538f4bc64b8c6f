"""A file that grows: windows come while it is written, with those of the whole file at the end."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest

from demeanor.data.errors import InputError
from demeanor.features.media import MediaError
from demeanor.features.piped import Bare
from demeanor.timeline.hearing import energy
from demeanor.timeline.incoming import Incoming
from demeanor.timeline.live import follow, follow_pipe
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


def streamed(samples: np.ndarray, rate: int = RATE) -> bytes:
    """A WAV as recorders write it into a pipe: its lengths are not known yet."""
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 0, b"WAVE", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16, b"data", 0)
    return head + (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()


@pytest.mark.parametrize("kind", ["wav", "raw", "stereo"])
def test_a_stream_gives_the_windows_of_the_file(tmp_path, kind):
    sound = np.concatenate([voice(7), silence(6.5)])
    content = streamed(sound)
    bare = None
    if kind != "wav":
        content = content[44:]
    if kind == "stereo":
        content = np.repeat(np.frombuffer(content, "<i2"), 2).tobytes()
        bare = Bare(RATE, 2)
    scorer, same = CountingScorer(), CountingScorer()
    pipe = io.BytesIO(content)
    found = list(follow_pipe(lambda size: pipe.read(min(size, 1001)), scorer, energy(), window=6.0, bare=bare))
    path = write_wav(tmp_path / "whole.wav", sound)
    whole = list(follow(path, same, energy(), window=6.0, wait=lambda _: None, patience=0.5))
    assert [(one.start, one.end) for one in found] == [(0, 3), (0, 6), (3, 9), (6, 12), (7.5, 13.5)]
    assert [(one.start, one.end, one.voice, one.answers) for one in found] == [
        (one.start, one.end, one.voice, one.answers) for one in whole
    ]
    assert all(0 <= one.delay < 60 for one in found)
    assert [len(asked[0]["audio_bytes"]) for asked in scorer.asked] == [44 + 2 * RATE * n for n in (3, 6, 6, 6)]


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", InputError),
        (b"RIFF\0\0\0\0WAVE", MediaError),
        (b"\0\0\0\x20ftypisom", MediaError),
        (b"OggS no", MediaError),
    ],
)
def test_a_stream_that_is_no_sound_is_an_error_in_a_sentence(content, error):
    with pytest.raises(error, match="standard input"):
        list(follow_pipe(io.BytesIO(content).read, CountingScorer(), energy()))


def test_whoever_writes_faster_than_is_scored_is_kept_waiting_and_nothing_is_lost():
    given = []

    def blocks():
        for number in range(40):
            given.append(number)
            yield np.full(RATE, number, np.float32)

    sound = Incoming(blocks(), ahead=3.0)
    assert sound.wait(1.0)
    assert len(given) <= 7
    means = [float(sound.between(second, second + 1)[0].mean()) for second in range(40) if sound.wait(second + 1)]
    assert means == list(range(40))
    assert not sound.wait(41.0)
    assert len(sound._parts) <= 5
