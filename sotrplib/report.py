"""One self-contained HTML page of what a run found: its maps, its candidates, its sources.

Every map is read once; from it come its image and histogram, its part of the sky, and the cutouts around the
candidates it covers. Nothing on the page depends on the clock.
"""

import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from sotrplib import __version__, exports, geometry, maps, plots, pointing, store, subtraction, tables, variability

log = logging.getLogger(__name__)

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
CUTOUT_ARCMIN = 10.0
_CUTOUT_STEP_ARCMIN = 0.25
_IMAGE_PIXELS = 600  # longest side of the image of a map
_EDGES = np.arange(-8.0, 8.01, 0.25)
_UNSURE = tables.flag("NO_DATA", "MASKED", "NEAR_EDGE", "BLENDED", "NEAR_BRIGHT")


@dataclass(frozen=True, eq=False)
class MapView:
    """What the page shows of one map: its image, histogram and part of the sky, and cutouts by candidate."""

    map_id: str
    image: str
    shape_arcmin: tuple
    histogram: str
    warnings: list
    footprint: tuple  # usable blocks of pixels (boolean), pixels a block, WCS
    cutouts: dict = field(default_factory=dict)


def write_page(path, frames, files):
    """Write the page.

    Parameters
    ----------
    path : path
        Final name; it appears when whole.
    frames : mapping of str to DataFrame
        Tables ``maps``, ``candidates``, ``sources``, ``source_bands`` and ``measurements`` of the merged
        catalogue, and ``catalog``, the known sources.
    files : sequence of (path, path, path)
        Of every map, failed ones too: the filtered map, its pointing and its forced photometry.
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
    environment.filters |= {"number": format_number, "utc": format_utc, "words": lambda name: name.replace("_", " ")}
    return environment.get_template("report.html.j2").render(**content)


def assemble(frames, files):
    """Everything the template shows, by the names it uses; parameters as in :func:`write_page`."""
    ranked = rank_candidates(frames["candidates"])
    confirming = frames["measurements"].query("kind == 'confirm'").drop_duplicates(["source_id", "map_id"])
    targets = confirming[confirming["source_id"].isin(ranked["candidate_id"].head(CARDS_MAX))]
    views = {}
    for k, paths in enumerate(files):
        view = view_map(*paths, targets, draw=k < MAPS_MAX)
        if view:
            views[view.map_id] = view
    cards = [
        _card(row, targets[targets["source_id"] == row["candidate_id"]], views, frames["catalog"])
        for row in ranked.head(CARDS_MAX).to_dict("records")
    ]
    carded = {card["candidate_id"]: card for card in cards}
    coverage = cover_sky([view.footprint for view in views.values()])
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
        "cutout_arcmin": CUTOUT_ARCMIN,
        "scale": {"gradient": plots.snr_gradient(), "snr_max": plots.SNR_MAX},
        "comparisons": compare_fluxes(files, frames["maps"]),
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


def view_map(map_path, pointing_path, forced_path, targets, *, draw=True):
    """Look at one map.

    Parameters
    ----------
    map_path, pointing_path, forced_path : path
        Files of the stages.
    targets : pandas.DataFrame
        Rows of ``measurements``; cutouts are made of those in this map.
    draw : bool, default True
        Whether to make the image and the histogram.

    Returns
    -------
    MapView or None
        None for a failed map.
    """
    attrs = store.read_attrs(map_path)
    if attrs.get("status") == "failed":
        return None
    sky_map = maps.read_sky_map(map_path)
    model = _pointing_model(pointing_path)
    snr, good = maps.snr(sky_map), (sky_map.mask == 0) & (sky_map.kappa > 0)
    residual = _residual_snr(sky_map, model, forced_path)[good]
    factor = max(-(-max(snr.shape) // _IMAGE_PIXELS), 1)
    scales = [float(np.mean(s)) for s in geometry.pixel_scales(snr.shape, sky_map.wcs)]
    wanted = targets[targets["map_id"] == sky_map.info.map_id].to_dict("records")
    return MapView(
        map_id=sky_map.info.map_id,
        image=_map_image(snr, good, factor, sky_map.wcs) if draw else "",
        shape_arcmin=tuple(n * scale for n, scale in zip(snr.shape, scales, strict=True)),
        histogram=_histogram(snr[good], residual, sky_map.info.map_id) if draw else "",
        warnings=judge_noise(residual),
        footprint=(_blocks(good, factor, np.any), factor, sky_map.wcs),
        cutouts={row["source_id"]: plots.snr_image(cut_out(snr, sky_map.wcs, row, model)) for row in wanted},
    )


def judge_noise(residual_snr):
    """What is not Gaussian about the SNR of a map without its known sources, in words; empty if nothing is.

    Parameters
    ----------
    residual_snr : array (n,)
        Of the usable pixels.
    """
    if not len(residual_snr):
        return ["no usable pixel"]
    low, high = np.percentile(residual_snr, [15.865, 84.135])
    std, n_low = (high - low) / 2, int(np.count_nonzero(residual_snr < -5))
    words = [f"the noise is {std:.2f} times the stated error"] if abs(std - 1) > 0.1 else []
    if n_low > max(1e-5 * len(residual_snr), 10):
        words.append(f"{n_low} pixels lie below -5 sigma, {2.87e-7 * len(residual_snr):.2g} are expected")
    return words


def cut_out(snr, wcs, position, model):
    """SNR around a position, north up and east to the left, nearest pixels, NaN outside.

    Parameters
    ----------
    snr : array (ny, nx)
    wcs : astropy.wcs.WCS
    position : mapping
        ra_deg and dec_deg on the sky; the image is moved by the map's pointing offset there.
    model : pointing.PointingModel
    """
    half = CUTOUT_ARCMIN / 2 - _CUTOUT_STEP_ARCMIN / 2
    axis = np.arange(-half, half + 1e-6, _CUTOUT_STEP_ARCMIN) * 60
    dra, ddec = pointing.evaluate(model, position["ra_deg"], position["dec_deg"])[:2]
    north, east = np.meshgrid(-axis + ddec, -axis + dra, indexing="ij")
    y, x = geometry.sky2pix(wcs, *geometry.offset_position(position["ra_deg"], position["dec_deg"], east, north))
    inside = geometry.inside(snr.shape, y, x)
    image = np.full(y.shape, np.nan, np.float32)
    image[inside] = snr[np.rint(y[inside]).astype(int), np.rint(x[inside]).astype(int)]
    return image


def _pointing_model(path):
    attrs = store.read_attrs(path)
    return pointing.from_dict(attrs["pointing"]) if "pointing" in attrs else pointing.PointingModel()


def _residual_snr(sky_map, model, forced_path):
    """SNR of a map minus its known sources, as measured."""
    forced = store.read_table(forced_path, "forced", ["ra_deg", "dec_deg", "flux_mjy"])
    dra, ddec = pointing.evaluate(model, forced["ra_deg"].to_numpy(), forced["dec_deg"].to_numpy())[:2]
    ra, dec = geometry.offset_position(forced["ra_deg"].to_numpy(), forced["dec_deg"].to_numpy(), dra, ddec)
    y, x = geometry.sky2pix(sky_map.wcs, ra, dec)
    flux = forced["flux_mjy"].to_numpy()
    rho = subtraction.subtract_sources(sky_map.rho, sky_map.kappa, y, x, flux, sky_map.template)
    return np.divide(rho, np.sqrt(sky_map.kappa), out=np.full_like(rho, np.nan), where=sky_map.kappa > 0)


def _histogram(values, residual, map_id):
    ends = _EDGES[0], np.nextafter(_EDGES[-1], 0)
    counts = [np.histogram(np.clip(v, *ends), _EDGES)[0] for v in (values, residual)]
    figure = plots.snr_histogram(_EDGES, *counts)
    return plots.to_svg(figure, f"histogram-{map_id}", f"Histogram of the SNR of {map_id} and the unit Gaussian")


def _blocks(image, factor, reduce, fill=False):
    """Image of blocks of ``factor`` times ``factor`` pixels."""
    if factor == 1:
        return image
    padding = [(0, -n % factor) for n in image.shape]
    padded = np.pad(image, padding, constant_values=fill)
    shape = padded.shape[0] // factor, factor, padded.shape[1] // factor, factor
    return reduce(padded.reshape(shape), axis=(1, 3))


def _map_image(snr, good, factor, wcs):
    """Image of a map, the pixel farthest from 0 standing for its block; north up, east to the left."""
    high = _blocks(np.nan_to_num(snr, nan=-np.inf), factor, np.max, -np.inf)
    low = _blocks(np.nan_to_num(snr, nan=np.inf), factor, np.min, np.inf)
    image = np.where(high > -low, high, low)
    image = np.where(np.isfinite(image), image, np.nan)
    masked = np.isfinite(image) & ~_blocks(good, factor, np.any)
    y, x = ((n - 1) / 2 for n in snr.shape)
    ra, dec = geometry.pix2sky(wcs, np.array([y, y + 1, y]), np.array([x, x, x + 1]))
    east, north = geometry.tangent_offsets(ra[1:], dec[1:], ra[0], dec[0])
    turn = slice(None, None, -1 if north[0] > 0 else 1), slice(None, None, -1 if east[1] > 0 else 1)
    return plots.snr_image(image[turn], masked[turn])


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


# ---- the sky ----------------------------------------------------------------------------------------


def cover_sky(footprints):
    """Number of maps that cover each cell of a grid in RA and Dec.

    Parameters
    ----------
    footprints : list of (array (ny, nx) bool, int, astropy.wcs.WCS)
        Usable blocks of pixels of each map, the pixels along a block, the WCS of the pixels.

    Returns
    -------
    dict or None
        ra0_deg, x_deg (edges, RA minus ra0), dec_deg (edges), count (n_dec, n_x) and area_deg2, the area that any map
        covers; None where no map covers anything.
    """
    ra, dec = (np.concatenate(v) for v in zip(*map(_block_centres, footprints), strict=True)) if footprints else ([], [])
    if not len(ra):
        return None
    ra0 = middle_ra(ra)
    x = np.mod(ra - ra0 + 180, 360) - 180
    stretch = max(np.cos(np.radians(dec.mean())), 0.1)
    cell = max(np.ptp(x) * stretch, np.ptp(dec), 0.5) / 400
    x_edges = _edges(x, cell / stretch, 180)
    dec_edges = _edges(dec, cell, 90)
    grid = np.meshgrid((dec_edges[1:] + dec_edges[:-1]) / 2, (x_edges[1:] + x_edges[:-1]) / 2 + ra0, indexing="ij")
    count = sum(_covered(blocks, factor, wcs, *grid).astype(int) for blocks, factor, wcs in footprints)
    heights = np.degrees(np.diff(np.sin(np.radians(dec_edges))))
    area = float(np.sum((count > 0) * heights[:, None] * np.diff(x_edges)))
    return {"ra0_deg": ra0, "x_deg": x_edges, "dec_deg": dec_edges, "count": count, "area_deg2": area}


def middle_ra(ra_deg):
    """RA opposite to the middle of the widest gap between RAs: the middle of a figure that cuts none of them."""
    ra = np.sort(np.mod(ra_deg, 360))
    gaps = np.diff(np.append(ra, ra[0] + 360))
    widest = int(np.argmax(gaps))
    return float(np.mod(ra[widest] + gaps[widest] / 2 + 180, 360))


def _block_centres(footprint):
    blocks, factor, wcs = footprint
    i, j = np.nonzero(blocks)
    ra, dec = geometry.pix2sky(wcs, (i + 0.5) * factor - 0.5, (j + 0.5) * factor - 0.5)
    on_sky = np.isfinite(ra + dec)
    return ra[on_sky], dec[on_sky]


def _edges(values, cell, limit):
    low, high = max(values.min() - 8 * cell, -limit), min(values.max() + 8 * cell, limit)
    return np.linspace(low, high, max(int((high - low) / cell), 1) + 1)


def _covered(blocks, factor, wcs, dec, ra):
    y, x = geometry.sky2pix(wcs, geometry.wrap_ra(ra), dec)
    i, j = np.floor((y + 0.5) / factor), np.floor((x + 0.5) / factor)
    inside = (i >= 0) & (i < blocks.shape[0]) & (j >= 0) & (j < blocks.shape[1])
    covered = np.zeros(y.shape, bool)
    covered[inside] = blocks[i[inside].astype(int), j[inside].astype(int)]
    return covered


def _draw_sky(coverage, catalog, ranked, carded):
    if coverage is None:
        return ""
    x = np.mod(catalog["ra_deg"] - coverage["ra0_deg"] + 180, 360) - 180
    inside = x.between(*coverage["x_deg"][[0, -1]]) & catalog["dec_deg"].between(*coverage["dec_deg"][[0, -1]])
    links = [f"#{name}" if name in carded else "#candidates" for name in ranked["candidate_id"]]
    figure = plots.sky(coverage, catalog[inside], ranked, links)
    return plots.to_svg(figure, "sky", f"Sky map in RA and Dec: coverage, {inside.sum()} sources, {len(ranked)} candidates")


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
        "n_sources": len(frames["sources"]) - int(frames["sources"]["source_id"].isin(candidates["candidate_id"]).sum()),
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


def _card(candidate, curve, views, catalog):
    """Light curve, cutouts and neighbours of one candidate."""
    name = candidate["candidate_id"]
    curve = curve.sort_values(["time_unix_s", "map_id"], kind="stable")
    usable = curve[variability.usable(curve)]
    figure = plots.light_curve(usable) if len(usable) else None
    cutouts = [row | {"image": views[row["map_id"]].cutouts[name]} for row in curve.to_dict("records") if row["map_id"] in views]
    return candidate | {
        "light_curve": plots.to_svg(figure, f"curve-{name}", f"Light curve of {name}") if figure else "",
        "cutouts": cutouts,
        "neighbours": [] if candidate["class"] == "moving" else find_neighbours(candidate, catalog),
        "sexagesimal": _sexagesimal(candidate["ra_deg"], candidate["dec_deg"]),
    }


def find_neighbours(position, catalog):
    """Known sources in the cutout around a position: list of name, east and north (arcmin)."""
    near = catalog[(catalog["dec_deg"] - position["dec_deg"]).abs() * 60 < CUTOUT_ARCMIN / 2]
    offsets = geometry.tangent_offsets(
        near["ra_deg"].to_numpy(), near["dec_deg"].to_numpy(), position["ra_deg"], position["dec_deg"]
    )
    found = zip(near["source_name"], *(np.round(offset / 60, 3).tolist() for offset in offsets), strict=True)
    return [{"name": n, "east": e, "north": u} for n, e, u in found if max(abs(e), abs(u)) < CUTOUT_ARCMIN / 2]


def _sexagesimal(ra_deg, dec_deg):
    from astropy.coordinates import SkyCoord

    return SkyCoord(ra_deg, dec_deg, unit="deg").to_string("hmsdms", sep=":", precision=1)


# ---- sources ----------------------------------------------------------------------------------------


def compare_fluxes(files, table):
    """Forced against catalogue flux by band: figure, number of sources, median ratio and its error."""
    bands = dict(zip(table["map_id"], table["band"], strict=True))
    columns = ["flux_mjy", "flux_err_mjy", "catalog_flux_mjy", "flags"]
    parts = [store.read_table(forced, "forced", columns).assign(band=_band_of(forced, bands)) for _, _, forced in files]
    rows = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*columns, "band"])
    rows = rows[(rows["flux_mjy"] > 5 * rows["flux_err_mjy"]) & (rows["catalog_flux_mjy"] > 0)]
    rows = rows[(rows["flags"].astype("u4") & np.uint32(_UNSURE)) == 0]
    return [_comparison(band, group) for band, group in rows.groupby("band")]


def _band_of(forced_path, bands):
    return bands[store.read_attrs(forced_path)["map_id"]]


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
    wide = wide.assign(max_snr=wide["source_id"].map(best).astype(float))
    wide = wide.sort_values(["max_snr", "source_id"], ascending=[False, True], ignore_index=True).head(SOURCES_MAX)
    head, columns = _source_columns(wide, frames["source_bands"])
    return {
        "head": head,
        "rows": [list(row) for row in zip(*columns, strict=True)],
        "links": [name if name in carded else "" for name in wide["source_id"]],
        "n_all": len(frames["sources"]),
    }


def _source_columns(wide, source_bands):
    """Name and explanation of each column, and its values as plain numbers and text."""
    schema = {c.name: c for c in (*tables.SCHEMAS["sources"], *tables.SCHEMAS["source_bands"])}
    named = [
        ("Source", schema["source_name"].description, wide["source_name"].tolist()),
        ("RA", schema["ra_deg"].description, _rounded(wide["ra_deg"], 5)),
        ("Dec", schema["dec_deg"].description, _rounded(wide["dec_deg"], 5)),
        ("n", schema["n_measurements"].description, wide["n_measurements"].tolist()),
        ("max SNR", "largest signal to noise ratio of one measurement", _rounded(wide["max_snr"], 1)),
    ]
    shown = {"mean_flux_mjy": "flux [mJy]", "mean_flux_err_mjy": "±", "eta": "η", "v": "V", "p_constant": "p"}
    for band, rows in source_bands.groupby("band"):
        aligned = rows.set_index("source_id").reindex(wide["source_id"])
        for name, title in shown.items():
            named.append((f"{band} {title}", schema[name].description, [_short(v) for v in aligned[name].tolist()]))
    return [{"name": name, "about": about} for name, about, _ in named], [values for *_, values in named]


def _rounded(values, digits):
    return [round(float(v), digits) if np.isfinite(v) else None for v in values]


def _short(value):
    """Number to four digits, None where there is none."""
    return float(f"{value:.4g}") if np.isfinite(value) else None


# ---- words ------------------------------------------------------------------------------------------


def format_number(value, digits=3):
    """A number to ``digits`` significant digits (all of a whole number's), a dash where there is none."""
    if isinstance(value, (bool, np.bool_, int, np.integer)):
        return str(int(value))
    if not np.isfinite(value):
        return "–"
    text = f"{value:.{digits}g}" if abs(value) < 10**digits else f"{value:.0f}"
    return (f"{value:.1e}" if "e" in text else text).replace("-", "−")


def format_utc(time_unix_s):
    """Unix seconds as a date and time, a dash where there are none."""
    if not np.isfinite(time_unix_s):
        return "–"
    return datetime.fromtimestamp(round(time_unix_s), UTC).strftime("%Y-%m-%d %H:%M")
