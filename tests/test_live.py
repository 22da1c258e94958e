"""How far a run is: the tally of Snakemake's events, and its views on a terminal and elsewhere."""

import io
import logging
import os
import pty
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from rich.console import Console
from snakemake_logger_plugin_sotrp import tally, views

FLOW = """
rule all:
    input: expand("{x}.b", x=range(3))
rule first:
    output: "{x}.a"
    shell: "sleep 0.2; touch {output}"
rule second:
    input: "{x}.a"
    output: "{x}.b"
    log: "{x}.log"
    shell: "echo bad luck > {log}; [ {wildcards.x} != 1 ] && touch {output}"
"""


class Clock:
    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds


class Run:
    """A tally, fed by hand."""

    def __init__(self, unit="sift", **totals):
        self.clock = Clock()
        self.tally = tally.Tally(unit=unit, clock=self.clock)
        self.tell("run_info", stats=totals | {"total": sum(totals.values())})

    def tell(self, event=None, message="", level=logging.INFO, **fields):
        record = logging.LogRecord("snakemake", level, "", 0, message, (), None)
        record.__dict__.update(event=event, **fields)
        return self.tally.handle(record)

    def start(self, number, rule):
        self.tell("job_info", jobid=number, rule_name=rule, wildcards={"map_id": f"m{number}"})

    def finish(self, number):
        self.tell("job_finished", job_id=number)


def test_maps_are_counted_by_their_last_stage():
    """Maps are the jobs of one rule; a run without it counts jobs."""
    run = Run(filter=2, sift=2)
    for number, rule in enumerate(["filter", "filter", "sift"]):
        run.start(number, rule)
        run.finish(number)
    assert run.tally.counts() == (1, 2, "maps")
    run = Run(bake=2)
    run.start(0, "bake")
    run.finish(0)
    assert run.tally.counts() == (1, 2, "jobs")


def test_rate_and_time_left():
    """Four filters of 10 s, two at a time, are done; as many and eight sifts are left, of which one took 2 s."""
    run = Run(filter=8, sift=9)
    for pair in (0, 1):
        for number in (0, 1):
            run.start(2 * pair + number, "filter")
        run.clock.seconds += 10.0
        for number in (0, 1):
            run.finish(2 * pair + number)
    run.start(9, "sift")
    run.clock.seconds += 2.0
    run.finish(9)
    assert run.tally.rate_per_min() == pytest.approx(60 / 22)
    at_a_time = (4 * 10.0 + 2.0) / 22.0
    assert run.tally.left_s() == pytest.approx((4 * 10.0 + 8 * 2.0) / at_a_time)


def test_no_time_left_before_there_is_anything_to_tell_it_from():
    """Two jobs are too few."""
    run = Run(filter=8)
    for number in (0, 1):
        run.start(number, "filter")
        run.clock.seconds += 1.0
        run.finish(number)
    assert run.tally.left_s() is None and "left" not in views.summary(run.tally)


def test_jobs_under_way_shorten_the_time_left():
    """Of a job that has run for half its usual time only the other half is left."""
    run = Run(filter=4)
    for number in range(3):
        run.start(number, "filter")
        run.clock.seconds += 10.0
        run.finish(number)
    run.start(3, "filter")
    run.clock.seconds += 5.0
    assert run.tally.left_s() == pytest.approx(5.0)


def test_failed_job_is_told_with_its_log_and_forgotten_when_it_works(tmp_path):
    """The end of the log of a failed job is shown; a retry that succeeds leaves no failure and no double count."""
    log = tmp_path / "a.log"
    log.write_text("".join(f"line {n}\n" for n in range(50)))
    run = Run(sift=1)
    run.start(1, "sift")
    told = run.tell("job_error", jobid=1, rule_name="sift", log=[f"{log} (check log file(s) for error details)"])
    assert told.startswith("failed: sift m1") and "line 49" in told and "line 10" not in told
    assert "1 jobs failed" in views.summary(run.tally)
    run.start(1, "sift")
    run.finish(1)
    assert run.tally.counts()[:2] == (1, 1) and "failed" not in views.summary(run.tally)


def test_warnings_are_told_and_chatter_is_not():
    """Messages below warning, and the errors that repeat a job's, are Snakemake's log's alone."""
    run = Run(sift=1)
    assert run.tell(message="disk is full", level=logging.WARNING) == "disk is full"
    assert run.tell(message="Select jobs to execute...") == ""


@pytest.mark.parametrize(("seconds", "text"), [(8, "8 s"), (61, "1 min 01 s"), (3725, "1 h 02 min")])
def test_spans_read_well(seconds, text):
    """Seconds, minutes or hours, whichever people would say."""
    assert views.span(seconds) == text


def test_lines_come_now_and_then():
    """Away from a terminal a line is written every so often, and one at the end."""
    run, stream = Run(sift=3), io.StringIO()
    view = views.LineView(run.tally, 30.0, stream)
    for _ in range(7):
        run.clock.seconds += 10.0
        view.tell("")
    assert len(stream.getvalue().splitlines()) == 2
    view.close()
    assert stream.getvalue().splitlines()[-1].startswith("0 of 3 maps")


def test_live_view_shows_stages_and_what_runs():
    """On a terminal: a bar for each rule with its count, the jobs that run, and the summary."""
    run = Run(filter=2, sift=2)
    screen = io.StringIO()
    view = views.LiveView(run.tally, Console(file=screen, force_terminal=True, width=100, height=30))
    run.start(0, "filter")
    run.finish(0)
    run.start(1, "filter")
    view.tell("a warning")
    view.live.refresh()
    view.close()
    text = screen.getvalue()
    assert "filter" in text and "1/2" in text and "1 running" in text and "running: filter m1" in text
    assert "a warning" in text and "0 of 2 maps" in text


def snakemake(folder, *arguments, **options):
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--keep-going", "--logger", "sotrp", *arguments]
    plugins = str(Path(views.__file__).parents[1])
    return subprocess.Popen(command, cwd=folder, env=os.environ | {"PYTHONPATH": plugins, "COLUMNS": "100"}, **options)


def test_plugin_beside_snakemakes_messages(tmp_path):
    """Away from a terminal Snakemake's own messages stay, with a line of ours; the exit status is Snakemake's."""
    (tmp_path / "Snakefile").write_text(FLOW)
    done = snakemake(tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    text = done.communicate(timeout=120)[0]
    assert done.returncode == 1 and "rule first:" in text
    assert "5 of 7 jobs" in text


def test_plugin_on_a_terminal(tmp_path):
    """On a real (pseudo) terminal the bars take the place of the messages; the end of a failed job's log is shown."""
    (tmp_path / "Snakefile").write_text(FLOW)
    ours, theirs = pty.openpty()
    done = snakemake(tmp_path, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    screen = []
    reader = threading.Thread(target=_drain, args=(ours, screen))
    reader.start()
    assert done.wait(120) == 1
    reader.join(10)
    os.close(ours)
    text = b"".join(screen).decode(errors="replace")
    assert "3/3" in text and "failed: second 1" in text and "bad luck" in text and "5 of 7 jobs" in text
    assert "reason: Missing output files" not in text


def _drain(terminal, screen):
    try:
        while data := os.read(terminal, 65536):
            screen.append(data)
    except OSError:  # what Linux says when the other end is closed
        pass
