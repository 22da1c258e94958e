"""Rows of the benchmark: a number with its statistical error, its target and what it is expected to be."""

import re
from pathlib import Path
from typing import NamedTuple

import yaml

EXPECTATIONS = Path(__file__).parent / "expectations.yaml"
_NUMBER = r"-?[\d.]+(?:e-?\d+)?"


class Row(NamedTuple):
    """One number: its name within its line, value, one-sigma error, and how many sources, points or pixels it is of."""

    quantity: str
    value: float
    error: float
    n: int
    note: str = ""


class Judged(NamedTuple):
    """A row with its target, whether it meets it (None without a target), and whether it is as expected."""

    line: str
    row: Row
    target: str
    met: bool | None
    expected: str
    as_expected: bool


def read_expectations():
    """Content of expectations.yaml: {line: {"what": text, "rows": {quantity: {"target", "full", "small"}}}}."""
    return yaml.safe_load(EXPECTATIONS.read_text())


def judge(line, row, size, expectations):
    """Compare a row with its target and its expectation; a row without an expectation is not as expected."""
    known = expectations[line]["rows"].get(row.quantity, {})
    target = known.get("target", "")
    value, tolerance = known.get(size, (float("nan"), 0.0))
    worse = {">": value - row.value, "<": row.value - value}.get(target[:1], abs(row.value - value))
    text = f"{number(value)} ± {number(tolerance)}" if size in known else "unknown"
    return Judged(line, row, target, meets(row.value, target), text, bool(worse <= tolerance))


def meets(value, target):
    """Whether a value meets a target such as ``>= 0.97``, ``<= 2``, ``0.97 to 1.03`` or ``= 0``; None for no target."""
    if not target:
        return None
    limits = [float(text) for text in re.findall(_NUMBER, target)]
    if " to " in target:
        return bool(limits[0] <= value <= limits[1])
    return bool({">": value >= limits[0], "<": value <= limits[0], "=": value == limits[0]}[target[0]])


def number(value):
    """A number with the digits that matter."""
    return f"{value:.4g}" if abs(value) < 1e5 else f"{value:.0f}"
