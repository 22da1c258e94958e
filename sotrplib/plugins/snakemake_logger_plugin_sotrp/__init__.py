"""``snakemake --logger sotrp``: how far a run is, how fast it goes and how long it will take.

On a terminal a live view takes the place of Snakemake's messages: a bar for each stage, the jobs that run, the rate and
the time left; warnings and the ends of the logs of failed jobs scroll by above it. Elsewhere Snakemake's messages stay,
and a line with the same numbers is added now and then. Snakemake's log file holds everything either way.

Snakemake imports this package at every start, so Rich is imported only when there is something to draw.
"""

import sys
from dataclasses import dataclass, field

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.settings import LogHandlerSettingsBase

from snakemake_logger_plugin_sotrp.tally import Tally


@dataclass
class LogHandlerSettings(LogHandlerSettingsBase):
    """Options ``--logger-sotrp-...``."""

    unit: str = field(default="sift_candidates", metadata={"help": "The rule whose jobs are counted as maps."})
    every_s: int = field(default=30, metadata={"help": "Seconds between lines where there is no terminal."})


class LogHandler(LogHandlerBase):
    """Keeps the tally of a run, and shows it."""

    def __post_init__(self):
        self.tally = Tally(unit=self.settings.unit)
        self.view = None
        self.off = self.common_settings.dryrun
        self.on_terminal = sys.stderr.isatty() and not self.off

    def emit(self, record):
        if self.off:
            return
        try:
            if self.view is None:
                self.view = self._open()
            self.view.tell(self.tally.handle(record))
        except Exception:  # an error here would end all of Snakemake's logging
            self.off = True
            self.handleError(record)

    def close(self):
        if self.view is not None:
            self.view.close()
            self.view = None
            self.off = True  # Snakemake may still say why it stopped
        super().close()

    def _open(self):
        from snakemake_logger_plugin_sotrp import views

        return views.LiveView(self.tally) if self.on_terminal else views.LineView(self.tally, self.settings.every_s)

    @property
    def writes_to_stream(self):
        """Whether this takes the place of Snakemake's own messages."""
        return self.on_terminal

    writes_to_file = False
    has_filter = True
    has_formatter = True
    needs_rulegraph = False
