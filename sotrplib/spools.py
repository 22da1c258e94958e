"""Tables too long for memory, sorted into parts by way of the disk.

The merges of many maps read their rows map by map and need them source by source. Rows are written to one temporary
Arrow file a part as they come, and each part is read back whole; only one part at a time is in memory.
"""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

ROWS = 500_000  # of a part: a few hundred MB while it is worked on
_PREFIX = ".spool."
_ROWS_AT_ONCE = 100_000  # written at a time


class Spool:
    """Rows by part, below a folder; use as a context manager, which removes them at the end.

    Parameters
    ----------
    n_parts : int
    folder : path
        Where there is room for all rows, some 250 bytes each. What a killed process left of its own there is removed,
        so no two may be at work in one folder.
    """

    def __init__(self, n_parts, folder):
        self.n_parts = n_parts
        for left in Path(folder).glob(f"{_PREFIX}*"):
            shutil.rmtree(left, ignore_errors=True)
        self._folder = tempfile.TemporaryDirectory(prefix=_PREFIX, dir=folder)
        self._writers = {}
        self._waiting, self._n_waiting = [], 0

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for number in list(self._writers):
            self._close(number)
        self._folder.cleanup()

    def add(self, frame, part):
        """Add rows; ``part`` (array of int) says to which part each of them belongs."""
        self._waiting.append((frame, part))
        self._n_waiting += len(frame)
        if self._n_waiting > _ROWS_AT_ONCE:
            self._sort()

    def passed(self, frames, column):
        """The tables ``frames`` as they are, their rows added on the way, scattered by the texts of a column."""
        for frame in frames:
            self.add(frame, scattered(frame[column], self.n_parts))
            yield frame

    def parts(self):
        """Tables of the parts that have rows, in order; their rows in the order in which they were added."""
        import pyarrow as pa

        self._sort()
        for number in sorted(self._writers):
            with pa.OSFile(self._close(number)) as source:
                yield pa.ipc.open_stream(source).read_pandas().reset_index(drop=True)

    def _sort(self):
        """Write the rows that wait to their parts."""
        if not self._n_waiting:
            return
        frame = pd.concat([frame for frame, _ in self._waiting], ignore_index=True)
        part = np.concatenate([part for _, part in self._waiting])
        for number in np.unique(part):
            self._write(int(number), frame[part == number])
        self._waiting, self._n_waiting = [], 0

    def _close(self, number):
        """Path of the file of a part, which is whole now."""
        writer, file = self._writers.pop(number)
        writer.close()
        file.close()
        return file.name

    def _write(self, number, frame):
        import pyarrow as pa

        table = pa.Table.from_pandas(frame, preserve_index=False)
        if number not in self._writers:
            file = open(Path(self._folder.name, f"{number}.arrow"), "wb")  # noqa: SIM115, closed in __exit__
            self._writers[number] = pa.ipc.new_stream(file, table.schema), file
        self._writers[number][0].write_table(table)


def scattered(ids, n_parts):
    """Part of each identifier, all rows of one in one part, as evenly as may be; array of int, shape (n,)."""
    return (pd.util.hash_array(np.asarray(ids, dtype=object)) % np.uint64(n_parts)).astype(int)


def in_order(counts, rows=ROWS):
    """Parts of neighbouring identifiers of about ``rows`` rows each.

    Parameters
    ----------
    counts : pandas.Series
        Number of rows of each identifier, sorted by identifier, which is the index.
    rows : int
        An identifier with more rows than this has a part to itself and what goes before it.

    Returns
    -------
    pandas.Series
        Part of each identifier, from 0; identifiers of a later part come later.
    """
    before = np.cumsum(counts.to_numpy()) - counts.to_numpy()
    _, part = np.unique(before // rows, return_inverse=True)
    return pd.Series(part, index=counts.index)
