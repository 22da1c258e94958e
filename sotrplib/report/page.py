"""The page as a whole: what is read, the parts it is made of, and the file.

Nothing on it depends on the clock but the time and memory that the jobs have used, which stand apart.
"""

import logging
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from sotrplib import __version__, plots, store, tables
from sotrplib.report import candidates as cards
from sotrplib.report import checks, coverage, instrument, mapviews, sources, stamps, tonight, words

log = logging.getLogger(__name__)

MAPS_MAX = 60  # maps shown with their figures


class MapFiles(NamedTuple):
    """Files of one map: as filtered, its pointing, its forced photometry and its sifted detections."""

    map: str
    pointing: str
    forced: str
    sifted: str


def write_page(path, frames, files, *, sheets=(), recovery=(), resources=None, gap_s=7200.0):
    """Write the page.

    Parameters
    ----------
    path : path
        Final name; it appears when whole.
    frames : mapping of str to DataFrame
        Tables ``maps``, ``candidates``, ``sources``, ``source_bands`` and ``measurements`` of the merged
        catalogue, ``lightcurves``, and ``catalog``, the known sources.
    files : sequence of MapFiles
        Of every map, failed ones too.
    sheets : sequence of path, optional
        PNG to write for each of ``files``: image and checks of the map.
    recovery : sequence of path
        Files of the rule ``measure_recovery``, of any of the maps.
    resources : list of dict, optional
        Time and memory of jobs, from :func:`resources.read_benchmarks`.
    gap_s : float
        Maps closer in time are one observation.
    """
    text = render(assemble(frames, files, sheets=sheets, recovery=recovery, resources=resources, gap_s=gap_s))
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


def assemble(frames, files, *, sheets=(), recovery=(), resources=None, gap_s=7200.0):
    """Everything the templates show, by the names they use; parameters as in :func:`write_page`."""
    files = [MapFiles(*paths) for paths in files]
    ranked = cards.rank_candidates(frames["candidates"])
    chosen, targets = cards.choose_targets(frames["measurements"], ranked)
    forced = read_forced(files, frames["maps"])
    views = look_at_maps(files, chosen, sheets)
    curves = dict(list(targets.groupby("source_id")))
    carded = {
        row["candidate_id"]: cards.make_card(
            row, curves.get(row["candidate_id"], targets.iloc[:0]), views, (frames["catalog"], forced), gap_s
        )
        for row in ranked.head(cards.CARDS_MAX).to_dict("records")
    }
    covered = coverage.cover_sky([view.footprint for view in views.values()])
    return {
        "version": __version__,
        "tonight": tonight.count_all(frames, covered),
        "maps": tonight.order_maps(frames["maps"]).to_dict("records"),
        "views": views,
        "depth": tonight.depth_by_band(frames["maps"]),
        "sky": tonight.draw_sky(covered, frames["catalog"], ranked, set(carded)),
        "groups": cards.group_by_class(ranked, carded),
        "limits": {"maps": MAPS_MAX, "cards": cards.CARDS_MAX, "cutouts": cards.CUTOUTS_MAX},
        "cutout_arcmin": stamps.CUTOUT_ARCMIN,
        "scale": {"gradient": plots.gradient(), "snr_max": plots.SNR_MAX, "flat": mapviews.FLAT_RANGE},
        "comparisons": compare_fluxes(forced),
        "instrument": instrument.follow(frames["maps"], views),
        "recovery": instrument.judge_recovery(recovery, frames["maps"]),
        "sources": sources.pack_sources(frames, set(carded)),
        "resources": resources or [],
        "columns": {name: {c.name: c for c in tables.SCHEMAS[name]} for name in ("maps", "candidates")},
    }


def look_at_maps(files, targets, sheets=()):
    """View of every map that did not fail, by map_id; figures of the first ``MAPS_MAX``."""
    views = {}
    for k, paths in enumerate(files):
        log.info("map %d of %d: %s", k + 1, len(files), Path(paths.map).stem)
        source_paths = paths.forced, paths.sifted
        options = {"draw": len(views) < MAPS_MAX, "sheet": sheets[k] if sheets else None}
        view = mapviews.view_map(paths.map, paths.pointing, source_paths, targets, **options)
        if view:
            views[view.map_id] = view
    return views


def read_forced(files, table):
    """Forced photometry of all maps and the band of each; parameters as in :func:`write_page`, and its ``maps``."""
    bands = dict(zip(table["map_id"], table["band"], strict=True))
    columns = ["source_id", "flux_mjy", "flux_err_mjy", "catalog_flux_mjy", "flags"]
    parts = [tables.empty("forced")[columns].assign(band="")]
    for paths in files:
        rows = store.read_table(paths.forced, "forced", columns)
        parts.append(rows.assign(band=bands[store.read_attrs(paths.forced)["map_id"]]))
    return pd.concat(parts, ignore_index=True)


def compare_fluxes(forced):
    """Forced against catalogue flux by band: figure, number of sources, median ratio and its error."""
    return [_comparison(band, rows) for band, rows in checks.sure_fluxes(forced).groupby("band")]


def _comparison(band, rows):
    columns = (rows[f"{name}_mjy"].to_numpy() for name in ("catalog_flux", "flux", "flux_err"))
    figure = plots.flux_comparison(*columns, band)
    ratio, ratio_err, n_bright = checks.flux_ratio(rows)
    return {
        "band": band,
        "figure": plots.to_svg(figure, f"fluxes-{band}", f"Forced against catalogue flux in {band}"),
        "n": len(rows),
        "n_bright": n_bright,
        "ratio": ratio,
        "ratio_err": ratio_err,
    }
