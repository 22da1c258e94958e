"""The ``sotrp`` command: run the workflow, check and convert configurations, look into what came of it."""

from sotrplib.cli.commands import main, main_prefect

__all__ = ["main", "main_prefect"]
