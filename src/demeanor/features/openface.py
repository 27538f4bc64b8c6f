"""OpenFace 2 tables (Baltrusaitis et al., 2018): action units, gaze and head pose from CSV files beside the clips."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from demeanor.data.files import sha256_of_file
from demeanor.data.provenance import Provenance
from demeanor.data.settings import Settings
from demeanor.features.base import Clip, ExtractionError, Extractor

_UNITS = ("01", "02", "04", "05", "06", "07", "09", "10", "12", "14", "15", "17", "20", "23", "25", "26", "45")
COLUMNS: tuple[str, ...] = (
    *(f"AU{unit}_r" for unit in _UNITS),
    *(f"AU{unit}_c" for unit in (*_UNITS[:-1], "28", _UNITS[-1])),
    *(f"gaze_{eye}_{axis}" for eye in (0, 1) for axis in "xyz"),
    *("gaze_angle_x", "gaze_angle_y", "pose_Tx", "pose_Ty", "pose_Tz", "pose_Rx", "pose_Ry", "pose_Rz"),
    "confidence",
)


class OpenFaceSettings(Settings):
    """`folder` of the tables: a clip's is `<name of its media file>.csv` in it or, without one, beside the media.

    Rows that OpenFace was not sure of (success 0, or confidence below `least_confidence`) are zeros.
    """

    folder: str | None = None
    rate: float | None = Field(default=None, gt=0, description="frames per second of the videos, if all have one")
    least_confidence: float = Field(default=0.5, ge=0, le=1)


class OpenFaceTables(Extractor):
    """`vision.frames`: action units (intensity 0-5, presence), gaze (unit vectors, radians), head pose (mm, radians)
    and confidence, [T, 50] float32, one step per row of the table. Absent where there is no table."""

    name = "openface_csv"
    stream = "vision.frames"
    reads = frozenset({"video"})
    unit = "frame"
    licence = "OpenFace: academic, non-commercial research"
    batched = True
    settings_type: ClassVar[type[Settings]] = OpenFaceSettings

    @property
    def version(self) -> str:
        return "OpenFace 2 tables, 1"

    @property
    def dimension(self) -> int:
        return len(COLUMNS)

    @property
    def rate(self) -> float | None:
        return self.settings.rate

    @property
    def names(self) -> list[str]:
        return list(COLUMNS)

    def provenance(self) -> Provenance:
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
        if not isinstance(clip.media, Path):
            return None
        folder = Path(self.settings.folder) if self.settings.folder else clip.media.parent
        path = folder / f"{clip.media.stem}.csv"
        return path if path.is_file() else None

    def companion(self, clip: Clip) -> str:
        path = self.table_of(clip)
        return "" if path is None else sha256_of_file(path)

    def extract(self, clips: Any) -> list[np.ndarray]:
        return [self.extract_clip(clip) for clip in clips]

    def extract_clip(self, clip: Clip) -> np.ndarray:
        path = self.table_of(clip)
        if path is None:
            return self.absent
        import pandas as pd

        try:
            table = pd.read_csv(path, skipinitialspace=True)
        except (ValueError, OSError) as error:
            raise ExtractionError(f"{path}: not a readable table ({error})") from None
        table.columns = [str(name).strip() for name in table.columns]
        missing = [name for name in (*COLUMNS, "timestamp", "success") if name not in table]
        if missing:
            listed = ", ".join(missing[:5])
            raise ExtractionError(f"{path}: {len(missing)} columns of OpenFace 2 are missing, for example {listed}")
        times = table["timestamp"].to_numpy(float)
        kept = (times >= clip.start - 1e-6) & (times < (np.inf if clip.end is None else clip.end))
        table = table[kept]
        values = table[list(COLUMNS)].to_numpy(dtype=np.float32, copy=True)
        sure = (table["success"].to_numpy(float) > 0) & (values[:, -1] >= self.settings.least_confidence)
        values[~sure] = 0.0
        return np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
