"""The ``sotrp`` command: run the workflow, check and convert configurations, look into what came of it."""

from sotrplib.cli.commands import main

__all__ = ["main"]
