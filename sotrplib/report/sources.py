"""All sources on the page: a table of numbers that stay numbers, and the light curve of each."""

import numpy as np

from sotrplib import exports, plots, tables
from sotrplib.report import packs

SOURCES_MAX = 50_000
_BAND_COLUMNS = {
    "mean_flux_mjy": ("flux [mJy]", 1),
    "mean_flux_err_mjy": ("±", 1),
    "eta": ("η", 2),
    "v": ("V", 3),
    "f_var": ("F_var", 3),
    "p_constant": ("p", None),
    "vs": ("Vs", 1),
    "m": ("m", 2),
    "flare_sigma": ("flare [σ]", 1),
}  # title and decimals; None for two digits


def pack_sources(frames, carded):
    """The table and the light curves of the brightest sources, for the script of the page.

    Parameters
    ----------
    frames : mapping of str to DataFrame
        As of :func:`page.write_page`.
    carded : set of str
        Candidates that have a card to lead to.

    Returns
    -------
    dict
        ``pack`` (text), ``n_shown`` and ``n_all``.
    """
    wide = _choose(frames)
    columns = _columns(wide, frames["source_bands"])
    arrays = {f"column{k}": values for k, (_, values) in enumerate(columns)}
    curves, map_words = _curves(frames["lightcurves"], frames["maps"], wide["source_id"])
    words = {
        "head": [head for head, _ in columns],
        "names": wide["shown_name"].tolist(),
        "links": [name if name in carded else "" for name in wide["source_id"]],
        **map_words,
    }
    n_all = len(frames["sources"])
    return {"pack": packs.pack(arrays | curves, words), "n_shown": len(wide), "n_all": n_all}


def _choose(frames):
    """The brightest sources, in order, with the name to show; a flaring one is there twice, as candidate too."""
    measured = frames["measurements"].query("kind != 'blind'")
    best = measured.groupby("source_id")["snr"].max()
    wide, _ = exports.wide_sources(frames["sources"], frames["source_bands"])
    own = wide["source_name"] + " (" + wide["source_id"] + ")"
    shown = wide["source_name"].where(~wide["source_id"].isin(frames["candidates"]["candidate_id"]), own)
    shown = shown.where(wide["source_name"] != wide["source_id"], wide["source_id"])
    wide = wide.assign(max_snr=wide["source_id"].map(best).astype(float), shown_name=shown)
    order = {"by": ["max_snr", "source_id"], "ascending": [False, True], "ignore_index": True}
    return wide.sort_values(**order).head(SOURCES_MAX)


def _columns(wide, source_bands):
    """Head (name, about, decimals) and values of each column of numbers."""
    schema = {c.name: c.description for c in (*tables.SCHEMAS["sources"], *tables.SCHEMAS["source_bands"])}
    given = [
        ("RA", schema["ra_deg"], 5, wide["ra_deg"]),
        ("Dec", schema["dec_deg"], 5, wide["dec_deg"]),
        ("n", schema["n_measurements"], 0, wide["n_measurements"]),
        ("max SNR", "largest signal to noise ratio of one measurement", 1, wide["max_snr"]),
        ("α", schema["spectral_index"], 2, wide["spectral_index"]),
    ]
    for band, rows in source_bands.groupby("band"):
        aligned = rows.set_index("source_id").reindex(wide["source_id"])
        for name, (title, decimals) in _BAND_COLUMNS.items():
            given.append((f"{band} {title}", schema[name], decimals, aligned[name]))
    return [
        ({"name": name, "about": about, "decimals": decimals}, _rounded(values, decimals))
        for name, about, decimals, values in given
    ]


def _rounded(values, decimals):
    """Numbers as they are shown, float64 for positions and float32 else."""
    values = np.asarray(values, float)
    if decimals is None:
        return packs.shorten(values)
    rounded = np.round(values, decimals)
    return rounded if decimals == 5 else rounded.astype(np.float32)


def _curves(lightcurves, maps, source_ids):
    """Measurements of the sources in their order, and what the numbers of maps mean."""
    row = dict(zip(source_ids, range(len(source_ids)), strict=True))
    kept = lightcurves[lightcurves["flux_mjy"].notna() & lightcurves["time_unix_s"].notna()]
    source = kept["source_id"].map(row)
    kept = kept.assign(_row=source)[source.notna()].sort_values(["_row", "time_unix_s"], kind="stable")
    number = dict(zip(maps["map_id"], range(len(maps)), strict=True))
    start = np.floor(kept["time_unix_s"].min()) if len(kept) else 0.0
    count = np.bincount(kept["_row"].to_numpy(int), minlength=len(source_ids))
    arrays = {
        "first": np.concatenate([[0], np.cumsum(count)]).astype("i4"),
        "time": np.rint(kept["time_unix_s"] - start).to_numpy("i4"),
        "flux": packs.shorten(kept["flux_mjy"]),
        "flux_err": packs.shorten(kept["flux_err_mjy"]),
        "limit": packs.shorten(kept["upper_limit_mjy"]),
        "steady": packs.shorten(kept["catalog_flux_mjy"]),
        "map": kept["map_id"].map(number).to_numpy("i4"),
    }
    bands = sorted(set(maps["band"]))
    styles = {band: plots.band_style(band) for band in bands}
    words = {
        "start": float(start), "maps": maps["map_id"].tolist(), "bands": maps["band"].tolist(),
        "styles": {band: [plots.THEME[colour], mark] for band, (colour, mark) in styles.items()},
    }  # fmt: skip
    return arrays, words
