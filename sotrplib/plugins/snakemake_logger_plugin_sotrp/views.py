"""The tally of a run on a terminal, or as lines."""

import sys


class LineView:
    """A line now and then; failures are Snakemake's to tell.

    Parameters
    ----------
    tally : Tally
    every_s : float
        Seconds between lines.
    stream : text file, optional
    """

    def __init__(self, tally, every_s, stream=None):
        self.tally, self.every_s, self.stream = tally, every_s, stream or sys.stderr
        self.last_s = 0.0

    def tell(self, _text):
        """Write a line if it is time."""
        if self.tally.elapsed_s() - self.last_s >= self.every_s:
            self._write()

    def close(self):
        """Write a last line."""
        if self.tally.totals:
            self._write()

    def _write(self):
        self.last_s = self.tally.elapsed_s()
        self.stream.write(f"{summary(self.tally)}\n")
        self.stream.flush()


class LiveView:
    """Bars that move, drawn four times a second by a thread of Rich's."""

    def __init__(self, tally, console=None):
        from rich.console import Console
        from rich.live import Live

        self.tally = tally
        self.console = console or Console(stderr=True)
        self.live = Live(get_renderable=self._draw, console=self.console, refresh_per_second=4, transient=True)
        self.live.start()

    def tell(self, text):
        """Print text above the bars."""
        if text:
            self.console.print(text, markup=False, highlight=False)

    def close(self):
        """Take the bars away and leave one line."""
        self.live.stop()
        if self.tally.totals:
            self.console.print(summary(self.tally), markup=False, highlight=False)

    def _draw(self):
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        if not self.tally.totals:
            return Text("")
        grid = Table.grid(padding=(0, 2))
        for justify in ("left", "left", "right", "left"):
            grid.add_column(justify=justify, no_wrap=True)
        active = [job.rule for job in list(self.tally.running.values())]
        for rule, total in list(self.tally.totals.items()):
            done, now = self.tally.done[rule], active.count(rule)
            style = "dim" if done == total else "bold" if now else ""
            bar = ProgressBar(total, done, 30, complete_style="green", finished_style="dim green")
            grid.add_row(Text(rule, style), bar, Text(f"{done}/{total}", style), f"{now} running" if now else "")
        names = [job.name for job in list(self.tally.running.values())[:6]]
        running = Text("running: " + ", ".join(names), "dim", no_wrap=True, overflow="ellipsis") if names else Text("")
        return Group(grid, running, Text(summary(self.tally), "bold"))


def summary(tally):
    """One line: maps done, rate, time gone and left, jobs that failed."""
    done, total, name = tally.counts()
    parts = [f"{done} of {total} {name}", f"{tally.rate_per_min():.1f} a minute", f"{span(tally.elapsed_s())} gone"]
    left = tally.left_s()
    if left is not None and tally.done.total() < tally.totals.total():
        parts.append(f"about {span(left)} left")
    if tally.failed:
        parts.append(f"{len(tally.failed)} jobs failed")
    return ", ".join(parts)


def span(seconds):
    """A time span in the units that people use for it."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
