"""What the extractors of a model make of clips: decoded once, sound beside pictures where a core is free for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace

import numpy as np

from demeanor.features.base import Extractor
from demeanor.features.clip import Clip
from demeanor.features.media import MediaError

#: Stream -> [T, D] of a clip, or why there is none.
Made = dict[str, np.ndarray | Exception]


def made_of(
    clips: Mapping[str, Clip], extractors: Mapping[str, Extractor], beside: bool = False
) -> Iterator[tuple[str, Made]]:
    """Utterance and what every stream holds of it, in the order of `clips`; values are the same either way.

    beside   what reads pictures alone has a thread of its own
    An error that is not that of a recording ends the clip: streams after it are not made.
    """
    seeing = [name for name, one in extractors.items() if "video" in one.reads and "audio" not in one.reads]
    others = [name for name in extractors if name not in seeing]
    with _one_more_thread() if beside and seeing and others else nullcontext() as thread:
        for identity, clip in clips.items():
            # Notes are told in one order, whichever thread is the first.
            watched = replace(clip, notes={})
            film = watched.at_hand(len(seeing) > 1)
            later = thread.submit(_made, film, seeing, extractors) if thread is not None else None
            made = _made(clip.at_hand(False), others, extractors)
            if later is not None:
                made |= later.result()
            elif not any(_foreign(one) for one in made.values()):
                made |= _made(film, seeing, extractors)
            clip.notes.update(watched.notes)
            yield identity, made


def _made(held: Clip, names: Sequence[str], extractors: Mapping[str, Extractor]) -> Made:
    made: Made = {}
    for name in names:
        try:
            made[name] = extractors[name].as_stored(extractors[name].extract_clip(held))
        except Exception as error:
            made[name] = error
            if _foreign(error):
                break
    return made


def _foreign(value: np.ndarray | Exception) -> bool:
    return isinstance(value, Exception) and not isinstance(value, MediaError)


def _one_more_thread() -> ThreadPoolExecutor:
    """It computes with as many threads of PyTorch as this one, whose number is not its own from the start."""
    import torch

    return ThreadPoolExecutor(1, "pictures", torch.set_num_threads, (torch.get_num_threads(),))
