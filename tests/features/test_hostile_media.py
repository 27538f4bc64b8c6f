"""Files that are no recordings but would have something opened, listened to, allotted or waited for."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import time
import wave
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

from demeanor.data.names import MEDIA_SUFFIXES
from demeanor.features import limits, media
from demeanor.features.limits import FORMATS, SUFFIXES, Limits
from demeanor.features.media import MediaError, decode_frames, probe
from demeanor.features.sound import decode_audio
from tests.features.media_samples import faces, surveyed, tone, voice, write_pieces, write_recording, write_tracks
from tests.parity.golden import PROJECT


@pytest.fixture
def ports() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Listeners on localhost, TCP and UDP, that nothing may reach."""
    with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        for listener in (stream, datagrams):
            listener.bind(("127.0.0.1", 0))
            listener.setblocking(False)
        stream.listen()
        yield stream, datagrams


def udp_sockets() -> set[str]:
    """Of this process, by the kernel's table."""
    mine = {os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if fd.isdigit() and _open(fd)}
    lines = [
        line.split() for name in ("udp", "udp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    return {fields[1] for fields in lines if f"socket:[{fields[9]}]" in mine}


def _open(fd: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}")


def pointers(port: int, free: int, target: Path) -> dict[str, bytes]:
    """Suffix -> what points elsewhere: to a port of this machine, or to a file that is there."""
    address = f"http://127.0.0.1:{port}/a.ts"
    return {
        "sdp": b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
               + f"m=audio {free} RTP/AVP 0\r\n".encode(),
        "m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{address}\n#EXT-X-ENDLIST\n".encode(),
        "m3u": f"#EXTM3U\n#EXTINF:5,\nfile://{target}\n#EXT-X-ENDLIST\n".encode(),
        "pls": f"[playlist]\nFile1={address}\n".encode(),
        "concat": f"ffconcat version 1.0\nfile '{target}'\n".encode(),
        "ffconcat": f"ffconcat version 1.0\nfile '{address}'\n".encode(),
        "mpd": b'<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
               b'mediaPresentationDuration="PT5S" profiles="urn:mpeg:dash:profile:isoff-live:2011"><Period>'
               b'<AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>'
               + address.encode() + b"</BaseURL></Representation></AdaptationSet></Period></MPD>",
        "asx": f'<asx version="3.0"><entry><ref href="{address}"/></entry></asx>'.encode(),
        "txt": f"rtsp://127.0.0.1:{port}/x\n".encode(),
        "graph": b"movie=" + str(target).encode(),
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["sdp", "m3u8", "m3u", "pls", "concat", "ffconcat", "mpd", "asx", "txt", "graph"])
def test_what_points_elsewhere_is_refused_and_reaches_nothing(tmp_path: Path, kind: str, ports):
    stream, datagrams = ports
    target = write_recording(tmp_path / "target.wav", voice(0.5), audio_codec="pcm_s16le")
    before = udp_sockets()
    content = pointers(stream.getsockname()[1], datagrams.getsockname()[1] + 1, target)[kind]
    for suffix in (kind, "mp4", "ts"):
        path = tmp_path / f"x.{suffix}"
        path.write_bytes(content)
        for source in (path, content):
            for read in (probe, decode_audio, lambda source: list(decode_frames(source))):
                with pytest.raises(MediaError, match="not a readable recording") as caught:
                    read(source)
                assert "\n" not in str(caught.value)
    assert udp_sockets() <= before
    with pytest.raises(BlockingIOError):
        stream.accept()
    with pytest.raises(BlockingIOError):
        datagrams.recv(1)


def test_a_name_is_never_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ports):
    monkeypatch.chdir(tmp_path)
    port = ports[0].getsockname()[1]
    place = Path(f"http:/127.0.0.1:{port}")
    place.mkdir(parents=True)
    for name in (f"http:/127.0.0.1:{port}/a.wav", "concat:a|b.wav", "x%03d.wav", "lavfi.wav"):
        write_recording(Path("plain.wav"), tone(250, 0.5), audio_codec="pcm_s16le").rename(name)
        assert len(decode_audio(name)) == 8000
    with pytest.raises(BlockingIOError):
        ports[0].accept()
    with pytest.raises(MediaError, match="not a file"):
        decode_audio("/dev/zero")


def test_pictures_are_no_recordings(tmp_path: Path):
    import cv2

    for suffix in ("jpg", "png"):
        path = tmp_path / f"x.{suffix}"
        cv2.imwrite(str(path), faces(1)[0])
        for source in (path, path.read_bytes()):
            with pytest.raises(MediaError, match="not a readable recording"):
                probe(source)


def test_tracks_that_lie_in_another_file_are_refused(tmp_path: Path):
    content = bytearray(write_recording(tmp_path / "v.mov", voice(1.0), faces(10)).read_bytes())
    place = content.index(b"dref")
    entry = place + 12
    assert content[entry : entry + 4] == struct.pack(">I", 12)
    outside = b"url \0\0\0\0file:///etc/hostname\0"
    # The entry grows; a box that is skipped gives the bytes back, so that no other place moves.
    spare = content.index(b"free") - 4 if b"free" in content[:200] else None
    longer = struct.pack(">I", 4 + len(outside)) + outside
    grown = content[:entry] + longer + content[entry + 12 :]
    for name in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        box = grown.rindex(name, 0, entry) - 4
        size = int.from_bytes(grown[box : box + 4], "big") + len(longer) - 12
        grown[box : box + 4] = struct.pack(">I", size)
    assert spare is None or spare < box
    for source in (bytes(grown), tmp_path / "w.mov"):
        (tmp_path / "w.mov").write_bytes(bytes(grown))
        with pytest.raises(MediaError, match="another file, which is not opened"):
            decode_audio(source)


def test_an_index_of_more_frames_than_can_be_is_refused_before_it_is_built(tmp_path: Path):
    content = bytearray(write_recording(tmp_path / "v.mp4", voice(1.0)).read_bytes())
    place = content.index(b"stsz")
    content[place + 8 : place + 16] = struct.pack(">II", 1, 400_000_000)
    with pytest.raises(MediaError, match="declares 400000000 frames"):
        probe(bytes(content))


def test_limits_of_pixels_tracks_length_and_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    film = write_recording(tmp_path / "v.mkv", voice(3.0), faces(30))
    tracks = write_tracks(tmp_path / "t.mkv", [(None, False, tone(250, 0.2))] * 5)
    for module in ("media", "sound", "structure"):
        monkeypatch.setattr(f"demeanor.features.{module}.LIMITS", Limits(pixels=96 * 95))
    with pytest.raises(MediaError, match="96 x 96 pixels, more than the 9120"):
        list(decode_frames(film))
    monkeypatch.setattr(media, "LIMITS", Limits(streams=4))
    with pytest.raises(MediaError, match="5 tracks, more than the 4"):
        probe(tracks)
    monkeypatch.setattr(media, "LIMITS", Limits(frames=20))
    with pytest.raises(MediaError, match="more than 20 frames"):
        list(decode_frames(film))
    monkeypatch.setattr(media, "LIMITS", Limits(grace=0.0, pace=0.0))
    with pytest.raises(MediaError, match="takes too long"):
        decode_audio(film)
    monkeypatch.setattr(media, "LIMITS", limits.LIMITS)
    monkeypatch.setattr("demeanor.features.sound.LIMITS", Limits(seconds=1.0))
    long = write_recording(tmp_path / "l.flac", voice(40.0), audio_codec="flac")
    monkeypatch.setattr("demeanor.features.sound._guess", lambda *_: 16_000)
    with pytest.raises(MediaError, match="cut it by start and end"):
        decode_audio(long)
    assert len(decode_audio(long, 10.0, 10.5)) == 8000


def test_a_picture_that_grows_on_the_way_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    small = write_recording(tmp_path / "a.h264", None, faces(5, 64))
    large = write_recording(tmp_path / "b.h264", None, faces(5, 256))
    joined = tmp_path / "c.h264"
    joined.write_bytes(small.read_bytes() + large.read_bytes())
    assert {image.shape[0] for _, image in decode_frames(joined)} == {64, 256}
    monkeypatch.setattr(media, "LIMITS", Limits(pixels=100 * 100))
    shapes = []
    with suppress(MediaError):  # as damaged, where so many packets failed
        shapes += [image.shape[0] for _, image in decode_frames(joined)]
    assert set(shapes) <= {64}


def test_a_jump_of_days_is_a_clock_set_anew_and_no_silence_of_days(tmp_path: Path):
    path = write_pieces(tmp_path / "v.mkv", [(0, tone(250, 1.0)), (400_000, tone(1000, 1.0))], codec="pcm_s16le")
    assert len(decode_audio(path)) == pytest.approx(32_000, abs=100)


def test_gaps_that_add_up_are_refused_before_their_silence_is_made(tmp_path: Path, monkeypatch):
    assert limits.LIMITS.gaps == 4 * 3600 < limits.LIMITS.seconds
    monkeypatch.setattr("demeanor.features.sound.LIMITS", Limits(gaps=3600.0))
    path = write_pieces(tmp_path / "v.mkv", [(1000.0 * n, tone(250, 0.1)) for n in range(8)], codec="pcm_s16le")
    assert len(decode_audio(path, 1000.0, 1010.0)) == 160_000
    for hear in (surveyed, decode_audio):
        with pytest.raises(MediaError, match="more than 1 h without sound"):
            hear(path)


def test_a_few_pictures_that_claim_hours_are_refused(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(media, "LIMITS", Limits(gaps=3600.0))
    times = [1000.0 * n for n in range(6)]
    path = write_recording(tmp_path / "v.mkv", None, faces(6), times=times)
    assert len(list(decode_frames(path, end=3000.0, rate=0.01))) == 30
    with pytest.raises(MediaError, match="more than 1 h without a picture"):
        list(decode_frames(path, rate=0.01))


def test_waiting_is_not_decoding(monkeypatch: pytest.MonkeyPatch):
    """A machine that does other things meanwhile takes longer by the clock, and nothing is wrong with the file."""

    class Slow:
        stream = SimpleNamespace(codec_context=SimpleNamespace(), type="audio")

        def demux(self, _: object) -> Iterator[object]:
            for _ in range(3):
                yield SimpleNamespace(decode=lambda: [time.sleep(0.1), SimpleNamespace(time=0.0)][1:])

    monkeypatch.setattr(media, "LIMITS", Limits(grace=0.2, pace=0.0))
    assert len(list(media.decoded(Slow(), Slow.stream, "v"))) == 3


@pytest.mark.parametrize("length", [None, 0.001])
def test_a_film_that_lies_about_its_length_is_not_searched_whole(tmp_path: Path, monkeypatch, length):
    import demeanor.features.faces
    from demeanor.pipelines.ingestion.nodes import MOST_FRAMES, probe_one

    searched: list[object] = []
    monkeypatch.setattr(demeanor.features.faces, "find_face", searched.append)
    monkeypatch.setattr(media, "described", lambda *_: media.MediaInfo(length, False, True))
    film = write_recording(tmp_path / "v.mkv", None, faces(80), frame_rate=1)
    assert probe_one(film).face is False
    assert 0 < len(searched) <= MOST_FRAMES


def test_every_format_is_known_to_the_library_and_every_suffix_is_lower_case():
    known = {part for name in av.formats_available for part in name.split(",")}
    missing = {name for name in FORMATS if not set(name.split(",")) & known}
    assert not missing
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in SUFFIXES)
    assert len(set(SUFFIXES)) == len(SUFFIXES)
    assert sorted(SUFFIXES) == sorted(MEDIA_SUFFIXES), "a folder is searched for what is opened"


GROWTH = """
import re, sys
from pathlib import Path
from demeanor.features.sound import decode_audio
def highest():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text()).group(1))
decode_audio(sys.argv[1], 0.0, 1.0)
before = highest()
samples = decode_audio(sys.argv[1])
print(len(samples), highest() - before)
"""


def test_ten_minutes_are_held_once(tmp_path: Path):
    path = tmp_path / "long.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        for _ in range(10):
            file.writeframes((voice(60.0, 8000) * 32767).astype(np.int16).tobytes())
    # A process of its own: the highest memory of this one was reached long ago.
    result = subprocess.run(
        [sys.executable, "-c", GROWTH, str(path)], capture_output=True, text=True, check=True, cwd=PROJECT
    )
    count, grown = map(int, result.stdout.split())
    assert count == 9_600_000
    assert 0.9 * 4 * count < grown < 1.3 * 4 * count
