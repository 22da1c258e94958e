"""Digests change with what they stand for and with nothing else."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from sotrplib import provenance


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "a.fits"
    path.write_bytes(bytes(range(256)) * 400)
    return path


def test_digest_depends_on_bytes_alone(data, tmp_path):
    """A copy with another name and time has the same digest; one changed byte gives another."""
    copy = tmp_path / "b.fits"
    copy.write_bytes(data.read_bytes())
    os.utime(copy, (1, 1))
    assert provenance.file_digest(copy) == provenance.file_digest(data)
    content = bytearray(data.read_bytes())
    content[77] ^= 1
    copy.write_bytes(content)
    assert provenance.file_digest(copy) != provenance.file_digest(data)


@pytest.mark.parametrize("offset", [0, (40 << 20) - 1])
def test_sampled_digest_sees_start_and_end(tmp_path, offset):
    """The sampled digest of a 40 MiB file changes with its first and with its last byte."""
    path = tmp_path / "large.fits"
    with open(path, "wb") as file:
        file.truncate(40 << 20)
    before = provenance.file_digest(path, "sampled")
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(b"x")
    assert provenance.file_digest(path, "sampled") != before


def test_sampled_digest_of_small_file_is_whole(data):
    """Below 18 MiB a sampled digest reads every byte."""
    assert provenance.file_digest(data, "sampled") == provenance.file_digest(data, "full")


def test_new_time_stamp_keeps_digest(data, tmp_path):
    """Touching a file changes the stored time stamp and not the digest."""
    cache = tmp_path / "cache" / "a.json"
    before = provenance.inputs_digest([data], cache)
    os.utime(data, (5, 5))
    assert provenance.inputs_digest([data], cache) == before
    assert json.loads(cache.read_text())[str(data)]["mtime_ns"] == 5_000_000_000


def test_new_bytes_with_older_time_are_seen(data, tmp_path):
    """A file replaced by one of the same size and an older date has a new digest."""
    cache = tmp_path / "a.json"
    before = provenance.inputs_digest([data], cache)
    data.write_bytes(data.read_bytes()[::-1])
    os.utime(data, (5, 5))
    assert provenance.inputs_digest([data], cache) != before


def test_unchanged_file_is_not_read_again(data, tmp_path, monkeypatch):
    """With size and time stamp as before, the digest comes from the cache."""
    cache = tmp_path / "a.json"
    before = provenance.inputs_digest([data], cache)
    monkeypatch.setattr(provenance, "file_digest", lambda *_: pytest.fail("the file was read again"))
    assert provenance.inputs_digest([data], cache) == before


def test_missing_file_counts_as_missing(data, tmp_path):
    """A file that goes or comes changes the digest of the set."""
    cache = tmp_path / "a.json"
    both = [data, tmp_path / "b.fits"]
    before = provenance.inputs_digest(both, cache)
    both[1].write_bytes(b"")
    assert provenance.inputs_digest(both, cache) != before


def test_damaged_cache_is_made_anew(data, tmp_path):
    """A cache cut short by a crash costs a second reading and nothing else."""
    cache = tmp_path / "a.json"
    before = provenance.inputs_digest([data], cache)
    cache.write_text("{")
    assert provenance.inputs_digest([data], cache) == before


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A small package: the script uses a inside a function, a uses b, c stands alone."""
    root = tmp_path / "sotrplib"
    (root / "tools").mkdir(parents=True)
    modules = {"a": "from sotrplib import b\nfrom sotrplib.tools import d", "b": "import numpy", "c": "", "e": ""}
    for name, text in modules.items():
        (root / f"{name}.py").write_text(text)
    (root / "tools" / "__init__.py").write_text("")
    (root / "tools" / "d.py").write_text("from .. import e")
    script = tmp_path / "script.py"
    script.write_text("def main():\n    import sotrplib.a\n")
    monkeypatch.setattr(provenance, "package_folder", lambda: root)
    return SimpleNamespace(root=root, script=script)


def test_imports_are_followed(package):
    """Imports inside functions, through other modules, from subpackages and relative ones all count."""
    assert list(provenance.imported_modules(package.script)) == ["a", "b", "e", "tools", "tools.d"]


@pytest.mark.parametrize(("edited", "changes"), [("a", True), ("b", True), ("e", True), ("c", False)])
def test_code_digest_changes_with_used_modules(package, edited, changes):
    """Editing a module changes the digest of exactly the scripts that import it, directly or not."""
    before = provenance.code_digest(package.script)
    with open(package.root / f"{edited}.py", "a") as file:
        file.write("\nX = 1\n")
    assert (provenance.code_digest(package.script) != before) is changes


def test_code_digest_changes_with_named_data(package):
    """Editing a template that a used module reads changes the digest."""
    (package.root / "templates").mkdir()
    (package.root / "templates" / "page.html").write_text("<p>")
    with open(package.root / "b.py", "a") as file:
        file.write('\nFOLDER = "templates"\n')
    before = provenance.code_digest(package.script)
    (package.root / "templates" / "page.html").write_text("<p></p>")
    assert provenance.code_digest(package.script) != before


@pytest.fixture
def version(data, tmp_path, monkeypatch):
    """Version of the one file of the map m, of which something was made or not."""
    monkeypatch.chdir(tmp_path)
    return lambda made=False: provenance.map_version("m", ["a.fits"], "full", made=lambda: made)


def read_it():
    """Digest of the files of the map m as its job takes it."""
    return provenance.require_unchanged("m", ["a.fits"], "full")


def test_new_map_is_planned_unread(version, monkeypatch):
    """The bytes of a map of which nothing was made are not read by plans, however often it is planned."""
    monkeypatch.setattr(provenance, "file_digest", lambda *_: pytest.fail("the file was read"))
    assert version() == version() == ""


def test_version_is_that_of_the_bytes(version, data):
    """A map that was read has the same version with a new date, another with other bytes, the old with the old."""
    version()
    digest = read_it()
    os.utime(data, (5, 5))
    assert version(made=True) == ""
    data.write_bytes(b"other")
    assert version(made=True) not in ("", digest)
    assert version(made=True) == read_it()
    os.utime(data, (6, 6))
    first = bytes(range(256)) * 400
    data.write_bytes(first)
    assert version(made=True) == "" and read_it() == digest
    data.write_bytes(b"third")
    assert version(made=True) == read_it() != digest


def test_version_of_what_was_made_of_unknown_bytes_is_their_digest(version, data):
    """A map of which something was made before its bytes were noted is made again; so is one whose job read nothing."""
    assert version(made=True) == read_it()
    Path(provenance.DIGESTS, "m.json").unlink()
    assert version() == ""
    os.utime(data, (5, 5))
    assert version(made=True) == read_it()


def test_note_of_another_version_of_the_package_is_none(version, data):
    """What an earlier version of this package noted of a map is not taken for a version."""
    provenance.inputs_digest(["a.fits"], Path(provenance.DIGESTS, "m.json"))
    assert version() == ""


@pytest.mark.parametrize("n_read", [0, 1])
def test_replaced_input_is_noticed(version, data, n_read):
    """A file replaced since its job was planned is an error, whether its bytes were known or not."""
    version()
    for _ in range(n_read):
        read_it()
    data.write_bytes(b"other")
    with pytest.raises(provenance.InputChanged, match="a.fits: replaced while it was being read"):
        read_it()
    assert version(made=True) == read_it() != ""


def test_input_with_a_new_date_is_unchanged(version, data):
    """A file of known bytes may get a new date between plan and job."""
    version()
    digest = read_it()
    os.utime(data, (5, 5))
    assert read_it() == digest


def test_missing_file_is_part_of_a_version(version, data):
    """A map whose file is missing has a version, another one when the file comes."""
    data.rename("away")
    before = version()
    assert before == read_it()
    Path("away").rename(data)
    assert version(made=True) == read_it() != before


def test_map_without_files_from_outside_has_no_version(tmp_path, monkeypatch):
    """Nothing is noted of a simulated map."""
    monkeypatch.chdir(tmp_path)
    assert provenance.map_version("m", [], "full", made=lambda: True) == ""
    assert provenance.require_unchanged("m", [], "full") == ""
    assert not Path(provenance.DIGESTS).exists()


def test_job_record_leaves_out_the_version_of_a_map():
    """Equal bytes give equal records, whatever was there before them."""
    job = SimpleNamespace(rule="r", params={"version": "ab", "options": 1}, input=["a"])
    assert provenance.job_record(job)["params"] == {"options": 1}


def test_job_record_counts_many_inputs():
    """The record of a merge of many maps gives their number, since a list would not fit an attribute."""
    job = SimpleNamespace(input=[f"{i}.h5" for i in range(30)], params={"options": {}}, rule="merge_catalogs")
    assert provenance.job_record(job)["inputs"] == "30 files, 0.h5 to 29.h5"
