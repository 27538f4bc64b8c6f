"""The README of the corpus' folder, with the ceilings as computed."""

from __future__ import annotations

from pathlib import Path

from demeanor.corpora.demo import latents
from demeanor.corpora.demo.ceiling import markdown_table
from demeanor.data.files import read_json, write_atomically

_TEMPLATE = """\
This corpus is synthetic: no human being is seen, heard or quoted in it.

# Demeanor's synthetic demo corpus

{clips} short video clips of invented people in {dialogues} dialogues ({splits}; speakers disjoint between the
splits), made so that Demeanor can be run, tested and measured where no licensed corpus is at hand. Scores on it
say that the machinery works. They say nothing about people.

Licence: CC0 1.0 for the media, tables and texts in this folder; Apache-2.0 for the generator.

## How it was made

`python -m demeanor.corpora.demo --output FOLDER --seed {seed}` (needs espeak-ng; using the corpus does not). Words
come from a grammar with positive, negative, neutral, negated and sarcastic forms; the voice is espeak-ng with a
voice per speaker, its pitch, range, pace, loudness and brightness moved by the mood; the face is drawn, and its brows,
eyes and mouth move with the mood and with the speech.

A sentiment s in [-3, 3] that persists from turn to turn and an emotion drive all three. Each modality sees s through
its own noise (standard deviation: text {text}, audio {audio}, vision {vision}) and an emotion that is often, not
always, the true one. {contradictions} clips contradict themselves on purpose (sarcasm: pleased words with a displeased
voice and face; teasing: the reverse), {silent} have a silent voice, {faceless} show no face. The module
`demeanor.corpora.demo.latents` is the exact definition.

Noise and seed were set with scores in view, so that no modality outshines the others: that joining them pays here is
by design, and is no finding.

## Files

* `Raw/<video_id>/<clip_id>.mp4`: H.264 96x96 at 12 frames per second, AAC mono at 16 kHz, 2 to 4 s.
* `label.csv`: `video_id` (the dialogue), `clip_id` (the turn, from 0001), `text`, `label` (s itself, in steps of 0.2),
  `label_T`, `label_A`, `label_V` (what words, voice and face by themselves show, in [-3, 3]; 0 where the modality is
  missing), `annotation` (Negative below 0, Neutral at 0, Positive above), `mode` (train, valid, test).
* `sidecar.json`: `utterances`, keyed `<video_id>_<clip_id>`, each with `speaker`, `dialogue`, `turn` (from 0),
  `language`, `start` and `end` (seconds within its own file), `words` ([word, start, end] in seconds from the clip's
  start, one for each space-separated piece of `text`), `emotion`, and the planted truth: `sentiment`, `contradiction`
  (null, "sarcasm" or "teasing"), `missing` (any of "audio", "vision"), `views` (per modality the `value` and `emotion`
  that it shows; `marker`: whether the words give sarcasm away), `topic`, `form` (plain, negated, sarcastic) and
  `text_value` (the sentiment of the words as the grammar grades them).
* `ceiling.json`: the table below with all digits.

The truth in the sidecar is for measuring. A model that reads it has read the answers.

## The planted ceiling

The best achievable scores on the {test} test clips, computed from the generator's own probabilities by
`python -m demeanor.corpora.demo ceiling FOLDER`: each metric gets its own best decision, in brackets the 95% bootstrap
interval over clips. They are optimal on average: on so few clips a model can be a little luckier. They take the voice
as how, not what, is said: a speech recogniser on the audio would see the words as well.

{table}
"""


def write_readme(folder: Path) -> None:
    """Write `README.md` from `sidecar.json` and `ceiling.json`."""
    content = read_json(folder / "sidecar.json")
    clips = list(content["utterances"].values())
    splits = {split: sum(clip["split"] == split for clip in clips) for split in ("train", "valid", "test")}
    text = _TEMPLATE.format(
        clips=len(clips),
        dialogues=len({clip["dialogue"] for clip in clips}),
        splits=", ".join(f"{count} {split}" for split, count in splits.items()),
        seed=content["seed"],
        contradictions=sum(clip["contradiction"] is not None for clip in clips),
        silent=sum("audio" in clip["missing"] for clip in clips),
        faceless=sum("vision" in clip["missing"] for clip in clips),
        test=splits["test"],
        table=markdown_table(read_json(folder / "ceiling.json")),
        **latents.NOISE,
    )
    with write_atomically(folder / "README.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
