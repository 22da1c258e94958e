"""Which version of the files of a map there is: the parameter by which Snakemake runs a changed map again.

Ten thousand maps are planned without reading any. The job that reads a map takes the digest of its files in the same
pass; only files with a new size or time stamp are read to be compared. Of an image what is used counts: its header, and
the rows that were read of its first plane. The note on a map holds its ``version``, the digest of the ``first`` files
that were read, which is the version without a name, and entries of the ``files`` as they are now (:mod:`digests`).
"""

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
    if digests.stamps_of(noted.get("files", {})) != stamps:
        noted = _note(noted, stamps, mode, made)
        digests.write_note(note, noted)
    return noted["version"]


def _note(noted, stamps, mode, made):
    """What is to be noted of a map whose files have other stamps than noted, or of which nothing is noted."""
    if not made() and not noted.get("first"):
        return {"version": "", "first": "", "files": {path: digests.entry(stamp, "") for path, stamp in stamps.items()}}
    files, first = _renew(noted.get("files", {}), stamps, mode), noted.get("first", "")
    digest = digests.digest_of(files)
    if noted and digest == digests.digest_of(noted["files"]):
        return noted | {"files": files}
    return {"version": "" if digest == first else digest, "first": first, "files": files}


class Reading:
    """The files of a map from outside, while its job reads them.

    Parameters
    ----------
    map_id, paths, mode
        As :func:`map_version` was given them.
    """

    def __init__(self, map_id, paths, mode):
        self._note, self._mode, self._watches = _note_of(map_id), mode, {}
        self._noted = _read(self._note) or {"version": "", "first": "", "files": {}}
        self._stamps = {str(path): digests.stamp(path, mode) for path in paths}

    def watch(self, path):
        """The :class:`digests.Watch` to show what is read of a file; None if samples of it are its digest."""
        path = str(path)
        if self._mode == "full" and self._stamps.get(path) and path not in self._watches:
            self._watches[path] = digests.Watch(path, _layout(path))
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
        self._require_planned()
        seen = {path: digests.entry(self._stamps[path], *watch.close()) for path, watch in self._watches.items()}
        files = _renew(self._noted["files"] | seen, self._stamps, self._mode)
        digest = digests.digest_of(files)
        found = self._noted | {"first": self._noted["first"] if self._noted["version"] else digest, "files": files}
        if found != self._noted:
            digests.write_note(self._note, found)
        return digest

    def _require_planned(self):
        planned, now = self._noted["files"], {path: digests.stamp(path, self._mode) for path in self._stamps}
        same = now == self._stamps and (
            now == digests.stamps_of(planned)
            or digests.digest_of(_renew(planned, now, self._mode)) == digests.digest_of(planned)
        )
        if not same:
            names = ", ".join(self._stamps)
            raise InputChanged(f"{names}: replaced while it was being read; run again for the new one")


def _renew(entries, stamps, mode):
    """Entries of files with these stamps, those read that have others."""

    def take(path, part):
        return digests.file_digest(path, mode, _layout(path) if mode == "full" else None, part)

    return digests.renew(entries, stamps, take)


def _layout(path):
    """Where the image of a file has the plane that is used; None if it has none."""
    from sotrplib import images  # only where files are read: each plan imports this module

    return images.layout(path)


def _note_of(map_id):
    return Path(digests.FOLDER, f"{map_id}.json")


def _read(note):
    """What was noted of a map's files, empty if nothing was; earlier versions of this package noted something else."""
    noted = digests.read_note(note)
    return noted if "version" in noted else {}
