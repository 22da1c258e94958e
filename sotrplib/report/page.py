"""The page as a whole: what is read, the parts it is made of, and the file.

Nothing on it depends on the clock but the time and memory that the jobs have used, which stand apart.
"""

import logging
import os
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import pandas as pd

from sotrplib import __version__, plots, store, tables, workers
from sotrplib.report import candidates as cards
from sotrplib.report import coverage, fluxes, instrument, mapviews, sources, stamps, tonight, viewfiles, words

log = logging.getLogger(__name__)

MAPS_MAX = 60  # newest maps, shown with their figures
WARNED_MAX = 30  # older maps that are not Gaussian, shown so too
THUMBNAILS_MAX = 1500  # of the rest, maps with a small image


class MapFiles(NamedTuple):
    """Files of one map: as filtered, and what the page shows of it."""

    map: str
    view: str


class Given(NamedTuple):
    """What the page shows beside the tables and maps.

    Parameters
    ----------
    sheets : sequence of path
        PNG with image and checks of each map. Maps without figures on the page link to it.
    recovery : sequence of path
        Files of the rule ``measure_recovery``, of any of the maps.
    resources : sequence of dict
        Time and memory of jobs, from :func:`resources.read_benchmarks`.
    gap_s : float
        Maps closer in time are one observation.
    reference : mapping
        ``freq_ghz`` of the catalogue's fluxes, and the ``spectral_index`` of sources without one.
    """

    sheets: tuple = ()
    recovery: tuple = ()
    resources: tuple = ()
    gap_s: float = 7200.0
    reference: dict = MappingProxyType({"freq_ghz": 90.0, "spectral_index": -0.7})


def write_page(path, frames, files, **given):
    """Write the page.

    Parameters
    ----------
    path : path
        Final name; it appears when whole.
    frames : mapping of str to DataFrame
        Tables ``maps``, ``candidates``, ``counterparts``, ``sources``, ``source_bands`` and ``measurements`` of the
        merged catalogue, ``lightcurves``, and ``catalog``, the known sources.
    files : sequence of MapFiles
        Of every map, failed ones too.
    given
        Of :class:`Given`.
    """
    text = render(assemble(frames, files, Given(**given), folder=Path(path).parent))
    with store.atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def render(content):
    """The page as text, from what :func:`assemble` returned."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(Path(__file__).parent / "templates")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "number": words.format_number,
        "pair": words.format_pair,
        "utc": words.format_utc,
        "chance": words.format_chance,
        "words": lambda name: name.replace("_", " "),
    }
    return environment.get_template("page.html.j2").render(**content)


def assemble(frames, files, given, *, folder):
    """Everything the templates show, by the names they use; parameters as in :func:`write_page`."""
    files = [MapFiles(*paths) for paths in files]
    ranked = cards.rank_candidates(frames["candidates"])
    chosen, targets = cards.choose_targets(frames["measurements"], ranked)
    views = look_at_maps(files, chosen, newest_maps(files, frames["maps"]))
    seen = [paths for paths in files if Path(paths.map).stem in views]
    measured = frames | {"forced": find_forced(frames, seen, ranked)}
    carded = cards.make_cards(ranked, targets, views, measured, given.gap_s)
    footprints = (viewfiles.read_footprint(paths.view) for paths in seen)
    covered = coverage.cover_sky([view.extent for view in views.values()], footprints)
    return {
        "version": __version__,
        "tonight": tonight.count_all(frames, covered),
        "maps": tonight.order_maps(frames["maps"]).to_dict("records"),
        "views": views,
        "sheets": link_sheets(files, given.sheets, folder),
        "depth": tonight.depth_by_band(frames["maps"]),
        "sky": tonight.draw_sky(covered, frames["catalog"], ranked, set(carded)),
        "groups": cards.group_by_class(ranked, carded),
        "limits": {"maps": MAPS_MAX, "cards": cards.CARDS_MAX, "cutouts": cards.CUTOUTS_MAX},
        "cutout_arcmin": stamps.CUTOUT_ARCMIN,
        "scale": {"gradient": plots.gradient(), "snr_max": plots.SNR_MAX, "flat": mapviews.FLAT_RANGE},
        "comparisons": fluxes.compare_fluxes(read_compared(seen, frames["maps"]), frames, given.reference),
        "reference": given.reference,
        "instrument": instrument.follow(frames["maps"], views),
        "recovery": instrument.judge_recovery(given.recovery, frames["maps"]),
        "sources": sources.pack_sources(frames, set(carded)),
        "resources": list(given.resources),
        "columns": {name: {c.name: c for c in tables.SCHEMAS[name]} for name in ("maps", "candidates")},
    }


def newest_maps(files, table):
    """Map ids of the ``MAPS_MAX`` newest of these files that hold no failed map."""
    here = table["map_id"].isin([Path(paths.map).stem for paths in files])
    usable = table[here & (table["status"] == "ok")].sort_values(["time_unix_s", "map_id"])
    return set(usable["map_id"].tail(MAPS_MAX))


def look_at_maps(files, targets, newest):
    """View of every map that did not fail, by map_id: with figures of the newest and of some that are not Gaussian."""
    wanted = dict(list(targets.groupby("map_id")))

    def look(paths):
        view, rows = viewfiles.read_view(paths.view), wanted.get(Path(paths.map).stem)
        if view is None or rows is None:
            return view
        return replace(view, stamps=stamps.cut_from_file(paths.map, rows.to_dict("records"), view.pointing))

    log.info("%d maps, cutouts of %d", len(files), len(wanted))
    with workers.processes(look) as each:
        seen = {view.map_id: view for view in each(files) if view}
    full, small = choose_drawn(seen, newest)
    paths = {Path(one.map).stem: one.view for one in files}
    pictures = {map_id: viewfiles.read_in_full(paths[map_id]) for map_id in full}
    pictures |= {map_id: {"thumbnail": viewfiles.read_thumbnail(paths[map_id])} for map_id in small}
    return {map_id: replace(view, **pictures.get(map_id, {})) for map_id, view in seen.items()}


def choose_drawn(views, newest):
    """Map ids of the maps that are shown in full, and of those shown by a small image.

    The first are ``newest`` and of the rest the first ``WARNED_MAX`` that are not Gaussian, the others the first
    ``THUMBNAILS_MAX`` of what is left.
    """
    warned = [map_id for map_id, view in views.items() if view.warnings and map_id not in newest]
    full = newest & views.keys() | set(warned[:WARNED_MAX])
    return full, [map_id for map_id in views if map_id not in full][:THUMBNAILS_MAX]


def link_sheets(files, sheets, folder):
    """Where the sheet of each map lies, as the page in ``folder`` sees it, by map_id."""
    names = [Path(os.path.relpath(sheet, folder)).as_posix() for sheet in sheets]
    return {Path(paths.map).stem: name for paths, name in zip(files, names, strict=False)}


def find_forced(frames, files, candidates):
    """Forced measurements, in the maps of these files and their order, of the known sources that candidates are."""
    order = {Path(paths.map).stem: k for k, paths in enumerate(files)}
    rows = frames["measurements"]
    rows = rows[(rows["kind"] == "forced") & rows["source_id"].isin(candidates["matched_name"])]
    place = rows["map_id"].map(order)
    return rows.assign(_place=place)[place.notna()].sort_values("_place", kind="stable")[rows.columns]


def read_compared(files, table):
    """Table ``compared`` of all maps and the band of each; ``files`` of maps that did not fail, the table ``maps``."""
    bands = dict(zip(table["map_id"], table["band"], strict=True))
    parts = [tables.empty("compared").assign(band="")]
    parts += [viewfiles.read_compared(paths.view).assign(band=bands[Path(paths.map).stem]) for paths in files]
    return pd.concat(parts, ignore_index=True)
