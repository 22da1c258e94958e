"""Measure accuracy and speed, and compare them with what must be reached and with what was reached before.

Writes table.md, table.csv and a plot of every line under results/bench, and ends with status 1 if a number is worse
than its expectation in expectations.yaml allows.
"""

import argparse
import csv
import sys
import time

import plots
import rows
import scenes
import yaml
from lines import LINES

_HEADER = """\
# Expectations of the benchmark: every number's target, and [value, tolerance] as measured by `make bench` (full)
# and by the version of CI (small). `run.py --accept` writes the values anew and keeps targets and tolerances.
"""


def main(arguments=None):
    """Run the lines asked for; the exit status."""
    options = _parse(arguments)
    size, expectations = "small" if options.small else "full", rows.read_expectations()
    folder = scenes.ROOT / "results" / ("bench_small" if options.small else "bench")
    folder.mkdir(parents=True, exist_ok=True)
    judged, seconds = [], {}
    for name in options.only or LINES:
        start = time.perf_counter()
        judged += [rows.judge(name, row, size, expectations) for row in LINES[name](size)]
        seconds[name] = time.perf_counter() - start
        sys.stdout.write(_text([item for item in judged if item.line == name], expectations[name], seconds[name]))
        sys.stdout.flush()
        write_tables(folder, judged, expectations, seconds)
    plots.draw(folder, judged, expectations)
    if options.accept:
        accept(judged, size, expectations)
    return int(not all(item.as_expected for item in judged) and not options.accept)


def _parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--small", action="store_true", help="the version of CI: less of everything, under a minute")
    parser.add_argument("--only", action="append", choices=LINES, metavar="NAME", help=f"one of {', '.join(LINES)}")
    parser.add_argument("--accept", action="store_true", help="take what is measured as the new expectation")
    return parser.parse_args(arguments)


def _text(judged, line, seconds):
    """Rows of one line for the terminal."""
    text = [f"{line['what']} ({seconds:.0f} s)"]
    for item in judged:
        row = item.row
        value = f"{rows.number(row.value)} ± {rows.number(row.error)}"
        text.append(f"  {row.quantity:64s} {value:22s} {item.target:16s} {_verdict(item)}")
    return "\n".join(text) + "\n"


def _verdict(item):
    met = {True: "met", False: "missed", None: ""}[item.met]
    return met if item.as_expected else f"{met} (expected {item.expected})".strip()


def write_tables(folder, judged, expectations, seconds):
    """table.md and table.csv of the rows measured so far."""
    with open(folder / "table.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("line", "quantity", "value", "error", "n", "target", "met", "expected", "as_expected", "note"))
        for line, row, target, met, expected, as_expected in judged:
            numbers = f"{row.value:.6g}", f"{row.error:.3g}", row.n
            writer.writerow((line, row.quantity, *numbers, target, met, expected, as_expected, row.note))
    text = []
    for name in seconds:
        text += [
            f"\n## {expectations[name]['what']}\n",
            "| | measured | of | target | | expected |",
            "|---|---|---|---|---|---|",
        ]
        text += [_markdown(item) for item in judged if item.line == name]
    missed = [f"{item.line}: {item.row.quantity}" for item in judged if item.met is False]
    fallen = [f"{item.line}: {item.row.quantity}" for item in judged if not item.as_expected]
    head = [
        f"# Benchmark, {sum(seconds.values()):.0f} s",
        f"\n{len(judged)} numbers, {sum(item.met is not None for item in judged)} with a target.",
        f"\nTargets missed: {'; '.join(missed) or 'none'}.",
        f"\nWorse than expected: {'; '.join(fallen) or 'none'}.",
    ]
    (folder / "table.md").write_text("\n".join(head + text) + "\n")


def _markdown(item):
    row = item.row
    value = f"{rows.number(row.value)} ± {rows.number(row.error)}" if row.error else rows.number(row.value)
    verdict = {True: "met", False: "**missed**", None: ""}[item.met]
    expected = item.expected if item.as_expected else f"**{item.expected}**"
    note = f" ({row.note})" if row.note else ""
    return f"| {row.quantity}{note} | {value} | {row.n} | {item.target} | {verdict} | {expected} |"


def accept(judged, size, expectations):
    """Write what was measured as the new expectation; a new number gets 3 sigma (small: 5) as its tolerance."""
    for item in judged:
        row, known = item.row, expectations[item.line]["rows"].setdefault(item.row.quantity, {"target": ""})
        default = max((3 if size == "full" else 5) * row.error, 0.002 * abs(row.value))
        tolerance = known[size][1] if size in known else default
        known[size] = [float(rows.number(value)) for value in (row.value, tolerance)]
    text = yaml.safe_dump(expectations, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)
    rows.EXPECTATIONS.write_text(_HEADER + text)


if __name__ == "__main__":
    sys.exit(main())
