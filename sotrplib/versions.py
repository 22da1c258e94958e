"""Which version of the files of a map there is: the parameter by which Snakemake runs a changed map again.

Ten thousand maps are planned without reading any. The job that reads a map takes the digest of its files in the same
pass; only files with a new size or time stamp are read to be compared. Of an image what is used counts: its header and
its first plane. The note on a map holds the digest of the ``first`` files that were read, and entries of the ``files``
as they are now (:mod:`digests`).
"""

from functools import partial
from pathlib import Path

from sotrplib import digests


class InputChanged(ValueError):
    """An input that was replaced after its job was planned or while it was read."""


def map_version(map_id, paths, mode, *, made):
    """Which version of a map's files from outside there is: changes when their bytes do.

    Parameters
    ----------
    map_id : str
    paths : list of path
        Files from outside; one that does not exist counts as such.
    mode : {"full", "sampled"}
        See :func:`digests.file_digest`.
    made : function without arguments
        Whether anything was made of the map.

    Returns
    -------
    str
        Empty for the first version that was read and for a map without files from outside, the digest of all the
        files for any other.
    """
    if not paths:
        return ""
    note = _note_of(map_id)
    noted, stamps = _read(note), {str(path): digests.stamp(path, mode) for path in paths}
    if not noted or digests.stamps_of(noted["files"]) != stamps:
        if not made() and not noted.get("first"):
            noted = {"first": "", "files": digests.unread(stamps)}
        else:
            files = digests.renew(noted.get("files", {}), stamps, partial(_used_digest, mode=mode))
            noted = {"first": noted.get("first", ""), "files": files}
        digests.write_note(note, noted)
    digest = digests.digest_of(noted["files"])
    return "" if _is_unread(noted["files"]) or digest == noted["first"] else digest


class Reading:
    """The files of a map from outside, while its job reads them.

    Parameters
    ----------
    map_id, paths, mode
        As :func:`map_version` was given them.
    """

    def __init__(self, map_id, paths, mode):
        self._note, self._mode, self._watches = _note_of(map_id), mode, {}
        self._noted = _read(self._note) or {"first": "", "files": {}}
        self._stamps = {str(path): digests.stamp(path, mode) for path in paths}

    def watch(self, path):
        """The :class:`digests.Watch` to show what is read of a file; None if its digest is known or of samples."""
        path = str(path)
        if path in self._watches or not self._stamps.get(path) or self._mode != "full":
            return self._watches.get(path)
        if not digests.is_known(self._noted["files"].get(path), self._stamps[path]):
            self._watches[path] = digests.Watch(path, _unused(path))
        return self._watches.get(path)

    def close(self):
        """Make sure that what was read are the files that the job was planned with, and note their digest.

        Returns
        -------
        str
            Digest of all the files, which changes with their names, their number and their bytes and with nothing
            else; empty without any.

        Raises
        ------
        InputChanged
            What was read may be half of one file and half of another. The version is another one at the next call of
            the workflow, so the job runs again.
        """
        if not self._stamps:
            return ""
        planned, files = self._noted["files"], digests.renew(self._noted["files"], self._stamps, self._take)
        unread, digest = _is_unread(planned), digests.digest_of(files)
        same = self._stamps == digests.stamps_of(planned) if unread else digest == digests.digest_of(planned)
        if not same or {path: digests.stamp(path, self._mode) for path in self._stamps} != self._stamps:
            names = ", ".join(self._stamps)
            raise InputChanged(f"{names}: replaced while it was being read; run again for the new one")
        found = {"first": digest if unread else self._noted["first"], "files": files}
        if found != self._noted:
            digests.write_note(self._note, found)
        return digest

    def _take(self, path):
        watch = self._watches.get(path)
        return watch.hexdigest() if watch else _used_digest(path, self._mode)


def _used_digest(path, mode):
    """Digest of what is used of a file, as a watch takes it."""
    return digests.file_digest(path, mode, _unused(path) if mode == "full" else None)


def _unused(path):
    """Start and end of the bytes of a file that nothing reads, the further planes of an image; None if all count."""
    from sotrplib import images  # only where files are read: each plan imports this module

    return images.further_planes(path)


def _note_of(map_id):
    return Path(digests.FOLDER, f"{map_id}.json")


def _read(note):
    """What was noted of a map's files, empty if nothing was; earlier versions of this package noted something else."""
    noted = digests.read_note(note)
    return noted if "first" in noted else {}


def _is_unread(files):
    """Whether the bytes of some of the files noted are not known yet."""
    return not all(entry["digest"] for entry in files.values())
