"""One sentence through libespeak-ng, in a process of its own: `python -m demeanor.corpora.demo.synthesiser`.

The library keeps hidden state from sentence to sentence (phase, random numbers), so only a fresh process gives
the same samples for the same request. Reads one JSON request on standard input; writes one line of JSON (sample
rate and word events) and then the samples as 16 bit little-endian integers.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import json
import sys

_SYNCHRONOUS = 2
_CHARACTERS_UTF8 = 1
_PARAMETERS = {"rate": 1, "volume": 2, "pitch": 3, "range": 4, "word_gap": 7}
_WORD_EVENT = 1
_ABSENT = 3
"""Exit status that means: the library is not installed."""


class _Event(ctypes.Structure):
    # espeak_EVENT of speak_lib.h
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


def library_name() -> str | None:
    """The file name of libespeak-ng, or None where it is not installed."""
    return ctypes.util.find_library("espeak-ng")


def main() -> int:
    """Serve one request."""
    request = json.loads(sys.stdin.read())
    name = library_name()
    if name is None:
        return _ABSENT
    library = ctypes.CDLL(name)
    rate = library.espeak_Initialize(_SYNCHRONOUS, 200, None, 0)
    samples = bytearray()
    words: list[tuple[int, int]] = []

    def receive(wave, count, events):
        if count > 0:
            samples.extend(ctypes.string_at(wave, 2 * count))
        index = 0
        while events[index].type != 0:
            if events[index].type == _WORD_EVENT:
                words.append((events[index].text_position - 1, events[index].sample))
            index += 1
        return 0

    callback = _Callback(receive)
    library.espeak_SetSynthCallback(callback)
    if library.espeak_SetVoiceByName(request["voice"].encode()) != 0:
        print(f"espeak-ng has no voice '{request['voice']}'", file=sys.stderr)
        return 1
    for parameter, number in _PARAMETERS.items():
        library.espeak_SetParameter(number, int(request[parameter]), 0)
    text = request["text"].encode()
    library.espeak_Synth(text, ctypes.c_size_t(len(text) + 1), 0, 1, 0, _CHARACTERS_UTF8, None, None)
    library.espeak_Synchronize()
    sys.stdout.buffer.write(json.dumps({"rate": rate, "words": words}).encode() + b"\n" + bytes(samples))
    return 0


if __name__ == "__main__":
    sys.exit(main())
