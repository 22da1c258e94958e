"""One self-contained HTML page of what a run found: its maps, its candidates, its sources.

Nothing on it depends on the clock.
"""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from sotrplib import __version__, exports, geometry, mapviews, plots, store, tables, variability

CLASSES = {
    "transient": "not catalogued, and not seen to be steady",
    "flare": "catalogued, and brighter than the catalogue says",
    "new_source": "not catalogued, and steady over two observations or more",
    "moving": "at the predicted position of a moving object",
    "artefact": "contradicted: other maps should have seen it and did not",
}
CARDS_MAX = 60  # candidates shown with their figures
MAPS_MAX = 60  # maps shown with their figures
SOURCES_MAX = 50_000
_BAND_COLUMNS = {
    "mean_flux_mjy": ("flux [mJy]", 1),
    "mean_flux_err_mjy": ("±", 1),
    "eta": ("η", 2),
    "v": ("V", 3),
    "p_constant": ("p", None),
}  # title and decimals
_UNSURE = tables.flag("NO_DATA", "MASKED", "NEAR_EDGE", "BLENDED", "NEAR_BRIGHT")


def write_page(path, frames, files):
    """Write the page.

    Parameters
    ----------
    path : path
        Final name; it appears when whole.
    frames : mapping of str to DataFrame
        Tables ``maps``, ``candidates``, ``sources``, ``source_bands`` and ``measurements`` of the merged
        catalogue, and ``catalog``, the known sources.
    files : sequence of (path, path, path, path)
        Of every map, failed ones too: the filtered map, its pointing, its forced photometry and its sifted detections.
    """
    text = render(assemble(frames, files))
    with store.atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def render(content):
    """The page as text, from what :func:`assemble` returned."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(Path(__file__).parent / "templates")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": format_number, "pair": format_pair, "utc": format_utc}
    environment.filters["words"] = lambda name: name.replace("_", " ")
    return environment.get_template("report.html.j2").render(**content)


def assemble(frames, files):
    """Everything the template shows, by the names it uses; parameters as in :func:`write_page`."""
    ranked = rank_candidates(frames["candidates"])
    confirming = frames["measurements"].query("kind == 'confirm'").drop_duplicates(["source_id", "map_id"])
    targets = confirming[confirming["source_id"].isin(ranked["candidate_id"].head(CARDS_MAX))]
    forced = read_forced(files, frames["maps"])
    views = {}
    for k, (map_path, pointing_path, *source_paths) in enumerate(files):
        view = mapviews.view_map(map_path, pointing_path, source_paths, targets, draw=k < MAPS_MAX)
        if view:
            views[view.map_id] = view
    cards = [
        _card(row, targets[targets["source_id"] == row["candidate_id"]], views, (frames["catalog"], forced))
        for row in ranked.head(CARDS_MAX).to_dict("records")
    ]
    carded = {card["candidate_id"]: card for card in cards}
    coverage = mapviews.cover_sky([view.footprint for view in views.values()])
    return {
        "version": __version__,
        "tonight": _tonight(frames, coverage),
        "maps": _order_maps(frames["maps"]).to_dict("records"),
        "views": views,
        "maps_max": MAPS_MAX,
        "depth": _depth(frames["maps"]),
        "sky": _draw_sky(coverage, frames["catalog"], ranked, set(carded)),
        "groups": _groups(ranked, carded),
        "cards_max": CARDS_MAX,
        "cutout_arcmin": mapviews.CUTOUT_ARCMIN,
        "scale": {"gradient": plots.snr_gradient(), "snr_max": plots.SNR_MAX},
        "comparisons": compare_fluxes(forced),
        "sources": _source_rows(frames, set(carded)),
        "columns": {name: {c.name: c for c in tables.SCHEMAS[name]} for name in ("maps", "candidates")},
    }


def rank_candidates(candidates):
    """Candidates in the order of the page: by class, confirmed ones first, by falling combined SNR."""
    order = {name: k for k, name in enumerate(CLASSES)}
    keys = candidates.assign(
        _class=candidates["class"].map(order).astype(float), _unconfirmed=~candidates["confirmed"].astype(bool),
        _snr=-candidates["combined_snr"].fillna(candidates["max_snr"]),
    )  # fmt: skip
    ranked = keys.sort_values(["_class", "_unconfirmed", "_snr", "candidate_id"], kind="stable", ignore_index=True)
    return ranked[candidates.columns]


# ---- maps -------------------------------------------------------------------------------------------


def _order_maps(table):
    """Failed maps first, then by time."""
    keys = table.assign(_ok=table["status"] == "ok")
    return keys.sort_values(["_ok", "time_unix_s", "map_id"], kind="stable", ignore_index=True)[table.columns]


def _depth(table):
    """Number of maps, area and flux error by band."""
    groups = table[table["status"] == "ok"].groupby("band")
    return [
        {
            "band": band, "n_maps": len(rows), "area": float(rows["area_deg2"].sum()),
            "median": float(rows["flux_err_mjy"].median()),
            "best": float(rows["flux_err_mjy"].min()), "worst": float(rows["flux_err_mjy"].max()),
        }
        for band, rows in groups
    ]  # fmt: skip


def _draw_sky(coverage, catalog, ranked, carded):
    if coverage is None:
        return ""
    x = np.mod(catalog["ra_deg"] - coverage["ra0_deg"] + 180, 360) - 180
    inside = x.between(*coverage["x_deg"][[0, -1]]) & catalog["dec_deg"].between(*coverage["dec_deg"][[0, -1]])
    links = [f"#{name}" if name in carded else "#candidates" for name in ranked["candidate_id"]]
    figure = plots.sky(coverage, catalog[inside], ranked, links)
    return plots.to_svg(
        figure, "sky", f"Sky map in RA and Dec: coverage, {inside.sum()} sources, {len(ranked)} candidates"
    )


# ---- candidates -------------------------------------------------------------------------------------


def _tonight(frames, coverage):
    table, candidates = frames["maps"], frames["candidates"]
    time = table["time_unix_s"].dropna()
    classes = [
        {"name": name, "n": int(chosen.sum()), "confirmed": int((chosen & candidates["confirmed"]).sum())}
        for name in CLASSES
        for chosen in [candidates["class"] == name]
    ]
    return {
        "n_ok": int((table["status"] == "ok").sum()),
        "n_failed": int((table["status"] != "ok").sum()),
        "n_sources": len(frames["sources"])
        - int(frames["sources"]["source_id"].isin(candidates["candidate_id"]).sum()),
        "n_measurements": len(frames["measurements"]),
        "area_deg2": coverage["area_deg2"] if coverage else 0.0,
        "first": float(time.min()) if len(time) else np.nan,
        "last": float(time.max()) if len(time) else np.nan,
        "classes": classes,
    }


def _groups(ranked, carded):
    """Candidates by class, with the cards of those that have one."""
    groups = []
    for name, meaning in CLASSES.items():
        rows = ranked[ranked["class"] == name].to_dict("records")
        cards = [carded[row["candidate_id"]] for row in rows if row["candidate_id"] in carded]
        groups.append({"name": name, "meaning": meaning, "rows": rows, "cards": cards})
    return groups


def _card(candidate, curve, views, known):
    """Light curve, cutouts and neighbours of one candidate; ``known`` are the catalogue and the forced fluxes."""
    catalog, forced = known
    name = candidate["candidate_id"]
    curve = curve.sort_values(["time_unix_s", "map_id"], kind="stable")
    usable = curve[variability.usable(curve)]
    match = forced[forced["source_id"] == candidate["matched_name"]]
    steady = match.drop_duplicates("band").set_index("band")["catalog_flux_mjy"].to_dict()
    figure = plots.light_curve(usable, steady=steady) if len(usable) else None
    cutouts = [
        row | {"image": views[row["map_id"]].cutouts[name]}
        for row in curve.to_dict("records")
        if row["map_id"] in views
    ]
    return candidate | {
        "light_curve": plots.to_svg(figure, f"curve-{name}", f"Light curve of {name}") if figure else "",
        "cutouts": cutouts,
        "neighbours": [] if candidate["class"] == "moving" else find_neighbours(candidate, catalog),
        "sexagesimal": _sexagesimal(candidate["ra_deg"], candidate["dec_deg"]),
    }


def find_neighbours(position, catalog):
    """Known sources in the cutout around a position: list of name, east and north (arcmin)."""
    near = catalog[(catalog["dec_deg"] - position["dec_deg"]).abs() * 60 < mapviews.CUTOUT_ARCMIN / 2]
    offsets = geometry.tangent_offsets(
        near["ra_deg"].to_numpy(), near["dec_deg"].to_numpy(), position["ra_deg"], position["dec_deg"]
    )
    found = zip(near["source_name"], *(np.round(offset / 60, 3).tolist() for offset in offsets), strict=True)
    return [{"name": n, "east": e, "north": u} for n, e, u in found if max(abs(e), abs(u)) < mapviews.CUTOUT_ARCMIN / 2]


def _sexagesimal(ra_deg, dec_deg):
    from astropy.coordinates import SkyCoord

    return SkyCoord(ra_deg, dec_deg, unit="deg").to_string("hmsdms", sep=":", precision=1)


# ---- sources ----------------------------------------------------------------------------------------


def read_forced(files, table):
    """Forced photometry of all maps and the band of each; parameters as in :func:`write_page`, and its ``maps``."""
    bands = dict(zip(table["map_id"], table["band"], strict=True))
    columns = ["source_id", "flux_mjy", "flux_err_mjy", "catalog_flux_mjy", "flags"]
    parts = [tables.empty("forced")[columns].assign(band="")]
    for _, _, path, _ in files:
        parts.append(store.read_table(path, "forced", columns).assign(band=bands[store.read_attrs(path)["map_id"]]))
    return pd.concat(parts, ignore_index=True)


def compare_fluxes(forced):
    """Forced against catalogue flux by band: figure, number of sources, median ratio and its error.

    Parameters
    ----------
    forced : pandas.DataFrame
        From :func:`read_forced`; used are measurements above 5 sigma without a flag that makes them unsure.
    """
    sure = (forced["flags"].to_numpy("u4") & np.uint32(_UNSURE)) == 0
    rows = forced[sure & (forced["flux_mjy"] > 5 * forced["flux_err_mjy"]) & (forced["catalog_flux_mjy"] > 0)]
    return [_comparison(band, group) for band, group in rows.groupby("band")]


def _comparison(band, rows):
    catalog_flux, flux, flux_err = (rows[f"{name}_mjy"].to_numpy() for name in ("catalog_flux", "flux", "flux_err"))
    bright = flux > 10 * flux_err
    ratio = flux[bright] / catalog_flux[bright]
    spread = np.subtract(*np.percentile(ratio, [84.135, 15.865])) / 2 if len(ratio) else np.nan
    figure = plots.flux_comparison(catalog_flux, flux, flux_err, band)
    return {
        "band": band,
        "figure": plots.to_svg(figure, f"fluxes-{band}", f"Forced against catalogue flux in {band}"),
        "n": len(rows),
        "n_bright": len(ratio),
        "ratio": float(np.median(ratio)) if len(ratio) else np.nan,
        "ratio_err": 1.2533 * spread / max(len(ratio), 1) ** 0.5,
    }


def _source_rows(frames, carded):
    """Head and rows of the table of sources, for the script in the page."""
    measured = frames["measurements"].query("kind != 'blind'")
    best = measured.groupby("source_id")["snr"].max()
    wide, _ = exports.wide_sources(frames["sources"], frames["source_bands"])
    own = (
        wide["source_name"] + " (" + wide["source_id"] + ")"
    )  # a flaring source is there twice: itself and as candidate
    shown = wide["source_name"].where(~wide["source_id"].isin(frames["candidates"]["candidate_id"]), own)
    shown = shown.where(wide["source_name"] != wide["source_id"], wide["source_id"])
    wide = wide.assign(max_snr=wide["source_id"].map(best).astype(float), shown_name=shown)
    wide = wide.sort_values(["max_snr", "source_id"], ascending=[False, True], ignore_index=True).head(SOURCES_MAX)
    head, columns = _source_columns(wide, frames["source_bands"])
    return {
        "head": head,
        "rows": [list(row) for row in zip(*columns, strict=True)],
        "links": [name if name in carded else "" for name in wide["source_id"]],
        "n_all": len(frames["sources"]),
    }


def _source_columns(wide, source_bands):
    """Name, explanation and decimals of each column (none: two digits), and its values as plain numbers and text."""
    schema = {c.name: c.description for c in (*tables.SCHEMAS["sources"], *tables.SCHEMAS["source_bands"])}
    columns = [
        ("Source", schema["source_name"], None, wide["shown_name"].tolist()),
        ("RA", schema["ra_deg"], 5, wide["ra_deg"]),
        ("Dec", schema["dec_deg"], 5, wide["dec_deg"]),
        ("n", schema["n_measurements"], 0, wide["n_measurements"]),
        ("max SNR", "largest signal to noise ratio of one measurement", 1, wide["max_snr"]),
    ]
    for band, rows in source_bands.groupby("band"):
        aligned = rows.set_index("source_id").reindex(wide["source_id"])
        for name, (title, decimals) in _BAND_COLUMNS.items():
            columns.append((f"{band} {title}", schema[name], decimals, aligned[name]))
    head = [{"name": name, "about": about, "decimals": decimals} for name, about, decimals, _ in columns]
    return head, [columns[0][-1], *(_rounded(values, decimals) for *_, decimals, values in columns[1:])]


def _rounded(values, decimals):
    """Plain numbers with so many decimals, or with two digits; None where there is none."""
    digits = "%.1e" if decimals is None else f"%.{decimals}f"
    return [float(digits % value) if np.isfinite(value) else None for value in values]


# ---- words ------------------------------------------------------------------------------------------


def format_number(value, digits=3):
    """A number to ``digits`` significant digits (all of a whole number's), a dash where there is none."""
    if isinstance(value, (bool, np.bool_, int, np.integer)):
        return str(int(value))
    if not np.isfinite(value):
        return "–"
    text = f"{value:.{digits}g}" if abs(value) < 10**digits else f"{value:.0f}"
    return (f"{value:.1e}" if "e" in text else text).replace("-", "−")


def format_pair(value, error):
    """A number and its error, as many decimals as give the error two digits; a dash where there is no number."""
    if not np.isfinite(value):
        return "–"
    decimals = int(np.clip(1 - np.floor(np.log10(error)), 0, 9)) if np.isfinite(error) and error > 0 else 1
    return f"{value:.{decimals}f} ± {error:.{decimals}f}".replace("-", "−")


def format_utc(time_unix_s):
    """Unix seconds as a date and time, a dash where there are none."""
    if not np.isfinite(time_unix_s):
        return "–"
    return datetime.fromtimestamp(round(time_unix_s), UTC).strftime("%Y-%m-%d %H:%M")
