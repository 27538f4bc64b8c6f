"""OpenFace 2 tables (Baltrusaitis et al., 2018): action units, gaze and head pose from CSV files beside the clips.

A table that has several faces (FaceLandmarkVidMulti writes one row per face and frame) gives one of them: the one that
OpenFace was sure of most often, then most sure of, then the first. A frame is one step, whether that face is in it or
not.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from demeanor.data.delimited import read_delimited
from demeanor.data.errors import InputError
from demeanor.data.files import sha256_of_file
from demeanor.data.names import Index
from demeanor.data.places import anchored
from demeanor.data.provenance import Provenance
from demeanor.data.settings import Settings
from demeanor.features.base import Clip, ExtractionError, Extractor

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

_UNITS = ("01", "02", "04", "05", "06", "07", "09", "10", "12", "14", "15", "17", "20", "23", "25", "26", "45")
COLUMNS: tuple[str, ...] = (
    *(f"AU{unit}_r" for unit in _UNITS),
    *(f"AU{unit}_c" for unit in (*_UNITS[:-1], "28", _UNITS[-1])),
    *(f"gaze_{eye}_{axis}" for eye in (0, 1) for axis in "xyz"),
    *("gaze_angle_x", "gaze_angle_y", "pose_Tx", "pose_Ty", "pose_Tz", "pose_Rx", "pose_Ry", "pose_Rz"),
    "confidence",
)


#: Columns that are read, of some seven hundred.
READ = frozenset((*COLUMNS, "frame", "face_id", "timestamp", "success"))
MOST_TABLE_BYTES = 1 << 30
"""bytes of a table: 1 GiB, two hours of film with all landmarks"""


class OpenFaceSettings(Settings):
    """`folder` of the tables: a clip's is `<name of its media file>.csv` in it or, without one, beside the media.

    Rows that OpenFace was not sure of (success 0, or confidence below `least_confidence`) are zeros. `face` is the
    `face_id` to read from all tables that have several; None takes the surest of each.
    """

    folder: str | None = None
    rate: float | None = Field(default=None, gt=0, description="frames per second of the videos, if all have one")
    least_confidence: float = Field(default=0.5, ge=0, le=1)
    face: int | None = None


class OpenFaceTables(Extractor):
    """`vision.frames`: action units (intensity 0-5, presence), gaze (unit vectors, radians), head pose (mm, radians)
    and confidence, [T, 50] float32, one step per frame of the table. Absent where there is no table."""

    name = "openface_csv"
    stream = "vision.frames"
    reads = frozenset({"video"})
    unit = "frame"
    licence = "OpenFace: academic, non-commercial research"
    batched = True
    settings_type: ClassVar[type[Settings]] = OpenFaceSettings

    @property
    def version(self) -> str:
        return "OpenFace 2 tables, 2"

    @property
    def dimension(self) -> int:
        return len(COLUMNS)

    @property
    def rate(self) -> float | None:
        return self.settings.rate

    @property
    def names(self) -> list[str]:
        """Name of the columns, in their order."""
        return list(COLUMNS)

    def provenance(self) -> Provenance:
        """As every extractor's, but not to be made from a recording: another program wrote the tables."""
        return (
            super()
            .provenance()
            .model_copy(
                update={
                    "recomputable": False,
                    "notes": "OpenFace's own program makes these tables, Demeanor reads them",
                }
            )
        )

    def table_of(self, clip: Clip) -> Path | None:
        """The table of a clip's recording, None where there is none. ExtractionError where several could be meant."""
        if not isinstance(clip.media, Path):
            return None
        folder = anchored(self.settings.folder) if self.settings.folder else clip.media.parent
        if not folder.is_dir():
            return None
        index, files = _tables_in(folder, folder.stat().st_mtime_ns)
        matches = index.matching(clip.media.stem)
        if len(matches) > 1:
            raise ExtractionError(f"{folder}: several tables could be meant: {', '.join(matches[:3])}")
        return folder / files[matches[0]] if matches else None

    def companion(self, clip: Clip) -> str:
        try:
            path = self.table_of(clip)
        except ExtractionError:  # told when the clip is read
            return "ambiguous"
        return "" if path is None else sha256_of_file(path)

    def extract(self, clips: Any) -> list[np.ndarray]:
        several: list[str] = []
        made = [self._steps(clip, several) for clip in clips]
        self._tell(several)
        return made

    def extract_clip(self, clip: Clip) -> np.ndarray:
        return self.extract([clip])[0]

    def _tell(self, several: list[str]) -> None:
        if several:
            which = "the surest" if self.settings.face is None else f"face {self.settings.face}"
            logger.warning(
                "several_faces: %d tables hold several faces, for example %s: one each, %s, is read",
                len(several), several[0], which,
            )  # fmt: skip

    def _steps(self, clip: Clip, several: list[str]) -> np.ndarray:
        path = self.table_of(clip)
        if path is None:
            return self.absent
        table = _numbers(path)
        missing = [name for name in (*COLUMNS, "timestamp", "success") if name not in table]
        if missing:
            listed = ", ".join(missing[:5])
            raise ExtractionError(f"{path}: {len(missing)} columns of OpenFace 2 are missing, for example {listed}")
        times = table["timestamp"].to_numpy(float)
        inside = (times >= clip.start - 1e-6) & (times < (np.inf if clip.end is None else clip.end))
        table = table[inside]
        least = self.settings.least_confidence
        table = table.assign(sure=(table["success"] > 0) & (table["confidence"] >= least))
        table, faces = one_face(table, self.settings.face)
        if faces > 1:
            several.append(path.name)
        values = table[list(COLUMNS)].to_numpy(dtype=np.float32, copy=True)
        values[~table["sure"].to_numpy(bool)] = 0.0
        return np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)


def one_face(table: pd.DataFrame, wanted: int | None = None) -> tuple[pd.DataFrame, int]:
    """One row per frame, in order of time, and how many faces the table has.

    `table` has timestamp, confidence and sure, and where OpenFace numbered them `frame` and `face_id`. In frames
    without the chosen face the row stays, but is not sure.
    """
    import pandas as pd

    if table.empty:
        return table, 0
    key = "frame" if "frame" in table and table["frame"].notna().all() else "timestamp"
    if "face_id" in table and (wanted is not None or table["face_id"].nunique() > 1):
        faces = table.groupby("face_id").agg(sure=("sure", "sum"), confidence=("confidence", "mean"))
        order = faces.sort_values(["sure", "confidence"], ascending=False, kind="stable")
        chosen = order.index[0] if wanted is None else wanted
        count = len(faces)
        mine = table["face_id"] == chosen
    else:
        count = int(table[key].value_counts().iloc[0])
        mine = pd.Series(True, index=table.index)
    # Of several rows of one frame: that of the face, then a sure one, then the surest.
    ranked = table.assign(mine=mine, sure=table["sure"] & mine).sort_values(
        [key, "mine", "sure", "confidence"], ascending=[True, False, False, False], kind="stable"
    )
    return ranked.drop_duplicates(key), count


def faces_in(path: Path) -> int:
    """How many faces a table has; 0 for a file that is no table of OpenFace."""
    try:
        table = _numbers(path)
    except ExtractionError:
        return 0
    if not {"timestamp", "success", "confidence"} <= set(table):
        return 0
    return one_face(table.assign(sure=table["success"] > 0))[1]


def _numbers(path: Path) -> pd.DataFrame:
    """The table with every cell a number, NaN where it is none."""
    import pandas as pd

    try:
        table = read_delimited(path, READ, most_bytes=MOST_TABLE_BYTES, only=READ)
    except (InputError, OSError) as error:
        raise ExtractionError(f"{path}: not a readable table ({error})") from None
    rows = pd.DataFrame(table.records, columns=table.names, dtype=object)
    decimal = table.separator != ","
    return pd.DataFrame({name: _column(rows[name], decimal) for name in rows})


def _column(cells: pd.Series, decimal_comma: bool) -> pd.Series:
    import pandas as pd

    text = cells.astype(str).str.strip()
    if decimal_comma:
        text = text.str.replace(",", ".", regex=False)
    return pd.to_numeric(text, errors="coerce").astype(float)


@lru_cache(maxsize=64)
def _tables_in(folder: Path, modified: int) -> tuple[Index, dict[str, str]]:
    """Stems of the tables in a folder, and the file of each."""
    files = {path.stem: path.name for path in sorted(folder.iterdir(), reverse=True) if path.suffix.lower() == ".csv"}
    return Index(files), files
