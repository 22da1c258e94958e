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
from sotrplib.report import coverage, fluxes, instrument, mapviews, sources, stamps, tonight, words

log = logging.getLogger(__name__)

MAPS_MAX = 60  # newest maps, shown with their figures
WARNED_MAX = 30  # older maps that are not Gaussian, shown so too
THUMBNAILS_MAX = 1500  # of the rest, maps with a small image


class MapFiles(NamedTuple):
    """Files of one map: as filtered, its pointing, its forced photometry and its sifted detections."""

    map: str
    pointing: str
    forced: str
    sifted: str


class Given(NamedTuple):
    """What the page shows beside the tables and maps.

    Parameters
    ----------
    sheets : sequence of path
        PNG to write for each file of a map: image and checks. Maps without figures on the page link to it.
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
    forced = read_forced(files, frames["maps"])
    views = look_at_maps(files, chosen, given.sheets, newest_maps(files, frames["maps"]))
    carded = cards.make_cards(ranked, targets, views, frames | {"forced": forced}, given.gap_s)
    covered = coverage.cover_sky([view.footprint for view in views.values()])
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
        "comparisons": fluxes.compare_fluxes(forced, frames, given.reference),
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


def look_at_maps(files, targets, sheets, newest):
    """View of every map that did not fail, by map_id: figures of the newest and of some that are not Gaussian."""
    views, n_warned, n_small, start = {}, 0, 0, 0

    def look(given):
        k, draw = given
        paths, sheet = files[k], sheets[k] if sheets else None
        log.info("map %d of %d: %s", k + 1, len(files), Path(paths.map).stem)
        sources = paths.forced, paths.sifted
        return mapviews.view_map(paths.map, paths.pointing, sources, targets, draw=draw, sheet=sheet)

    with workers.processes(look) as each:
        while start < len(files):  # no more of them together than may be drawn if all are not Gaussian
            others = mapviews.Draw.IF_WARNED if n_warned < WARNED_MAX else mapviews.Draw.SMALL
            some = range(len(files))[start:][: WARNED_MAX - n_warned or None]
            drawn = [mapviews.Draw.ALL if Path(files[k].map).stem in newest else others for k in some]
            seen = zip(drawn, each(zip(some, drawn, strict=True)), strict=True)
            for draw, view in [pair for pair in seen if pair[1]]:
                views[view.map_id] = view if n_small < THUMBNAILS_MAX else replace(view, thumbnail="")
                n_warned += draw is mapviews.Draw.IF_WARNED and bool(view.images)
                n_small += bool(view.thumbnail)
            start = some.stop
    return views


def link_sheets(files, sheets, folder):
    """Where the sheet of each map lies, as the page in ``folder`` sees it, by map_id."""
    names = [Path(os.path.relpath(sheet, folder)).as_posix() for sheet in sheets]
    return {Path(paths.map).stem: name for paths, name in zip(files, names, strict=False)}


def read_forced(files, table):
    """Forced photometry of all maps and the band of each; parameters as in :func:`write_page`, and its ``maps``."""
    bands = dict(zip(table["map_id"], table["band"], strict=True))
    columns = ["source_id", "flux_mjy", "flux_err_mjy", "catalog_flux_mjy", "flags"]
    parts = [tables.empty("forced")[columns].assign(band="")]
    for paths in files:
        rows = store.read_table(paths.forced, "forced", columns)
        parts.append(rows.assign(band=bands[store.read_attrs(paths.forced)["map_id"]]))
    return pd.concat(parts, ignore_index=True)
