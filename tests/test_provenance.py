"""Digests change with what they stand for and with nothing else."""

from types import SimpleNamespace

import pytest

from sotrplib import provenance


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


def test_job_record_leaves_out_the_version_of_a_map():
    """Equal bytes give equal records, whatever was there before them."""
    job = SimpleNamespace(rule="r", params={"version": "ab", "options": 1}, input=["a"])
    assert provenance.job_record(job)["params"] == {"options": 1}


def test_job_record_counts_many_inputs():
    """The record of a merge of many maps gives their number, since a list would not fit an attribute."""
    job = SimpleNamespace(input=[f"{i}.h5" for i in range(30)], params={"options": {}}, rule="merge_catalogs")
    assert provenance.job_record(job)["inputs"] == "30 files, 0.h5 to 29.h5"
