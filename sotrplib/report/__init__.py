"""One self-contained HTML page of what a run found: its maps, candidates and sources, and how far to trust them.

:mod:`mapviews` makes what it shows of each map, and :mod:`page` the page of these. Nothing is imported here: every
change of the page would make the jobs of maps again.
"""
