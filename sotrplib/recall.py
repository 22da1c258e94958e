"""Measurements that an earlier run made at the same places of the same map, and that therefore hold.

A year of maps covers each place on the sky some hundred times and each night adds a few candidates, so all but a few of
the windows in which a map is measured hold what they held the night before. What is remembered lies in one small file a
map, beside the digests of files from outside: no result depends on it, and without it everything is measured anew.
"""

import hashlib
import json
import logging
import os
from pathlib import Path

import numpy as np
import pandas as pd

from sotrplib import store, tables

FOLDER = ".snakemake/sotrp/revisits"
log = logging.getLogger(__name__)


class Memory:
    """Tables ``forced`` of one map by key; ``path`` is the file they are kept in, None for nowhere.

    What was kept under another ``signature`` is forgotten, and so is what :meth:`keep` was not called for when
    :meth:`save` is. A damaged file is one that remembers nothing.
    """

    def __init__(self, path=None, signature=""):
        self._path, self._signature = path, signature
        self._before = _read(path, signature) if path and os.path.exists(path) else {}
        self._kept = {}

    def recall(self, key):
        """What was kept by that key in the last run, or None."""
        return self._before.get(key)

    def keep(self, key, rows):
        """Keep a table for the next run."""
        self._kept[key] = rows

    def save(self):
        """Write what was kept, unless that is what the file holds; a folder that cannot be written costs a warning."""
        if not self._path or self._kept.keys() == self._before.keys():
            return
        try:
            _write(self._path, self._signature, self._kept)
        except OSError as error:
            log.warning("%s: what was measured is not remembered (%s)", self._path, error)


def signature(paths, *parts):
    """Digest of ``parts`` and of the state of files: size, time and number, which change when a job writes one.

    Parameters
    ----------
    paths : sequence of path
    parts : objects that JSON can hold
        What else the measurements depend on: options, digest of the code.
    """
    states = [os.stat(store.file_of(path)) for path in paths]
    told = [(state.st_size, state.st_mtime_ns, state.st_ino) for state in states]
    return _digest(json.dumps([told, *parts], sort_keys=True).encode())


def key_of(*arrays):
    """Digest of arrays of numbers, types and shapes included."""
    parts = [np.ascontiguousarray(array) for array in arrays]
    return _digest(b"".join(f"{a.dtype}{a.shape}".encode() + a.tobytes() for a in parts))


def path_of(map_id, name):
    """File that keeps what was measured in a map for some list of targets."""
    return Path(FOLDER, name, f"{map_id}.h5")


def _digest(content):
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _read(path, expected):
    """Tables of the file by key, none of another signature."""
    try:
        attrs = store.read_attrs(path)
        rows = store.read_table(path, "forced") if attrs.get("signature") == expected else None
        keys, counts = (attrs["keys"], attrs["counts"]) if rows is not None else ([], [])
    except (store.DamagedError, KeyError) as error:
        log.warning("%s: not read, its map is measured anew (%s)", path, error)
        return {}
    ends = np.cumsum(counts, dtype=int)
    return {key: rows.iloc[end - n : end] for key, end, n in zip(keys, ends, counts, strict=True)}


def _write(path, own, kept):
    """One table of all rows, with the keys and the number of rows of each."""
    parts = [tables.empty("forced"), *kept.values()]
    attrs = {"signature": own, "keys": list(kept), "counts": [len(rows) for rows in kept.values()]}
    store.write(path, attrs=attrs, frames={"forced": ("forced", pd.concat(parts, ignore_index=True))})
