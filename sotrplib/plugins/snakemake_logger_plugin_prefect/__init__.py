"""``snakemake --logger prefect``: shows a run of any workflow on a Prefect server, live.

One flow run, a task run for each job with its state, dependencies, retries, the end of the log of a failed job, and
links to what jobs wrote. Snakemake never waits for the server: messages are sent from a thread of their own, once a
second. A server that is absent, stops or hangs costs one warning; what it missed is sent when it is back.

Snakemake imports this package at every start, so Prefect is imported only when a run begins.
"""

import logging
from dataclasses import dataclass, field

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.settings import LogHandlerSettingsBase

from snakemake_logger_plugin_prefect.mirror import Mirror

_log = logging.getLogger("snakemake.logging")


@dataclass
class LogHandlerSettings(LogHandlerSettingsBase):
    """Options ``--logger-prefect-...``."""

    api_url: str = field(default=None, metadata={"help": "API of the server; else as Prefect is configured."})
    flow: str = field(default="snakemake", metadata={"help": "Name of the flow."})
    run_name: str = field(default=None, metadata={"help": "Name of the flow run; else one of Prefect's."})
    parameters: str = field(default=None, metadata={"help": "YAML or JSON file with parameters to show."})


class LogHandler(LogHandlerBase):
    """Passes Snakemake's events on to a :class:`Mirror`, which does the rest and never raises or waits."""

    def __post_init__(self):
        self.mirror = None
        self.off = self.common_settings.dryrun

    def emit(self, record):
        if self.off:
            return
        try:
            if self.mirror is None:
                self.mirror = Mirror(self.settings, warn=_log.warning, tell=_log.info)
            self.mirror.handle(record)
        except Exception:  # an error here would end all of Snakemake's logging
            self.off = True
            self.handleError(record)

    def close(self):
        if self.mirror is not None:
            self.mirror.close()
            self.mirror = None
            self.off = True  # Snakemake may still say why it stopped
        super().close()

    writes_to_stream = False
    writes_to_file = False
    has_filter = True
    has_formatter = True
    needs_rulegraph = False
