"""Packed tables and arrays, looked at before they are unpacked: their headers say how much they would become."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from demeanor.data.budget import UNPACKED_PER_BYTE, Budget
from demeanor.data.errors import InputError


def check_npz(path: Path) -> None:
    """InputError where the arrays of an npz file would be out of proportion to it, or its headers make no sense."""
    budget = Budget(path.stat().st_size, str(path), UNPACKED_PER_BYTE)
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                with archive.open(member) as handle:
                    shape, dtype = _npy_header(handle)
                size = math.prod(shape) * dtype.itemsize
                budget.spend(max(size, member.file_size))
                if member.file_size < size:
                    raise ValueError("an array is shorter than its header says")
    except InputError:
        raise
    except (
        OSError, ValueError, EOFError, RuntimeError, NotImplementedError, MemoryError, KeyError, TypeError, IndexError,
        SyntaxError, zipfile.BadZipFile,
    ) as error:  # fmt: skip
        raise InputError(str(path), [f"not a readable npz file ({type(error).__name__}: {str(error)[:80]})"]) from None


def _npy_header(handle: Any) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html)."""
    version = np.lib.format.read_magic(handle)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(handle)
    return shape, dtype


def check_parquet(path: Path) -> None:
    """InputError where a parquet file would become out of proportion to its size.

    Repeated values are stored once: cells are counted from the footer, and a column of text counts as if each of its
    cells held the longest text of the column.
    """
    import pyarrow
    import pyarrow.compute
    import pyarrow.parquet

    budget = Budget(path.stat().st_size, str(path), UNPACKED_PER_BYTE)
    try:
        file = pyarrow.parquet.ParquetFile(path)
        about = file.metadata
        budget.spend(
            sum(about.row_group(n).total_byte_size for n in range(about.num_row_groups)),
            about.num_rows * max(about.num_columns, 1) // UNPACKED_PER_BYTE,
        )
        is_text = pyarrow.types.is_string, pyarrow.types.is_large_string, pyarrow.types.is_dictionary
        names = [field.name for field in file.schema_arrow if any(is_it(field.type) for is_it in is_text)]
        for name in names:
            column = pyarrow.parquet.ParquetFile(path, read_dictionary=[name]).read(columns=[name]).column(0)
            for chunk in column.chunks:
                values = chunk.dictionary if pyarrow.types.is_dictionary(chunk.type) else chunk
                if not pyarrow.types.is_primitive(values.type):
                    longest = pyarrow.compute.max(pyarrow.compute.binary_length(values)).as_py() or 0
                    budget.spend(longest * len(chunk))
    except InputError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError, TypeError, KeyError, MemoryError) as error:
        raise InputError(str(path), [f"not a readable parquet file ({type(error).__name__})"]) from None
