"""The command line: exit status and messages that name the cure."""

from click.testing import CliRunner

from sotrplib import cli, store, tables


def run(*arguments):
    return CliRunner().invoke(cli.main, list(map(str, arguments)))


def test_help_reads_well():
    """--help lists the commands; without anything the cure is named and the status is 2."""
    assert all(name in run("--help").output for name in ("validate", "status", "show", "--dry-run"))
    nothing = run()
    assert nothing.exit_code == 2 and "sotrp --help" in nothing.output


def test_validate_names_a_misspelt_key(tmp_path):
    """A misspelt key is named with the key that was meant; status 2. A right one fits; status 0."""
    config = tmp_path / "mine.yaml"
    config.write_text("find_sources: {snr_mim: 5}\n")
    wrong = run("validate", config)
    assert wrong.exit_code == 2 and "find_sources.snr_mim" in wrong.output and "'snr_min'" in wrong.output
    config.write_text("find_sources: {snr_min: 5}\n")
    right = run("validate", config)
    assert right.exit_code == 0 and "fits" in right.output


def test_show_prints_tables_with_units(tmp_path):
    """A file is listed; a table has its units in the header; a wrong name lists those there are."""
    path = tmp_path / "a.h5"
    row = dict.fromkeys(tables.column_names("catalog"), 1.5) | {"source_id": ["A"], "source_name": "A"}
    store.write(path, attrs={"map_id": "x"}, frames={"catalog": ("catalog", tables.make("catalog", row))})
    assert "catalog/ra_deg (1,)" in run("show", path).output
    assert "ra_deg [deg]" in run("show", path, "catalog").output
    missing = run("show", path, "sources")
    assert missing.exit_code == 1 and "catalog" in missing.output


def test_status_without_results_says_so(tmp_path, monkeypatch):
    """Before a run there is nothing to tell."""
    monkeypatch.chdir(tmp_path)
    result = run("status")
    assert result.exit_code == 1 and "no such file" in result.output
