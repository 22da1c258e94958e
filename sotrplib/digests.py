"""Digests of files from outside: what they hold counts, not their dates.

A digest is renewed when the size or the time stamp of its file changes; until then it is known from a note.
"""

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import NamedTuple

FOLDER = ".snakemake/sotrp/digests"  # what is known of files from outside
MISSING = "missing"
BLOCK = 1 << 20
SAMPLED_BLOCKS = 18
_READERS = 4  # files whose bytes are digested at a time


class Layout(NamedTuple):
    """Bytes of a file with an image: the first of its plane that may be used, and where that and all planes end."""

    first: int
    stop: int
    end: int


class Watch:
    """Digest of what is used of a file, taken while others read it from front to back.

    Parameters
    ----------
    path : path
        An existing file.
    layout : Layout, optional
        Of its image. What lies before and after all planes counts, of the plane what is read, further planes do not.

    Notes
    -----
    What is shown by :meth:`saw` is not read again; anything else that counts is read where it is needed. Of a plane of
    which nothing is shown, or something before what was shown first, all counts.
    """

    def __init__(self, path, layout=None):
        self._path, self._size = path, os.path.getsize(path)
        self._layout = layout or Layout(0, self._size, self._size)
        self._part, self._in_order = None, True
        self._digest = hashlib.sha256()  # twice as fast as blake2b where the processor has instructions for it

    def saw(self, start, data):
        """Count bytes (contiguous, of any type) of the plane that were read at a position in the file."""
        view = memoryview(data).cast("B")
        self._begin(start)
        first, at = self._part
        self._in_order &= start >= first
        self._read(at, start)
        self._digest.update(view[max(at - start, 0) :])
        self._part[1] = max(at, start + len(view))

    def look(self, part):
        """Read a part of the plane, where no one else does; gives the watch."""
        if part:
            self._begin(part[0])
            self._read(*part)
            self._part = list(part)
        return self

    def close(self):
        """The digest, and the part of the plane that counts: [first byte, byte after the last], or None for all."""
        if not self._in_order:
            return Watch(self._path, self._layout).close()
        if self._part is None:
            self._read(0, self._layout.stop)
        self._read(self._layout.end, self._size)
        self._digest.update(json.dumps([self._size, self._part]).encode())
        return self._digest.hexdigest(), self._part

    def _begin(self, start):
        if self._part is None:
            self._read(0, self._layout.first)
            self._part = [start, start]

    def _read(self, start, stop):
        if start >= stop:
            return
        with open(self._path, "rb", buffering=0) as file:
            file.seek(start)
            while block := file.read(min(BLOCK, stop - start)):
                self._digest.update(block)
                start += len(block)


def file_digest(path, mode="full", layout=None, part=None):
    """Digest of the bytes of a file.

    Parameters
    ----------
    path : path
        An existing file.
    mode : {"full", "sampled"}
        Whether to read all that counts or its size and 18 blocks of 1 MiB spread evenly from start to end. Sampling
        misses a change between the blocks; it is for maps too large to be read only to be compared.
    layout : Layout, optional
        Of its image; without it all of the file counts. Sampling does not know of it.
    part : [int, int], optional
        What counts of the plane of the image, as of :meth:`Watch.close`; without it all of it.
    """
    size = os.path.getsize(path)
    if mode == "full" or size <= SAMPLED_BLOCKS * BLOCK:
        return Watch(path, layout).look(part).close()[0]
    digest = hashlib.sha256(str(size).encode())
    with open(path, "rb") as file:
        for i in range(SAMPLED_BLOCKS):
            file.seek(i * (size - BLOCK) // (SAMPLED_BLOCKS - 1))
            digest.update(file.read(BLOCK))
    return digest.hexdigest()


def shared_digest(path):
    """Digest of one file that many jobs share, always of all its bytes.

    It is known from a note until the size or the time stamp of the file changes; that there is no file counts too.
    """
    name = hashlib.blake2b(str(path).encode(), digest_size=8).hexdigest()
    note = Path(FOLDER, "shared", f"{name}.json")
    known = read_note(note)
    found = renew(known, {str(path): stamp(path)})
    if found != known:
        write_note(note, found)
    return digest_of(found)


# Entries: path to size, time stamp and mode of a file, the part of its plane that counts and the digest (empty if it
# was not read yet), or to its being missing.


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


def entry(stamp, digest, part=None):
    """What is noted of a file with a stamp (None: there is no file)."""
    return {"digest": MISSING} if stamp is None else stamp | {"part": part, "digest": digest}


def renew(entries, stamps, take=lambda path, part: file_digest(path)):
    """Entries of files with these stamps, by path.

    ``take(path, part)`` digests those that are new, changed or unread, by the part that counted before.
    """
    parts = {path: entries.get(path, {}).get("part") for path in stamps}
    known = {path: _known_digest(entries.get(path), stamp) for path, stamp in stamps.items()}
    left = [path for path, stamp in stamps.items() if stamp and not known[path]]
    taken = dict(zip(left, _side_by_side(lambda path: take(path, parts[path]), left), strict=True))
    return {path: entry(stamp, taken.get(path) or known[path], parts[path]) for path, stamp in stamps.items()}


def _known_digest(entry, stamp):
    """Digest in an entry (or None) if it is that of a file which has still this stamp; empty if not."""
    return entry["digest"] if entry and stamp and entry == entry | stamp else ""


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
