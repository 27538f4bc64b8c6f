"""Tar files of recordings, on disk and behind an address: nothing is unpacked, values are those of plain files."""

from __future__ import annotations

import io
import json
import re
import tarfile
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from demeanor.corpora.base import Corpus, CorpusSettings
from demeanor.corpora.doctor import examine
from demeanor.corpora.guessing import settings_for
from demeanor.corpora.shards import shards_of
from demeanor.data.errors import InputError
from demeanor.data.remote import RemoteError, RemoteFile
from demeanor.features.clips import clips_of
from demeanor.features.engine import StreamRequest, extract_streams
from demeanor.pipelines.ingestion.nodes import probe_media
from tests.features.media_samples import faces, voice, write_recording

SHARDS, CLIPS = 2, 3
STREAMS = {"audio.waveform": StreamRequest(extractor="waveform")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six clips in two tar files, with words, JSON, and a file that is nobody's."""
    place = tmp_path_factory.mktemp("shards")
    for shard in range(SHARDS):
        with tarfile.open(place / f"clips-{shard:03d}.tar", "w") as archive:
            for n in range(CLIPS):
                key = f"{shard}_{n:02d}"
                film = write_recording(place / f"{key}.mp4", voice(0.6, pitch=100 + 10 * n + shard), faces(6))
                archive.add(film, f"clips/{key}.mp4")
                told = {"sentiment": n - 1.0, "split": ("train", "valid", "test")[n], "speaker": f"s{n}", "boxes": [1]}
                add(archive, f"clips/{key}.json", json.dumps(told).encode())
                add(archive, f"clips/{key}.txt", f"Clip {n}, schön.".encode("cp1252" if n else "utf-8"))
            add(archive, "clips/README", b"nobody's")
    return place


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


class Ranges(SimpleHTTPRequestHandler):
    """A static server that gives parts of files, as every store does; counts the bytes that it gave."""

    given = 0
    root = ""

    def do_GET(self) -> None:
        content = (Path(self.root) / self.path.lstrip("/")).read_bytes()
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start, stop = (int(asked[1]), int(asked[2] or len(content) - 1) + 1) if asked else (0, len(content))
        part = content[start:stop]
        type(self).given += len(part)
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{len(content)}"')
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{start + len(part) - 1}/{len(content)}")
        self.end_headers()
        self.wfile.write(part)

    def do_HEAD(self) -> None:
        path = Path(self.root) / self.path.lstrip("/")
        self.send_response(200 if path.is_file() else 404)
        if path.is_file():
            self.send_header("Content-Length", str(path.stat().st_size))
            self.send_header("Accept-Ranges", "bytes")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def address(folder: Path) -> Iterator[str]:
    Ranges.root, Ranges.given = str(folder), 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Ranges)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/clips-{{000..001}}.tar"
    server.shutdown()
    server.server_close()


def read(path: str, output: Path) -> Corpus:
    return CorpusSettings(reader="shards", options={"path": path}).read(output)


def test_members_of_tar_files_are_utterances(folder: Path, tmp_path: Path) -> None:
    corpus = read(str(folder / "clips-{000..001}.tar"), tmp_path)
    assert corpus.utterances["utterance_id"].tolist() == [f"clips_{s}_{n:02d}" for s in (0, 1) for n in range(CLIPS)]
    assert corpus.counts == {"train": 2, "valid": 2, "test": 2}
    assert corpus.utterances["text"].tolist() == ["Clip 0, schön.", "Clip 1, schön.", "Clip 2, schön."] * 2
    assert corpus.utterances["sentiment"].tolist() == [-1.0, 0.0, 1.0] * 2
    assert "boxes" not in corpus.utterances
    probes = probe_media(corpus)
    assert all(probe.has_audio and probe.has_video and not probe.error for probe in probes.values())
    report = examine(corpus, probes=probes)
    assert not [finding for finding in report.findings if finding.severity == "error"]
    assert settings_for(folder / "clips-000.tar", None, None, {}).reader == "shards"


@pytest.mark.parametrize("workers", [1, 2])
def test_features_are_those_of_plain_files_wherever_the_tar_files_lie(
    folder: Path, address: str, tmp_path: Path, workers: int
) -> None:
    def waveforms(path: str) -> dict[str, np.ndarray]:
        corpus = read(path, tmp_path)
        clips = clips_of(corpus.utterances, corpus.root)
        made, aside = extract_streams(
            clips, STREAMS, tmp_path / f"{path[:4]}_cache", tmp_path / f"{path[:4]}_out", workers, progress=False
        )
        assert aside.empty
        ragged = made["audio.waveform"].ragged
        return {name: np.array(ragged[name]) for name in ragged.ids}

    near, far = waveforms(str(folder / "clips-{000..001}.tar")), waveforms(address)
    plain = {f"clips_{path.stem}": path for path in sorted(folder.glob("*.mp4"))}
    assert list(near) == list(far) == list(plain)
    from demeanor.features.base import Clip, to_int16

    for name, path in plain.items():
        waveform = Clip(name, media=path).waveform
        assert waveform is not None
        np.testing.assert_array_equal(near[name][:, 0], to_int16(waveform))
        np.testing.assert_array_equal(far[name], near[name])


def test_a_recording_of_a_manifest_may_lie_at_an_address(folder: Path, address: str, tmp_path: Path) -> None:
    whole = f"{address.rpartition('/')[0]}/0_00.mp4"
    (tmp_path / "manifest.csv").write_text(f"id,video,text\na,{whole},well\nb,,well\n", encoding="utf-8")
    options = {"path": str(tmp_path)}
    refused = CorpusSettings(reader="folder", options=options).read(tmp_path)
    assert dict(refused.set_aside) == {"a": "recording lies at an address"}
    assert Ranges.given == 0
    fetched = CorpusSettings(reader="folder", options={**options, "remote": True}).read(tmp_path)
    clip, _ = clips_of(fetched.utterances, fetched.root)
    assert clip.waveform is not None
    assert len(list(clip.frames())) == 6
    waveform = RemoteFile(whole).read()
    assert waveform == (folder / "0_00.mp4").read_bytes()
    with pytest.raises(RemoteError, match=r"http://127.*gone\.mp4: cannot be read"):
        RemoteFile(whole.replace("0_00", "gone")).read()
    assert "secret" not in RemoteFile(whole.replace("http://", "http://me:secret@")).label


def test_what_is_wrong_is_said_all_at_once(folder: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a-0.tar", "w") as archive:
        add(archive, "1.mp4", b"x")
        add(archive, "1.mov", b"y")
        add(archive, "1.json", b"[1]")
        add(archive, "2.json", b"{")
    (tmp_path / "a-1.tar").write_bytes(b"no tar file")
    with pytest.raises(InputError) as caught:
        read(str(tmp_path / "a-{0..2}.tar"), tmp_path)
    said = " ".join(caught.value.problems)
    for part in ("has a second video", "not an object", "no JSON", "not a readable tar file", "no such file"):
        assert part in said
    assert shards_of("s3://b/x-{08..11}.tar") == [f"s3://b/x-{n:02d}.tar" for n in (8, 9, 10, 11)]
    with pytest.raises(InputError, match="backwards"):
        shards_of("x-{5..2}.tar")
    with pytest.raises(InputError, match="at most"):
        shards_of("x-{000..999}-{000..999}.tar")


def test_an_utterance_may_lie_in_two_files_but_has_one_sound(tmp_path: Path):
    sound = write_recording(tmp_path / "a.wav", voice(0.3), audio_codec="pcm_s16le").read_bytes()
    for name, members in (("words", {"a.txt": b"hello", "b.txt": b"there"}), ("sounds", {"a.wav": sound})):
        with tarfile.open(tmp_path / f"{name}.tar", "w") as archive:
            for member, content in members.items():
                add(archive, member, content)
    with tarfile.open(tmp_path / "more.tar", "w") as archive:
        add(archive, "a.flac", sound)
    (tmp_path / "0.tar").symlink_to(tmp_path / "words.tar")
    (tmp_path / "1.tar").symlink_to(tmp_path / "sounds.tar")
    (tmp_path / "2.tar").symlink_to(tmp_path / "more.tar")

    def read(pattern: str) -> Corpus:
        return CorpusSettings(reader="shards", options={"path": str(tmp_path / pattern)}).read(tmp_path / "out")

    table = read("{0..1}.tar").utterances.set_index("utterance_id")
    assert table["text"].to_dict() == {"a": "hello", "b": "there"}
    assert table.loc["a", "media"].startswith((tmp_path / "1.tar").as_uri() + "#a.wav;")
    assert pd.isna(table.loc["b", "media"])
    with pytest.raises(InputError, match="utterance a has a second audio"):
        read("{0..2}.tar")
