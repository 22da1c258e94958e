"""Files and tables of small nights with known truth, as the stages leave them, for the tests of the page."""

import numpy as np
from filtered_skies import filtered_noise, filtered_sources, make_template

from sotrplib import catalogs, geometry, lightcurves, logs, maps, pointing, store, tables
from sotrplib.report import mapviews

SHAPE = (96, 160)
MERGE = {"observation_gap_s": 7200.0, "calibration_err": 0.05, "catalog_flux_err_fraction": 0.05}
MERGE |= {"spectral_index_err": 0.3}
NIGHT = 1_760_100_000
FLUX_ERR = 10.0
STAGES = ("preprocessed", "pointing", "forced_photometry", "sifted")
CANDIDATE = "SOTRP_J000024.0-300600"
KNOWN_ID = "known <1> & co"


def car_wcs(ra0_deg=0.0):
    return geometry.make_car(ra0_deg, -30.0, SHAPE[1] / 120 / np.cos(np.radians(30)), SHAPE[0] / 120, 0.5)


def known_sources():
    """Three known sources of 300, 600 and 900 mJy, one on each side of RA 0."""
    columns = {name: np.nan for name in tables.column_names("catalog")}
    columns |= {"source_id": [KNOWN_ID, "k2", "k3"], "source_name": [KNOWN_ID, "k2", "k3"]}
    columns |= {"ra_deg": [0.3, 359.7, 359.9], "dec_deg": [-30.1, -29.9, -30.2], "flux_mjy": [300.0, 600.0, 900.0]}
    return tables.make("catalog", columns)


def candidate_table(**values):
    """One candidate at RA 0.1, Dec -30.1."""
    columns = {
        "candidate_id": [CANDIDATE], "ra_deg": 0.1, "dec_deg": -30.1, "ra_err_arcsec": 4.0, "dec_err_arcsec": 4.0,
        "class": "transient", "reason": "confirmed: 2 arrays <in one> observation", "confirmed": True,
        "time_unix_s": NIGHT, "max_snr": 15.0, "combined_snr": 20.0, "n_maps": 2, "n_arrays": 2, "n_bands": 1,
        "n_covering": 2, 
        "p_false_night": 1e-9, "p_false_survey": 1e-8, "n_arrays_for": 2, "n_arrays_against": 0,
        "flux_mjy": 150.0, "flux_err_mjy": FLUX_ERR, "band": "f090",
        "map_id": "solat_i1_f090_1760100000", "matched_name": "", "found_by": "map",
        "external_name": "", "external_catalog": "", "external_sep_arcsec": np.nan, "external_p_chance": np.nan,
        "external_type": "", "external_score": np.nan,
    }  # fmt: skip
    return tables.make("candidates", columns | values)


def write_map(folder, row, rng, flux_mjy=150.0):
    """Files of one map with the known sources and one candidate, seen 20 arcsec east of where they are."""
    names = [folder / stage / f"{row['map_id']}.h5" for stage in STAGES]
    if row["status"] == "failed":
        for name in names:
            frames = {table: (table, tables.empty(table)) for table in ("forced", "sifted", "pointing_sources")}
            store.write(name, attrs={key: row[key] for key in ("map_id", "status", "reason")}, frames=frames)
        return tuple(names)
    shape, wcs = car_wcs()
    known = known_sources()
    ra, dec = np.append(known["ra_deg"], 0.1), np.append(known["dec_deg"], -30.1)
    flux = np.append(known["flux_mjy"], flux_mjy)
    y, x = geometry.sky2pix(wcs, *geometry.offset_position(ra, dec, 20.0, 0.0))
    snr = filtered_noise(shape, rng) + filtered_sources(shape, y, x, flux / FLUX_ERR)
    mask = np.zeros(shape, "u1")
    mask[:8] = tables.MASK_BITS["EDGE"]
    info = maps.MapInfo(row["map_id"], "solat", row["array"], row["band"], 90.0, row["time_unix_s"])
    kappa = np.full(shape, FLUX_ERR**-2, "f4")
    kappa[:4] = 0
    rho = np.where(kappa > 0, snr / FLUX_ERR, 0).astype("f4")
    sky_map = maps.SkyMap(rho, kappa, None, mask, wcs, info, make_template(n_rows=shape[0]))
    maps.write_sky_map(
        names[0],
        sky_map,
        {"status": "ok", "reason": "", "flux_err_mjy": FLUX_ERR},
        more_arrays={"flatfield/local_rms": np.full((2, 3), 1.02, "f4")},
        frames={"noise_spectra": ("noise_spectra", noise_spectra())},
    )
    model = pointing.PointingModel(
        "constant", 0, (0.0, -30.0), 1.0, np.array([[20.0], [0.0]]), np.zeros((2, 1, 1)), n_used=3
    )
    store.write(
        names[1],
        attrs={"map_id": row["map_id"], "pointing": pointing.to_dict(model)},
        frames={"pointing_sources": ("pointing_sources", pointing_sources(known))},
    )
    forced = {name: np.nan for name in tables.column_names("forced")} | {
        name: known[name] for name in known.columns[:4]
    }
    forced |= {"flux_mjy": known["flux_mjy"], "flux_err_mjy": FLUX_ERR, "snr": known["flux_mjy"] / FLUX_ERR}
    forced |= {
        "catalog_flux_mjy": known["flux_mjy"] / 1.02,
        "n_blend": 1,
        "flags": 0,
        "time_unix_s": row["time_unix_s"],
    }
    frames = {"forced": ("forced", tables.make("forced", forced))}
    store.write(names[2], attrs={"map_id": row["map_id"], "status": "ok"}, frames=frames)
    store.write(
        names[3], attrs={"map_id": row["map_id"], "status": "ok"}, frames={"sifted": ("sifted", found(flux_mjy))}
    )
    return tuple(names)


def pointing_sources(known):
    """The known sources as the pointing was fitted to them: 20 arcsec east, with small errors on both sides."""
    columns = {name: 1.0 for name in tables.column_names("pointing_sources")}
    columns |= {name: known[name] for name in ("source_id", "ra_deg", "dec_deg")}
    columns |= {"ra_offset_arcsec": [19.0, 20.0, 21.0], "dec_offset_arcsec": [0.5, -0.5, 0.0], "used": True}
    return tables.make("pointing_sources", columns)


def noise_spectra():
    """A white spectrum and a model of it that fits."""
    columns = {name: 1.0 for name in tables.column_names("noise_spectra")}
    return tables.make("noise_spectra", columns | {"zone": 0, "row_stop": SHAPE[0], "ell": np.geomspace(100, 2e4, 30)})


def found(flux_mjy):
    """The candidate among the detections of a map, if it is bright."""
    columns = {name: 0.0 for name in tables.column_names("sifted")} | {
        "ra_deg": [0.1],
        "dec_deg": -30.1,
        "flux_mjy": flux_mjy,
    }
    columns |= {"origin": "blind", "class": "transient", "reason": "", "matched_name": ""}
    return tables.make("sifted", columns).iloc[: int(flux_mjy > 5 * FLUX_ERR)]


def map_row(array, time, status="ok"):
    row = {"map_id": f"solat_{array}_f090_{time}", "instrument": "solat", "array": array, "band": "f090"}
    attrs = {"status": status, "reason": "map.fits: is truncated" if status == "failed" else "", "time_unix_s": time}
    numbers = {"area_deg2": 1.0, "flux_err_mjy": FLUX_ERR, "snr_std": 1.0, "freq_ghz": 90.0} if status == "ok" else {}
    return catalogs.map_row(row, attrs | numbers, 3, (3, 4, 1), offset=(20.0, 0.0))


def confirming(candidates, rows, flux_mjy):
    """Measurements of each candidate in each usable map."""
    good = [row for row in rows if row["status"] == "ok"] * len(candidates)
    ids = np.repeat(candidates["candidate_id"].to_numpy(object), len(good) // max(len(candidates), 1))
    columns = {name: 0.0 for name in tables.column_names("measurements")}
    columns |= {name: [row[name] for row in good] for name in ("map_id", "array", "band", "time_unix_s")}
    columns |= {"source_id": ids, "source_name": ids, "kind": "confirm", "ra_deg": 0.1, "dec_deg": -30.1}
    columns |= {"flux_mjy": np.resize(flux_mjy, len(good)), "flux_err_mjy": FLUX_ERR, "freq_ghz": 90.0}
    return tables.make("measurements", columns | {"snr": np.resize(flux_mjy, len(good)) / FLUX_ERR})


def write_night(folder, rng, rows, candidates=None, flux_mjy=(150.0, 8.0)):
    """Tables and files of a run: those of each map are its filtered map, and what the page shows of it."""
    candidates = tables.empty("candidates") if candidates is None else candidates
    fluxes = np.resize(flux_mjy, len(rows))
    files = [write_map(folder, row, rng, flux) for row, flux in zip(rows, fluxes, strict=True)]
    views = [(paths[0], write_view(folder, paths)) for paths in files]
    forced = [store.read_table(paths[2], "forced") for paths in files]
    parts = [catalogs.forced_measurements(table, row) for table, row in zip(forced, rows, strict=True)]
    measurements = catalogs.merge_measurements([*parts, confirming(candidates, rows, flux_mjy)])
    sources, bands = catalogs.merge_sources(measurements, candidates, MERGE, 90.0)
    frames = {"maps": catalogs.make_maps(rows), "candidates": candidates, "sources": sources, "source_bands": bands}
    curves, _ = lightcurves.build(measurements, {"detect_snr": 3.0, "limit_confidence": 0.95})
    frames |= {"measurements": measurements, "lightcurves": curves, "catalog": known_sources()}
    return frames | {"counterparts": tables.empty("counterparts")}, views


def write_view(folder, paths):
    """File of the view of a map, as the rule ``view_map`` leaves it; its sheet is in ``figures``."""
    map_id, reason = paths[0].stem, logs.failure(paths)
    view, sheet = folder / "views" / f"{map_id}.h5", folder / "figures" / f"{map_id}.png"
    if reason:
        mapviews.write_failed_sheet(sheet, map_id, reason)
        logs.write_tables(view, {}, {"map_id": map_id, "status": "failed", "reason": reason})
        return view
    content, pixels = mapviews.view_map(*paths)
    mapviews.write_sheet(sheet, pixels)
    logs.write_tables(view, content, {"map_id": map_id, "status": "ok", "reason": ""})
    return view


def files_of(folder, map_id):
    """Files of the stages of a map, as :func:`mapviews.view_map` takes them."""
    return tuple(folder / stage / f"{map_id}.h5" for stage in STAGES)


TWO_MAPS = [map_row("i1", NIGHT), map_row("i3", NIGHT + 600)]
