"""One run on a Prefect server: its story, and the sender that tells it."""

import json
from pathlib import Path

from snakemake_logger_plugin_prefect.sender import Sender
from snakemake_logger_plugin_prefect.story import Story

MAX_PARAMETERS_BYTES = 400_000  # Prefect takes 512 kB


class Mirror:
    """Shows one run of Snakemake as one flow run.

    Parameters
    ----------
    settings : LogHandlerSettings
    warn, tell : function of str
        For the one warning that a failing server costs, and for the address of the flow run.
    """

    def __init__(self, settings, *, warn, tell):
        self.settings, self.warn, self.tell = settings, warn, tell
        self.story, self.sender = Story(), None

    def handle(self, record):
        """Take in one log record. The first event of a run creates the flow run."""
        if self.sender is None and str(getattr(record, "event", "")) == "workflow_started":
            self.sender = self._start(record)
        messages = self.story.handle(record)
        if self.sender is not None:
            self.sender.put(messages)

    def close(self):
        """Tell how the run ended."""
        if self.sender is not None:
            messages, kind, sentence = self.story.finish()
            self.sender.put(messages)
            self.sender.finish(kind, sentence)

    def _start(self, record):
        told = {"command": getattr(record, "cmd", ""), "folder": str(Path.cwd())}
        flow_run = {
            "flow": self.settings.flow,
            "name": self.settings.run_name,
            "parameters": told | _read_parameters(self.settings.parameters),
        }
        sender = Sender(flow_run, api_url=self.settings.api_url, warn=self.warn, tell=self.tell)
        sender.start()
        return sender


def _read_parameters(path):
    """Parameters from a YAML or JSON file, by section; the file's name alone where they cannot be had."""
    if path is None:
        return {}
    import yaml

    try:
        text = json.dumps(yaml.safe_load(Path(path).read_text()) or {}, default=str)
    except (OSError, ValueError, yaml.YAMLError):
        return {"parameters": path}
    found = json.loads(text)
    return found if isinstance(found, dict) and len(text) < MAX_PARAMETERS_BYTES else {"parameters": path}
