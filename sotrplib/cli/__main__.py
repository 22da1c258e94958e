"""``python -m sotrplib.cli`` is ``sotrp``."""

from sotrplib.cli.commands import main

main(prog_name="sotrp")
