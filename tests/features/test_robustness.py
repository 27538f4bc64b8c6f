"""Every extractor that needs no downloaded model, on every kind of recording: a value, an absence or a clear error."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from demeanor.data.errors import DemeanorError
from demeanor.features import EXTRACTORS, extractor_class, find_extractor
from demeanor.features.base import Clip, Extractor, Word
from demeanor.features.engine import StreamRequest, extract_streams
from tests.features.media_samples import faces, voice, write_recording
from tests.parity.golden import PROJECT

#: Reads tables instead of recordings; and has a test of its own below, with a small model.
APART = {"openface_csv", "hf_speech_statistics"}
#: Whatever of the registry needs no settings, one that does, and some in another setting.
SETTINGS: dict[str, dict] = {
    **{
        name: {} for name in EXTRACTORS
        if name not in APART
        and not any(field.is_required() for field in extractor_class(name).settings_type.model_fields.values())
    },
    "opensmile_lld GeMAPS": {"features": "GeMAPSv01b"},
    "opensmile_lld emobase": {"features": "emobase", "deltas": True},
    "opensmile_functionals ComParE": {"features": "ComParE_2016"},
    "face_descriptors": {"fallback": "centre"},
    "per_word": {"extractor": "opensmile_lld"},
}  # fmt: skip
VALUE, ABSENT, ERROR = "value", "absent", "error"
#: kind of recording -> what sound and what picture must give; None where both a value and an absence are right
KINDS: dict[str, tuple[str | None, str]] = {
    "plain.mp4": (VALUE, VALUE), "matroska.mkv": (VALUE, VALUE), "web.webm": (VALUE, VALUE),
    "varying.mkv": (VALUE, VALUE), "stereo48.wav": (VALUE, ABSENT), "eight_bit.wav": (VALUE, ABSENT),
    "float.wav": (VALUE, ABSENT), "a.mp3": (VALUE, ABSENT), "a.flac": (VALUE, ABSENT), "a.ogg": (VALUE, ABSENT),
    "a.m4a": (VALUE, ABSENT), "silence.wav": (ABSENT, ABSENT), "short.wav": (None, ABSENT),
    "no_sound.mp4": (ABSENT, VALUE), "no_picture.mp4": (VALUE, ABSENT), "no_frames.mkv": (VALUE, ABSENT),
    "bytes.mp4": (ERROR, ERROR), "empty.mp4": (ERROR, ERROR), "text.wav": (ERROR, ERROR), "nowhere.mp4": (ERROR, ERROR),
}  # fmt: skip


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kinds")
    sound, film = voice(1.0), faces(10)
    write_recording(folder / "plain.mp4", sound, film)
    write_recording(folder / "matroska.mkv", voice(1.0, 44_100), film, rate=44_100)
    write_recording(folder / "web.webm", voice(1.0, 48_000), film, 48_000, "libopus", "libvpx-vp9")
    times = [0.0, 0.04, 0.3, 0.31, 0.5, 0.52, 0.8, 0.81, 0.9, 0.99]
    write_recording(folder / "varying.mkv", sound, film, times=times)
    write_recording(folder / "stereo48.wav", voice(1.0, 48_000)[:, None].repeat(2, 1), None, 48_000, "pcm_s16le")
    write_recording(folder / "eight_bit.wav", sound, audio_codec="pcm_u8")
    write_recording(folder / "float.wav", sound, audio_codec="pcm_f32le")
    write_recording(folder / "a.mp3", voice(1.0, 44_100), rate=44_100, audio_codec="libmp3lame")
    write_recording(folder / "a.flac", sound, audio_codec="flac")
    write_recording(folder / "a.ogg", voice(1.0, 48_000), rate=48_000, audio_codec="libopus")
    write_recording(folder / "a.m4a", sound)
    write_recording(folder / "silence.wav", sound * 0, audio_codec="pcm_s16le")
    write_recording(folder / "short.wav", voice(0.05), audio_codec="pcm_s16le")
    write_recording(folder / "no_sound.mp4", None, film)
    write_recording(folder / "no_picture.mp4", sound)
    write_recording(folder / "no_frames.mkv", sound, [])
    (folder / "bytes.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    (folder / "empty.mp4").touch()
    (folder / "text.wav").write_text("RIFF raff, this is no sound")
    return folder


@pytest.mark.parametrize("label", SETTINGS)
def test_every_kind_of_recording(recordings: Path, label: str):
    check_every_kind(recordings, label, find_extractor(label.split(maxsplit=1)[0], SETTINGS[label]))


@pytest.mark.parametrize("spoken", [True, False])
def test_statistics_of_an_encoder_of_every_kind(recordings: Path, tmp_path: Path, spoken: bool):
    from tests.features.test_encoders import SPEECH, saved

    if spoken:
        pytest.importorskip("faster_whisper")
    files = {"preprocessor_config": {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "do_normalize": False}}
    settings = {"model": saved(tmp_path, SPEECH["hubert"](), **files), "layers": (0, 1), "apart": True}
    extractor = find_extractor("hf_speech_statistics", {**settings, "spoken": spoken})
    check_every_kind(recordings, "hf_speech_statistics", extractor)


def check_every_kind(recordings: Path, label: str, extractor: Extractor) -> None:
    for name, (sound, picture) in KINDS.items():
        words = (Word("so", 0.0, 0.5), Word("be", 0.5, 0.9), Word("it", 0.9, 1.0))
        turns = ("well", "so be it")
        clip = Clip(name, text="so be it", words=words, media=recordings / name, dialogue=turns, turn=1)
        expected = picture if "video" in extractor.reads and label != "per_word" else sound
        if not extractor.reads & {"audio", "video"}:
            expected = VALUE
        if label == "waveform" and name == "short.wav":
            expected = VALUE
        if label == "uniform_word_times" and name == "silence.wav":
            expected = VALUE  # silence lasts, too
        if expected == ERROR:
            with pytest.raises(DemeanorError, match=re.escape(str(recordings / name))):
                extractor.extract([clip])
            continue
        values = extractor.extract([clip])[0]
        assert values.ndim == 2
        assert values.shape[1] == extractor.dimension
        assert values.dtype == extractor.dtype
        assert np.isfinite(values).all(), name
        assert expected is None or (len(values) > 0) == (expected == VALUE), name
        np.testing.assert_allclose(extractor.extract([clip, Clip("other", text="a b")])[0], values, atol=1e-5)


def test_the_run_goes_on_over_all_of_them(recordings: Path, tmp_path: Path):
    clips = [Clip(name, text="so be it", media=recordings / name) for name in KINDS]
    requests = {
        "audio.frames": StreamRequest(extractor="opensmile_lld"),
        "vision.frames": StreamRequest(extractor="face_descriptors"),
    }
    _, aside = extract_streams(clips, requests, tmp_path / "cache", tmp_path / "out", 1, progress=False)
    broken = {name for name, (sound, _) in KINDS.items() if sound == ERROR}
    for stream in requests:
        assert set(aside.loc[aside["stream"] == stream, "utterance_id"]) == broken


SCRIPT = """
import json, resource, sys
from pathlib import Path
from demeanor.features import find_extractor
from demeanor.features.base import Clip
media, spans = Path(sys.argv[1]), json.loads(sys.argv[2])
extractor = find_extractor("opensmile_functionals")
lengths = []
for n, (start, end) in enumerate(spans):
    clip = Clip(str(n), media=media, start=start, end=end)
    lengths.append((len(clip.waveform), len(extractor.extract_clip(clip))))
    if n == 0:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"lengths": lengths, "grown": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024}))
"""


def test_two_hours_are_read_by_spans_in_flat_memory(tmp_path: Path):
    path = tmp_path / "long.flac"
    minute = (voice(60.0, 8000) * 32767).astype(np.int16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("flac", rate=8000)
        stream.layout = "mono"
        stream.codec_context.options = {"compression_level": "0"}
        for n in range(120):
            for start in range(0, len(minute), 4608):
                block = minute[start : start + 4608]
                frame = av.AudioFrame.from_ndarray(block[None], format="s16", layout="mono")
                frame.sample_rate, frame.pts = 8000, n * len(minute) + start
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    spans = [[10.0, 12.0], [3600.0, 3602.0], [7190.0, 7192.0], [5000.5, 5003.5], [1.0, 4.0]]
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path), json.dumps(spans)],
        capture_output=True,
        text=True,
        check=True,
        cwd=PROJECT,
    )
    found = json.loads(result.stdout)
    assert found["lengths"] == [[32_000, 1], [32_000, 1], [32_000, 1], [48_000, 1], [48_000, 1]]
    assert found["grown"] < 20  # MiB; the file holds 460 MB of samples at 16 kHz


REAL = PROJECT.parent / "shared" / "data"


@pytest.mark.skipif(not (REAL / "clips").is_dir(), reason="no real recordings beside the project")
def test_real_recordings_go_through(tmp_path: Path):
    paths = sorted((REAL / "clips").glob("*/*.*")) + sorted(REAL.glob("ravdess_speech/Actor_01/*.flac"))[:6]
    clips = [Clip(str(n), media=path) for n, path in enumerate(paths)]
    requests = {
        "audio.functionals": StreamRequest(extractor="opensmile_functionals"),
        "vision.frames": StreamRequest(extractor="face_descriptors"),
    }
    streams, aside = extract_streams(clips, requests, tmp_path / "cache", tmp_path / "out", 2, progress=False)
    assert aside.empty
    sees = {path.name: len(streams["vision.frames"].ragged[str(n)]) for n, path in enumerate(paths)}
    assert sees["no_face.mp4"] == 0
    assert sees["single_face.mp4"] > 5
    assert sees["WolfgangLanger_Pexels.mp4"] > 90
    hears = {path.name: len(streams["audio.functionals"].ragged[str(n)]) for n, path in enumerate(paths)}
    assert hears["WolfgangLanger_Pexels.mp4"] == 0  # its track is silent
    assert all(count == 1 for name, count in hears.items() if name.endswith(".flac"))
