"""Digests of files from outside: what they hold counts, not their dates.

A digest is renewed when the size or the time stamp of its file changes; until then it is known from a note.
"""

import hashlib
import json
import os
import tempfile
from pathlib import Path

FOLDER = ".snakemake/sotrp/digests"  # what is known of files from outside
MISSING = "missing"
BLOCK = 1 << 20
SAMPLED_BLOCKS = 18
_READERS = 4  # files whose bytes are digested at a time


class Watch:
    """Digest of a file, taken while others read it from front to back.

    Parameters
    ----------
    path : path
        An existing file.
    skip : (int, int), optional
        Start and end of the bytes that do not count.

    Notes
    -----
    What is shown by :meth:`saw` is not read again. Anything else that counts is read where it is needed, so that the
    digest is that of the file whatever was seen of it.
    """

    def __init__(self, path, skip=None):
        self._path, self._at = path, 0
        size = os.path.getsize(path)
        self._counted = [(0, size)] if skip is None else [(0, skip[0]), (skip[1], size)]
        # twice as fast as blake2b where the processor has instructions for it
        self._digest = hashlib.sha256(json.dumps(self._counted).encode())

    def saw(self, start, data):
        """Count bytes (contiguous, of any type) that were read at a position; what was counted before is left out."""
        if start > self._at:
            self._read_to(start)
        view = memoryview(data).cast("B")
        stop = min(start + len(view), self._counted[0][1])
        if start <= self._at < stop:
            self._digest.update(view[self._at - start : stop - start])
            self._at = stop

    def hexdigest(self):
        """The digest; what was not seen of the file is read."""
        self._read_to(self._counted[-1][1])
        return self._digest.hexdigest()

    def _read_to(self, stop):
        with open(self._path, "rb", buffering=0) as file:
            for first, last in self._counted:
                start = file.seek(max(self._at, first))
                while block := file.read(max(0, min(BLOCK, last - start, stop - start))):
                    self._digest.update(block)
                    start += len(block)
        self._at = max(self._at, stop)


def file_digest(path, mode="full", skip=None):
    """Digest of the bytes of a file.

    Parameters
    ----------
    path : path
        An existing file.
    mode : {"full", "sampled"}
        Whether to read all of it or its size and 18 blocks of 1 MiB spread evenly from start to end. Sampling
        misses a change between the blocks; it is for maps too large to be read only to be compared.
    skip : (int, int), optional
        Start and end of the bytes that do not count. Sampling does not know of them.
    """
    size = os.path.getsize(path)
    if mode == "full" or size <= SAMPLED_BLOCKS * BLOCK:
        return Watch(path, skip).hexdigest()
    digest = hashlib.sha256(str(size).encode())
    with open(path, "rb") as file:
        for i in range(SAMPLED_BLOCKS):
            file.seek(i * (size - BLOCK) // (SAMPLED_BLOCKS - 1))
            digest.update(file.read(BLOCK))
    return digest.hexdigest()


def shared_digest(path):
    """Digest of one file that many jobs share, from the note on it; always of all its bytes."""
    name = hashlib.blake2b(str(path).encode(), digest_size=8).hexdigest()
    return noted_digest([path], Path(FOLDER, "shared", f"{name}.json"))


def noted_digest(paths, note):
    """Digest of the bytes of several files, read anew only when their size or time stamp changed.

    Parameters
    ----------
    paths : list of path
        Files; one that does not exist counts as such.
    note : path
        JSON file that holds what is known of these files; made or replaced when that changes.

    Returns
    -------
    str
        Changes with the names, the number and the bytes of the files and with nothing else.
    """
    known = read_note(note)
    found = renew(known, {str(path): stamp(path) for path in paths})
    if found != known:
        write_note(note, found)
    return digest_of(found)


# Entries: path to size, time stamp, mode and digest of a file (empty if it was not read yet), or to its being missing.


def stamp(path, mode="full"):
    """Size and time stamp of a file, and how it is digested; None where there is no file."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "mode": mode}


def stamps_of(entries):
    """Stamps by path, None for files that were missing."""
    return {
        path: None if entry["digest"] == MISSING else {name: entry[name] for name in ("size", "mtime_ns", "mode")}
        for path, entry in entries.items()
    }


def is_known(entry, stamp):
    """Whether an entry (or None) is that of a file which was read and has still this stamp."""
    return bool(entry and entry["digest"]) and entry == stamp | {"digest": entry["digest"]}


def unread(stamps):
    """Entries of files whose bytes are not known, by path."""
    return {path: _entry(stamp, "") for path, stamp in stamps.items()}


def renew(entries, stamps, take=file_digest):
    """Entries of files with these stamps, by path; ``take`` digests those that are new, changed or unread."""
    known = [path for path, stamp in stamps.items() if stamp and is_known(entries.get(path), stamp)]
    left = [path for path, stamp in stamps.items() if stamp and path not in known]
    digests = {path: entries[path]["digest"] for path in known}
    digests |= dict(zip(left, _side_by_side(take, left), strict=True))
    return {path: _entry(stamp, digests.get(path)) for path, stamp in stamps.items()}


def _entry(stamp, digest):
    return {"digest": MISSING} if stamp is None else stamp | {"digest": digest}


def digest_of(entries):
    """Digest of all files of the entries."""
    text = json.dumps([[path, entry["digest"]] for path, entry in entries.items()])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _side_by_side(take, paths):
    """``take(path)`` of each path, several at a time: all jobs wait for them."""
    if len(paths) < 2:
        return [take(path) for path in paths]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(len(paths), _READERS)) as pool:
        return list(pool.map(take, paths))


def read_note(path):
    """Content of a note, empty if there is none; one cut short by a crash costs a second reading and nothing else."""
    try:
        return json.loads(Path(path).read_text())
    except (OSError, ValueError):
        return {}


def write_note(path, content):
    """Replace a note."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        json.dump(content, file)
    os.replace(file.name, path)
