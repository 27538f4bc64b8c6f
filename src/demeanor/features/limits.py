"""What is opened as a recording, and how much of it: one list of formats and one set of numbers.

A recording comes from anybody, so nothing is opened but the containers named here, by FFmpeg's own `format_whitelist`,
which is looked at after a file's kind was recognised and before its reader is started. Whatever points elsewhere is
not among them: playlists (HLS, DASH, concat), session descriptions (SDP, which would listen on a port), image
sequences, devices and filters.
"""

from __future__ import annotations

from dataclasses import dataclass

#: FFmpeg's name of a container or bare stream -> suffixes under which people keep it.
FORMATS: dict[str, tuple[str, ...]] = {
    "mov,mp4,m4a,3gp,3g2,mj2": (
        ".mp4", ".mov", ".m4v", ".m4a", ".m4b", ".3gp", ".3g2", ".3gpp", ".3ga", ".mj2", ".qt", ".f4v", ".f4a",
        ".ismv",
    ),
    "matroska,webm": (".mkv", ".webm", ".mka", ".mk3d", ".weba"),
    "avi": (".avi", ".divx"), "flv": (".flv",), "live_flv": (),
    "asf": (".wmv", ".wma", ".asf"), "mpegts": (".ts", ".mts", ".m2ts", ".m2t"),
    "mpeg": (".mpg", ".mpeg", ".mpe", ".vob"),
    "mpegvideo": (".m1v", ".m2v", ".mpv"), "m4v": (), "h264": (".h264", ".264"), "hevc": (".hevc", ".h265", ".265"),
    "av1": (), "obu": (".obu",), "ivf": (".ivf",), "yuv4mpegpipe": (".y4m",), "dv": (".dv",), "mxf": (".mxf",),
    "nut": (".nut",), "rm": (".rm", ".rmvb", ".ra"), "ogg": (".ogg", ".oga", ".ogv", ".ogm", ".opus", ".spx"),
    "wav": (".wav", ".wave", ".rf64"), "w64": (".w64",), "mp3": (".mp3", ".mp2", ".mpa", ".mpga"),
    "aac": (".aac", ".adts"),
    "loas": (".loas", ".latm"), "flac": (".flac",), "aiff": (".aif", ".aiff", ".aifc"), "au": (".au", ".snd"),
    "caf": (".caf",), "amr": (".amr", ".awb"), "amrnb": (), "amrwb": (), "ac3": (".ac3",), "eac3": (".eac3", ".ec3"),
    "dts": (".dts",), "dtshd": (), "truehd": (".thd",), "mlp": (".mlp",), "wv": (".wv",), "ape": (".ape",),
    "tta": (".tta",), "tak": (".tak",), "mpc": (".mpc",), "mpc8": (), "gsm": (".gsm",), "voc": (".voc",),
    "qcp": (".qcp",), "dss": (".dss", ".ds2"), "oma": (".oma", ".aa3"), "nistsphere": (".sph", ".nist"),
    "wtv": (".wtv",), "dhav": (".dav",), "shn": (".shn",),
}  # fmt: skip
#: Of these, what carries times of its own; in all others a frame starts where the one before it ends. Ogg counts
#: samples: after a change of their rate its times are none.
TIMED = frozenset(
    {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "flv", "live_flv", "asf", "mpegts", "mpeg", "mxf", "nut", "rm"}
)  # fmt: skip
#: Suffixes that a folder is searched for.
SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
#: FFmpeg's names, as its option wants them.
FORMAT_LIST = ",".join(FORMATS)


@dataclass(frozen=True)
class Limits:
    """
    pixels     of one picture as stored: 8K (7680 x 4320) and a fifth; one as RGB takes 120 MB
    streams    tracks of one file: a film with fifty languages has about as many
    channels   of one sound track: the largest arrays of microphones in use
    frames     that one pass over a track decodes, and that the index of an mp4 declares: a day of 120 pictures a
               second; FFmpeg allots 24 bytes for each before a single one is read
    seconds    of sound held in one piece, 1.4 GB as float32 at 16 kHz; longer recordings are cut by `start` and `end`
    gap        seconds without sound that timestamps may leave; a jump beyond it is a clock that was set anew
    opening    seconds of wall clock for opening a file and finding out what it holds
    gaps       seconds without sound, or without a new picture for a minute and more, that all gaps of a recording may
               leave: half a working day
    grace      seconds of one processor for decoding, and
    pace       as many more for each second of the recording that came out: a twentieth of real time
    patience   seconds of one processor for one pass over a recording, whatever it holds
    """

    pixels: int = 40_000_000
    streams: int = 100
    channels: int = 64
    frames: int = 10_400_000
    seconds: float = 6 * 3600.0
    gap: float = 3600.0
    gaps: float = 4 * 3600.0
    opening: float = 20.0
    grace: float = 30.0
    pace: float = 20.0
    patience: float = 3600.0


LIMITS = Limits()
