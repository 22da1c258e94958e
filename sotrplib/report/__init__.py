"""One self-contained HTML page of what a run found: its maps, candidates and sources, and how far to trust them."""

from sotrplib.report.page import assemble, render, write_page
from sotrplib.report.resources import read_benchmarks

__all__ = ["assemble", "read_benchmarks", "render", "write_page"]
