from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest

from demeanor.data.errors import InputError, ProvenanceError
from demeanor.data.provenance import Provenance
from demeanor.data.ragged import Ragged
from demeanor.data.stream import Stream
from demeanor.data.utterances import make_table
from demeanor.features import EXTRACTORS, extractor_class, extractor_from, find_extractor
from demeanor.features.base import READS, Clip
from demeanor.features.cache import ShardCache
from demeanor.features.clips import clips_of
from demeanor.features.engine import StreamRequest, extract_streams
from demeanor.features.pools import HerePool, ProcessPool
from demeanor.features.tasks import Task, after_death, wake, work
from tests.features.media_samples import faces, voice, write_recording

REQUESTS = {
    "audio.functionals": StreamRequest(extractor="opensmile_functionals"),
    "vision.frames": StreamRequest(extractor="face_descriptors", parameters={"fallback": "centre"}),
    "text.tokens": StreamRequest(extractor="hf_tokens"),
}


def corpus(folder: Path, count: int = 12) -> pd.DataFrame:
    """Clips of which one has no sound, one is silent, one no picture, one is no recording, one is missing."""
    rows = []
    for n in range(count):
        sound = None if n == 1 else voice(0.6 + 0.05 * n, pitch=110 + 8 * n) * (n != 2)
        path = write_recording(folder / f"c{n}.mp4", sound, None if n == 3 else faces(6 + n, mouth=n / 10))
        if n == 4:
            path.write_text("not a film")
        if n == 5:
            path.unlink()
        rows.append(
            {
                "utterance_id": f"u{n}", "corpus": "made", "split": "train", "dialogue": f"d{n // 3}", "turn": n % 3,
                "text": None if n == 6 else f"this is clip number {n} of them", "media": path.name,
            }
        )  # fmt: skip
    return make_table(rows)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    folder = tmp_path_factory.mktemp("media")
    return folder, corpus(folder)


def run(made, folder: Path, workers: int = 1, requests=None, **more):
    root, table = made
    streams, aside = extract_streams(
        clips_of(table, root), requests or REQUESTS, folder / "cache", folder / "out", workers, progress=False, **more
    )
    return streams, aside


def test_values_absences_and_errors(made, tmp_path: Path):
    streams, aside = run(made, tmp_path)
    assert set(zip(aside["utterance_id"], aside["stream"], strict=True)) == {
        (clip, stream) for clip in ("u4", "u5") for stream in ("audio.functionals", "vision.frames")
    }
    assert aside["reason"].str.contains("not a readable recording|no such file").all()
    lengths = {name: dict(zip(s.ragged.ids, s.ragged.lengths, strict=True)) for name, s in streams.items()}
    assert [key for key, value in lengths["audio.functionals"].items() if value == 0] == ["u1", "u2", "u4", "u5"]
    assert [key for key, value in lengths["vision.frames"].items() if value == 0] == ["u3", "u4", "u5"]
    assert [key for key, value in lengths["text.tokens"].items() if value == 0] == ["u6"]
    assert streams["audio.functionals"].provenance.licence.startswith("openSMILE research licence")
    for stream in streams.values():
        assert np.isfinite(stream.ragged.values).all()
        assert stream.path is not None


def test_the_number_of_workers_changes_no_bit(made, tmp_path: Path):
    one, _ = run(made, tmp_path / "one", workers=1)
    two, _ = run(made, tmp_path / "two", workers=2)
    for name in REQUESTS:
        assert one[name].content_sha256 == two[name].content_sha256


def test_workers_wake_while_many_clips_are_hashed_and_change_no_bit(made, tmp_path: Path, monkeypatch):
    one, _ = run(made, tmp_path / "one", workers=1)
    woken: list[str] = []
    original = ProcessPool.wake
    monkeypatch.setattr(ProcessPool, "wake", lambda self, *maker: (woken.append(maker[0]), original(self, *maker)))
    monkeypatch.setattr("demeanor.features.engine.MANY", 1)
    two, _ = run(made, tmp_path / "two", workers=2)
    assert woken == ["opensmile_functionals", "face_descriptors"]  # splitting texts needs no workers
    for name in REQUESTS:
        assert one[name].content_sha256 == two[name].content_sha256
    woken.clear()
    _, aside = run(made, tmp_path / "two", workers=2, requests={"text.tokens": REQUESTS["text.tokens"]})
    assert not woken
    assert aside.empty


@pytest.mark.parametrize("settings", ["{}", '{"features": "none of them"}'])
def test_what_cannot_be_woken_is_told_by_its_first_clip(made, settings: str):
    wake("opensmile_functionals", settings)
    clip = clips_of(made[1], made[0])[0]
    task = Task("opensmile_functionals", settings, (clip,), ("a",))
    if settings == "{}":
        assert work(task).values["a"].shape == (1, 88)
    else:
        with pytest.raises(InputError, match="features: Input should be"):
            work(task)


def test_a_second_run_makes_only_what_changed(made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root, table = made
    run(made, tmp_path)
    seen: list[Task] = []
    original = HerePool.run

    def watched(self, tasks):
        tasks = list(tasks)
        seen.extend(tasks)
        return original(self, tasks)

    monkeypatch.setattr(HerePool, "run", watched)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    run(made, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before
    readable = [clip.utterance_id for task in seen for clip in task.clips]
    assert set(readable) == {"u4", "u5"}  # what failed is tried again, the rest is kept
    seen.clear()
    changed = table.copy()
    changed.loc[0, "text"] = "another text altogether"
    streams, _ = run((root, changed), tmp_path)
    assert [t.extractor for t in seen if "u0" in [clip.utterance_id for clip in t.clips]] == ["hf_tokens"]
    assert len(streams["text.tokens"].ragged["u0"]) == 5
    seen.clear()
    slower = {**REQUESTS, "vision.frames": StreamRequest(extractor="face_descriptors", parameters={"rate": 2.0})}
    run((root, changed), tmp_path, requests=slower)
    worked = Counter(task.extractor for task in seen for _ in task.clips)
    assert {extractor for extractor, clips in worked.items() if clips > 2} == {"face_descriptors"}


def test_a_run_that_is_killed_goes_on_and_ends_the_same(tmp_path: Path):
    root = tmp_path / "media"
    root.mkdir()
    rows = []
    for n in range(80):
        write_recording(root / f"c{n}.wav", voice(0.4, pitch=100 + n), audio_codec="pcm_s16le")
        rows.append(
            {
                "utterance_id": f"u{n}",
                "corpus": "made",
                "split": "train",
                "dialogue": "d",
                "turn": n,
                "media": f"c{n}.wav",
            }
        )
    table = make_table(rows)
    table.to_parquet(tmp_path / "table.parquet")
    script = tmp_path / "run.py"
    script.write_text(
        "import sys, time, pandas as pd\n"
        "from pathlib import Path\n"
        "import demeanor.features.audio as audio\n"
        "from demeanor.features.clips import clips_of\n"
        "from demeanor.features.engine import StreamRequest, extract_streams\n"
        "plain = audio.OpenSmileDescriptors.extract_clip\n"
        "def slow(self, clip):\n"
        "    time.sleep(0.05)\n"
        "    return plain(self, clip)\n"
        "audio.OpenSmileDescriptors.extract_clip = slow\n"
        "folder = Path(sys.argv[1])\n"
        "clips = clips_of(pd.read_parquet(folder / 'table.parquet'), folder / 'media')\n"
        "request = {'audio.frames': StreamRequest(extractor='opensmile_lld')}\n"
        "extract_streams(clips, request, folder / 'cache', folder / 'out', 1, False)\n"
    )
    process = subprocess.Popen([sys.executable, str(script), str(tmp_path)], env={**os.environ, "PYTHONPATH": "."})
    deadline = time.monotonic() + 60
    while not list((tmp_path / "cache").glob("*/*.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out").exists()
    kept = len(list((tmp_path / "cache").glob("*/*.safetensors")))
    assert 0 < kept < 5
    request = {"audio.frames": StreamRequest(extractor="opensmile_lld")}
    resumed, _ = run((root, table), tmp_path, requests=request)
    fresh, _ = run((root, table), tmp_path / "fresh", requests=request)
    assert resumed["audio.frames"].content_sha256 == fresh["audio.frames"].content_sha256


def test_encoders_make_a_group_whole_so_that_bytes_do_not_depend_on_history(made, tmp_path: Path):
    root, table = made
    request = {"text.words": StreamRequest(extractor="hf_words")}
    run((root, table), tmp_path, requests=request)
    (folder,) = (tmp_path / "cache").iterdir()
    (shard,) = folder.glob("*.safetensors")
    part = Ragged.load(shard)
    kept = part.select(list(part.ids)[:4])
    kept.save(folder / "part.safetensors")
    shard.unlink()
    again, _ = run((root, table), tmp_path / "x", requests=request)
    (tmp_path / "out" / "text.words.safetensors").unlink()
    resumed, _ = run((root, table), tmp_path, requests=request)
    assert resumed["text.words"].content_sha256 == again["text.words"].content_sha256


def test_stored_and_decoded_sound_give_the_same_features(made, tmp_path: Path):
    root, table = made
    table = table[~table["utterance_id"].isin(["u4", "u5"])].reset_index(drop=True)
    given, _ = run((root, table), tmp_path, requests={"audio.waveform": StreamRequest(extractor="waveform")})
    from_store = clips_of(table, root, given)
    extractor = find_extractor("opensmile_lld")
    for stored, decoded in zip(from_store, clips_of(table, root), strict=True):
        np.testing.assert_array_equal(extractor.extract_clip(stored), extractor.extract_clip(decoded))


def test_word_times_reach_the_clips(made):
    root, table = made
    times = {
        "u0": np.array([[k, k + 0.5] for k in range(7)], np.float32),
        "u1": np.zeros((3, 2), np.float32),
    }
    stream = Stream(
        "text.word_times", Ragged.from_sequences(times),
        Provenance(extractor="sidecar", version="1", alignment="corpus"),
    )  # fmt: skip
    clips = {clip.utterance_id: clip for clip in clips_of(table, root, {"text.word_times": stream})}
    assert [word.text for word in clips["u0"].words] == ["this", "is", "clip", "number", "0", "of", "them"]
    assert clips["u0"].words[2].start == 2.0
    assert clips["u1"].words is None
    assert clips["u2"].words is None


def test_every_extractor_states_what_it_makes():
    for name in EXTRACTORS:
        kind = extractor_class(name)
        assert kind.name == name
        assert kind.stream.split(".")[0] in {"text", "audio", "vision"}
        assert kind.reads <= READS
        assert kind.unit
        assert kind.licence != "unknown"
        assert kind.__doc__
        assert kind.stream in kind.__doc__, name


def test_what_provenance_names_can_be_built_again_and_differences_are_told():
    provenance = find_extractor("opensmile_functionals", {"features": "GeMAPSv01b"}).provenance()
    assert extractor_from(provenance).dimension == 62
    older = provenance.model_copy(update={"version": "opensmile 1.0"})
    with pytest.raises(ProvenanceError, match=r"version: 'opensmile 1\.0' expected"):
        extractor_from(older, "audio.functionals")
    with pytest.raises(ProvenanceError, match="cannot be made from a recording"):
        extractor_from(Provenance(extractor="mosi_pickle", version="1", recomputable=False), "audio.frames")


def test_wrong_requests_are_told_before_anything_runs(made, tmp_path: Path):
    requests = {
        "a.b": StreamRequest(extractor="opensmile_ldd"),
        "c.d": StreamRequest(extractor="face_descriptors", parameters={"rate": -1}),
    }
    with pytest.raises(InputError) as caught:
        run(made, tmp_path, requests=requests)
    assert len(caught.value.problems) == 2
    assert "Did you mean 'opensmile_lld'?" in str(caught.value)
    assert not (tmp_path / "cache").exists()


def test_a_stream_that_nothing_can_be_made_of_is_an_error(tmp_path: Path):
    (tmp_path / "x.mp4").write_text("no")
    table = make_table(
        [{"utterance_id": "u", "corpus": "m", "split": "train", "dialogue": "d", "turn": 0, "media": "x.mp4"}]
    )
    with pytest.raises(InputError, match="no clip could be read"):
        run((tmp_path, table), tmp_path, requests={"vision.frames": REQUESTS["vision.frames"]})


def test_one_recording_without_permission_is_set_aside(made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Whoever runs the tests may be root, to whom nothing is forbidden: the refusals are made here."""
    closed, plain = str(made[0] / "c8.mp4"), Path.stat

    def refusing(path: Path, **options: Any) -> os.stat_result:
        if str(path) == closed:
            raise PermissionError(errno.EACCES, "Permission denied", closed)
        return plain(path, **options)

    # As in a folder that may not be entered; of a file that may not be opened see test_cache.py.
    monkeypatch.setattr(Path, "stat", refusing)
    requests = {"audio.functionals": REQUESTS["audio.functionals"]}
    streams, aside = run(made, tmp_path, requests=requests)
    reasons = dict(zip(aside["utterance_id"], aside["reason"], strict=True))
    assert set(reasons) == {"u4", "u5", "u8"}
    assert "Permission denied" in reasons["u8"]
    assert len(streams["audio.functionals"].ragged["u9"])


def test_a_full_disk_is_no_fault_of_the_clips(made, monkeypatch: pytest.MonkeyPatch):
    extractor = find_extractor("opensmile_functionals", {})

    def full(self: Any, clip: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(extractor), "extract_clip", full)
    clips = clips_of(made[1], made[0])[:2]
    task = Task(extractor.name, "{}", tuple(clips), ("a", "b"))
    with pytest.raises(InputError, match="the disk is full"):
        list(HerePool(extractor).run([task]))


def test_a_run_that_is_stopped_leaves_no_worker_behind(made):
    clips = clips_of(made[1], made[0])
    tasks = [Task("opensmile_functionals", "{}", (clip,), (clip.utterance_id,)) for clip in clips]
    pool = ProcessPool(2)
    outcomes = pool.run(tasks)
    next(outcomes)
    workers = [psutil.Process(pid) for pid in pool._pool._processes]
    assert workers
    with pytest.raises(KeyboardInterrupt):
        outcomes.throw(KeyboardInterrupt())
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive


def test_a_clip_that_kills_its_worker_is_given_up_after_three_times(made):
    root, table = made
    clips = tuple(clips_of(table, root)[:3])
    task = Task("opensmile_lld", "{}", clips, ("a", "b", "c"))
    outcome, again = after_death(task, MemoryError())
    assert outcome is None
    assert [one.keys for one in again] == [("a",), ("b",), ("c",)]
    attempts = 0
    while outcome is None:
        attempts += 1
        outcome, again = after_death(again[0], MemoryError())
    assert attempts == 3
    assert "died 3 times" in outcome.failures["a"]


def test_processes_survive_the_death_of_a_worker(made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root, table = made
    marker = tmp_path / "dead"
    pool = ProcessPool(2)
    clips = [clip for clip in clips_of(table, root) if clip.utterance_id not in {"u4", "u5"}]
    tasks = [Task("opensmile_functionals", "{}", (clip,), (clip.utterance_id,)) for clip in clips]
    executor = pool._executor()
    executor.submit(os.kill, os.getpid(), 0).result()
    killed = executor.submit(_die_once, str(marker))
    outcomes = list(pool.run(tasks))
    assert killed.exception() is not None
    assert sorted(key for outcome in outcomes for key in outcome.values) == sorted(c.utterance_id for c in clips)


def _die_once(marker: str) -> None:
    Path(marker).write_text("x")
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("features", ["eGeMAPSv02", "emobase"])
def test_one_pass_of_opensmile_gives_descriptors_and_functionals_as_two_do(features: str):
    frames, functionals = (
        find_extractor(name, {"features": features}) for name in ("opensmile_lld", "opensmile_functionals")
    )
    assert frames.makes_too(functionals)
    assert functionals.makes_too(frames)
    assert not frames.makes_too(frames)
    assert not find_extractor("opensmile_lld", {"features": features, "deltas": True}).makes_too(functionals)
    tone = np.sin(np.arange(16_000) * 0.1).astype(np.float32) * np.linspace(0.1, 0.9, 16_000, dtype=np.float32)
    for samples in (tone, tone[:600], np.zeros(8_000, np.float32)):
        clip = Clip("u", recorded=samples)
        both = frames.extract_both(clip, functionals)
        assert np.array_equal(both[0], frames.extract_clip(clip))
        assert np.array_equal(both[1], functionals.extract_clip(clip))
    other = functionals.extract_both(Clip("u", recorded=tone), frames)
    assert np.array_equal(other[0], functionals.extract_clip(Clip("u", recorded=tone)))


def test_the_partner_of_a_pass_is_not_made_again(tmp_path: Path):
    clips = [Clip(f"u{n}", recorded=np.sin(np.arange(8_000) * (0.05 + n / 50)).astype(np.float32)) for n in range(3)]
    wanted = {
        "audio.frames": StreamRequest(extractor="opensmile_lld"),
        "audio.functionals": StreamRequest(extractor="opensmile_functionals"),
    }
    extractor = find_extractor("opensmile_functionals")
    made, _ = extract_streams(clips, {"audio.frames": wanted["audio.frames"]}, tmp_path / "alone", tmp_path / "a", 1)
    assert len(ShardCache.of(tmp_path / "alone", extractor, extractor.provenance())) == 0
    both, _ = extract_streams(clips, wanted, tmp_path / "cache", tmp_path / "b", 1, progress=False)
    assert len(ShardCache.of(tmp_path / "cache", extractor, extractor.provenance())) == 3
    assert np.array_equal(both["audio.frames"].ragged["u1"], made["audio.frames"].ragged["u1"])
    assert np.array_equal(both["audio.functionals"].ragged["u2"], extractor.extract_clip(clips[2]))
