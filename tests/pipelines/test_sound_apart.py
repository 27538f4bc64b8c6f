"""A film without sound and its voice in another file: probed, decoded and put into clips as one utterance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from demeanor.corpora.base import CorpusSettings
from demeanor.corpora.doctor import DoctorSettings
from demeanor.data.media import MediaProbe
from demeanor.features.clips import clips_of
from demeanor.pipelines.ingestion.nodes import examine_corpus, probe_media, with_sound


def test_the_sound_of_the_one_and_the_picture_of_the_other():
    film, voice = MediaProbe(2.0, False, True, None, True), MediaProbe(1.9, True, False, False, None)
    assert with_sound(film, voice) == MediaProbe(2.0, True, True, False, True)
    assert with_sound(film, MediaProbe(error="damaged")).error == "damaged"


def test_a_clip_takes_its_samples_from_the_file_with_the_sound(tmp_path: Path):
    loud = (0.5 * np.sin(np.arange(16_000) / 20)).astype(np.float32)
    soundfile.write(tmp_path / "camera.wav", np.zeros(16_000, np.float32), 16_000)
    soundfile.write(tmp_path / "lapel.wav", loud, 16_000)
    (tmp_path / "manifest.csv").write_text("id,video,audio,text\na,camera.wav,lapel.wav,hello\n")
    corpus = CorpusSettings(reader="folder", options={"path": str(tmp_path)}).read(tmp_path / "out")
    probes = probe_media(corpus)
    assert probes["a"].silent is False
    (clip,) = clips_of(corpus.utterances, corpus.root)
    np.testing.assert_allclose(clip.waveform, loud, atol=1e-4)
    (alone,) = clips_of(corpus.utterances.drop(columns="audio"), corpus.root)
    assert alone.audible is None
    assert clip.content(frozenset({"audio"})) != alone.content(frozenset({"audio"}))
    assert clip.content(frozenset({"video"})) == alone.content(frozenset({"video"}))
    report, _, _ = examine_corpus(corpus, probes, DoctorSettings())
    assert "silent_audio" not in {finding.kind for finding in report.findings}
