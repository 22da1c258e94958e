"""The small version of every line of the benchmark: each number is as good as expected, within five sigma."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))

import rows  # noqa: E402
import run  # noqa: E402
from lines import LINES  # noqa: E402


@pytest.mark.parametrize("name", LINES)
def test_line_is_as_expected(name):
    """Every number of the line is known to expectations.yaml and no worse than it says."""
    expectations = rows.read_expectations()
    judged = [rows.judge(name, row, "small", expectations) for row in LINES[name]("small")]
    assert judged
    worse = {item.row.quantity: (item.row.value, item.expected) for item in judged if not item.as_expected}
    assert not worse


@pytest.mark.parametrize(
    ("value", "target", "met"),
    [(0.98, ">= 0.97", True), (0.96, ">= 0.97", False), (2, "<= 1e-4", False), (-0.1, "-0.15 to 0.15", True)]
    + [(0.2, "-0.15 to 0.15", False), (0, "= 0", True), (1, "= 0", False), (1, "", None)],
)
def test_targets_are_read_as_written(value, target, met):
    """A target is a bound, a range or a number; without one nothing is met or missed."""
    assert rows.meets(value, target) is met


def test_worse_is_worse_only_in_the_direction_of_the_target():
    """A number better than expected is fine where the target is one-sided, and not where it is a range."""
    known = {"target": ">= 0.97", "small": [0.98, 0.01]}
    expectations = {"line": {"rows": {"one-sided": known, "range": known | {"target": "0.9 to 1.1"}}}}
    verdicts = [
        rows.judge("line", rows.Row(name, value, 0.0, 1), "small", expectations).as_expected
        for name in ("one-sided", "range")
        for value in (0.995, 0.965)
    ]
    assert verdicts == [True, False, False, False]


def test_unknown_number_falls_out():
    """A number that expectations.yaml does not know is not as expected."""
    judged = rows.judge("line", rows.Row("new", 1.0, 0.0, 1), "full", {"line": {"rows": {}}})
    assert not judged.as_expected and judged.met is None


def test_run_writes_tables_and_plots(tmp_path, monkeypatch):
    """`run.py --small --only noise_level` leaves table.md, table.csv and a plot, and status 0."""
    monkeypatch.setattr(run.scenes, "ROOT", tmp_path)
    monkeypatch.setattr(run.scenes, "options", _options_of(run.scenes.options()))
    assert run.main(["--small", "--only", "noise_level"]) == 0
    folder = tmp_path / "results" / "bench_small"
    assert {path.name for path in folder.iterdir()} == {"table.md", "table.csv", "noise_level.png"}
    assert "50 Jy in 3 x 3 deg" in (folder / "table.md").read_text()


def _options_of(options):
    return lambda: options
