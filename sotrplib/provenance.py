"""Which code, configuration and inputs a result was made from.

Snakemake compares the parameters of a job with those of its last run. Two digests among them make it
run again exactly what changed: one of the bytes of the input files that come from outside, and one of
the modules of this package that the rule's script imports, directly or not.
"""

import hashlib
import json
import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sotrplib import __version__

PACKAGE = "sotrplib"
BLOCK = 1 << 20
SAMPLED_BLOCKS = 18
MISSING = "missing"
_READERS = 4  # files whose bytes are digested at a time
DIGESTS = ".snakemake/sotrp/digests"  # what is known of files from outside


# Import statements and quoted words by pattern: every call of Snakemake reads all modules, and ten times as fast as by
# their syntax trees. What looks like one in a comment or a text counts too, which costs a job too many and no change.
_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+(?P<base>[\w.]+)[ \t]+)?import[ \t]+(?P<names>\([^)]*\)|[^\n]*)", re.MULTILINE
)
_QUOTED = re.compile(r"""["']([\w-]+)["']""")


def file_digest(path, mode="full"):
    """Digest of the bytes of a file.

    Parameters
    ----------
    path : path
        An existing file.
    mode : {"full", "sampled"}
        Whether to read all of it or its size and 18 blocks of 1 MiB spread evenly from start to end. Sampling
        misses a change between the blocks; it is for maps too large to be read only to be compared.
    """
    size = os.path.getsize(path)
    digest = hashlib.sha256(str(size).encode())  # twice as fast as blake2b where the processor has instructions for it
    with open(path, "rb") as file:
        if mode == "full" or size <= SAMPLED_BLOCKS * BLOCK:
            for block in iter(lambda: file.read(BLOCK), b""):
                digest.update(block)
        else:
            for i in range(SAMPLED_BLOCKS):
                file.seek(i * (size - BLOCK) // (SAMPLED_BLOCKS - 1))
                digest.update(file.read(BLOCK))
    return digest.hexdigest()


def inputs_digest(paths, cache_file, mode="full"):
    """Digest of the bytes of several files, read anew only when their size or time stamp changed.

    Parameters
    ----------
    paths : list of path
        Files; one that does not exist counts as such.
    cache_file : path
        JSON file that holds what is known of these files; made or replaced when that changes.
    mode : {"full", "sampled"}
        See :func:`file_digest`.

    Returns
    -------
    str
        Changes with the names, the number and the bytes of the files and with nothing else.
    """
    known = _read_cache(cache_file)
    found = _renew(known, {str(path): _stamp(path, mode) for path in paths}, mode)
    if found != known:
        _write_cache(cache_file, found)
    return _digest_of(found)


def shared_digest(path, folder):
    """Digest of one file that many jobs share, kept in a cache of its own below ``folder``; always of all its bytes."""
    name = hashlib.blake2b(str(path).encode(), digest_size=8).hexdigest()
    return inputs_digest([path], Path(folder, "shared", f"{name}.json"))


class InputChanged(ValueError):
    """An input that was replaced after its job was planned or while it was read."""


def map_version(map_id, paths, mode, *, made):
    """Which version of a map's files from outside there is: changes when their bytes do.

    The bytes of a map that nothing was made of yet need not be known to plan its jobs, and reading those of ten
    thousand maps would take hours. So they are not read: the job that reads the map takes their digest
    (:func:`require_unchanged`), and only files that have a new size or time stamp by then are read to be compared.

    Parameters
    ----------
    map_id : str
    paths : list of path
        Files from outside; one that does not exist counts as such.
    mode : {"full", "sampled"}
        See :func:`file_digest`.
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
    cache_file = _version_file(map_id)
    noted, stamps = _read_version(cache_file), {str(path): _stamp(path, mode) for path in paths}
    if not noted or _stamps_of(noted["files"]) != stamps:
        if not made() and not noted.get("first"):
            noted = {"first": "", "files": {path: _entry(stamp, "", None) for path, stamp in stamps.items()}}
        else:
            noted = {"first": noted.get("first", ""), "files": _renew(noted.get("files", {}), stamps, mode)}
        _write_cache(cache_file, noted)
    digest = _digest_of(noted["files"])
    return "" if _is_unread(noted["files"]) or digest == noted["first"] else digest


def require_unchanged(map_id, paths, mode):
    """Make sure that the files which a map's job has read are those that it was planned with.

    Parameters
    ----------
    map_id, paths, mode
        As :func:`map_version` was given them.

    Returns
    -------
    str
        Digest of all the files, which changes with their names, their number and their bytes and with nothing else;
        empty without any. The first is kept.

    Raises
    ------
    InputChanged
        What was read may be half of one file and half of another. The version is another one at the next call of the
        workflow, so the job runs again.
    """
    if not paths:
        return ""
    cache_file = _version_file(map_id)
    noted, stamps = _read_version(cache_file) or {"first": "", "files": {}}, [_stamp(path, mode) for path in paths]
    planned, files = noted["files"], _renew(noted["files"], dict(zip(map(str, paths), stamps, strict=True)), mode)
    unread, digest = _is_unread(planned), _digest_of(files)
    same = _stamps_of(files) == _stamps_of(planned) if unread else digest == _digest_of(planned)
    if not same or [_stamp(path, mode) for path in paths] != stamps:
        raise InputChanged(f"{', '.join(map(str, paths))}: replaced while it was being read; run again for the new one")
    found = {"first": digest if unread else noted["first"], "files": files}
    if found != noted:
        _write_cache(cache_file, found)
    return digest


def _version_file(map_id):
    return Path(DIGESTS, f"{map_id}.json")


def _read_version(path):
    """What was noted of a map's files, empty if nothing was; earlier versions of this package noted something else."""
    noted = _read_cache(path)
    return noted if "first" in noted else {}


def _is_unread(files):
    """Whether the bytes of some of the files noted are not known yet."""
    return not all(entry["digest"] for entry in files.values())


def _renew(files, stamps, mode):
    """Entries of files by path, as of :func:`_entry`, with the digests of those that are new, changed or unread."""
    unread = [path for path, stamp in stamps.items() if stamp and not _describes(files.get(path), stamp)]
    digests = dict(zip(unread, _file_digests(unread, mode), strict=True))
    return {path: _entry(stamp, digests.get(path), files.get(path)) for path, stamp in stamps.items()}


def _stamps_of(files):
    """Stamps of entries by path, None for files that were missing."""
    return {
        path: None if entry["digest"] == MISSING else {name: entry[name] for name in ("size", "mtime_ns", "mode")}
        for path, entry in files.items()
    }


def _digest_of(files):
    text = json.dumps([[path, entry["digest"]] for path, entry in files.items()])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _stamp(path, mode):
    """Size and time stamp of a file, None where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "mode": mode}


def _describes(entry, stamp):
    """Whether an entry is that of a file which was read and has still this stamp."""
    return bool(entry and entry["digest"]) and entry == stamp | {"digest": entry["digest"]}


def _entry(stamp, digest, known):
    if stamp is None:
        return {"digest": MISSING}
    return known if digest is None else stamp | {"digest": digest}


def _file_digests(paths, mode):
    """Digests of files, side by side: all jobs wait for them."""
    if len(paths) < 2:
        return [file_digest(path, mode) for path in paths]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(len(paths), _READERS)) as pool:
        return list(pool.map(lambda path: file_digest(path, mode), paths))


def _read_cache(path):
    try:
        return json.loads(Path(path).read_text())
    except (OSError, ValueError):
        return {}


def _write_cache(path, entries):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        json.dump(entries, file)
    os.replace(file.name, path)


def code_digest(script):
    """Digest of the modules of this package that a script needs: changes when any of them is edited.

    Parameters
    ----------
    script : path
        A Python file beside or below the folder that holds the package.
    """
    modules = imported_modules(script)
    files = modules | {str(path): path for module in modules.values() for path in data_files(module)}
    digest = hashlib.blake2b(digest_size=16)
    for name, path in files.items():
        digest.update(Path(name).name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def imported_modules(script):
    """Modules of this package that a script imports anywhere in its text, and those that these import.

    Returns
    -------
    dict of str to Path
        Name without the package's (``photometry``, ``connectors.slack``) to file, sorted by name.
    """
    root = package_folder()
    found, waiting = {}, list(_read_code(Path(script)).imports)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = _module_file(root, name)
            waiting.extend(_read_code(found[name]).imports)
    return dict(sorted(found.items()))


def data_files(module):
    """Files of the folders beside a module that its text names, such as ``templates``; folders of code excepted."""
    names = _read_code(module).texts
    folders = [path for path in _subfolders(module.parent, module.parent.stat().st_mtime_ns) if path.name in names]
    data = [folder for folder in folders if not (folder / "__init__.py").exists()]
    return [path for folder in data for path in sorted(folder.rglob("*")) if path.is_file()]


@cache
def _subfolders(folder, _mtime_ns):
    return [path for path in sorted(folder.iterdir()) if path.is_dir()]


@cache
def package_folder():
    """Folder of this package."""
    return Path(__file__).resolve().parent


@dataclass(frozen=True)
class _Code:
    """What a Python file imports of this package, and every text constant in it."""

    imports: frozenset
    texts: frozenset


def _read_code(path):
    status = path.stat()
    return _parse(str(path), str(package_folder()), status.st_mtime_ns, status.st_size)


@cache
def _parse(path, root, _mtime_ns, _size):
    path, root = Path(path), Path(root)
    text = path.read_text().replace("\\\n", " ")
    names = {name for match in _IMPORT.finditer(text) for name in _imported_names(match, path, root)}
    return _Code(frozenset(name for name in names if _module_file(root, name)), frozenset(_QUOTED.findall(text)))


def _imported_names(match, path, root):
    """Dotted names that an import statement may mean, the package's own name taken off; most are no modules."""
    words = re.findall(r"[\w.]+", match["names"])
    base = _absolute_base(match["base"], path, root) if match["base"] else ""
    full = [base, *(f"{base}.{word}" for word in words)] if base else words
    return [name.removeprefix(PACKAGE + ".") for name in full if name.startswith(PACKAGE + ".")]


def _absolute_base(base, path, root):
    name = base.lstrip(".")
    level = len(base) - len(name)
    if not level:
        return name
    folders = [PACKAGE, *path.relative_to(root).parent.parts]
    return ".".join(folders[: len(folders) - level + 1] + ([name] if name else []))


def _module_file(root, name):
    """File of a module or package below ``root``, or None."""
    path = root.joinpath(*name.split("."))
    options = [path.with_suffix(".py"), path / "__init__.py"]
    return next((option for option in options if option.is_file()), None)


def job_record(job):
    """What a job was made from, for the attribute ``provenance`` of its output.

    Parameters
    ----------
    job : snakemake object of a script
        Its rule, parameters and inputs are used.

    Returns
    -------
    dict
        The package's version, the rule, its parameters (options, digests) and the names of its inputs, or
        their number where there are more than 20. Which version of its files a map has (:func:`map_version`) depends
        on what was there before, and is left out.
    """
    params = {name: value for name, value in job.params.items() if name != "version"}
    inputs = [str(path) for path in job.input]
    names = inputs if len(inputs) <= 20 else f"{len(inputs)} files, {inputs[0]} to {inputs[-1]}"
    return {"version": __version__, "rule": job.rule, "params": params, "inputs": names}


def run_record(config):
    """The resolved configuration beside the code that ran it, for ``results/run_config.yaml``."""
    return {"sotrplib": __version__, "commit": git_commit(), "config": config}


def git_commit():
    """Name of the checked-out commit of this code, with ``-dirty`` after local changes; empty where it is installed."""
    if not (package_folder().parent / ".git").exists():  # another repository may lie around an installed package
        return ""
    command = ["git", "-C", str(package_folder()), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip()
