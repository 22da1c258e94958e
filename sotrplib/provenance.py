"""Which code, configuration and inputs a result was made from.

Snakemake compares the parameters of a job with those of its last run. One of them is a digest of the modules of this
package that the rule's script imports, directly or not, so that an edit runs again exactly what uses it.
"""

import hashlib
import re
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sotrplib import __version__

PACKAGE = "sotrplib"


# Import statements and quoted words by pattern: every call of Snakemake reads all modules, and ten times as fast as by
# their syntax trees. What looks like one in a comment or a text counts too, which costs a job too many and no change.
_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+(?P<base>[\w.]+)[ \t]+)?import[ \t]+(?P<names>\([^)]*\)|[^\n]*)", re.MULTILINE
)
_QUOTED = re.compile(r"""["']([\w-]+)["']""")


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
        their number where there are more than 20. Which version of its files a map has
        (:func:`versions.map_version`) depends on what was there before, and is left out.
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
