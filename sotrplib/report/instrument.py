"""The instrument over time, by night and array, and how well sources put into copies of its maps are recovered."""

import numpy as np
import pandas as pd

from sotrplib import plots, store
from sotrplib.report import checks

_PULL_EDGES = np.arange(-5.0, 5.01, 0.5)
_FLUX_BINS = 12


def follow(table, views):
    """Figures and table of depth, pointing, calibration and false detections.

    Parameters
    ----------
    table : pandas.DataFrame
        Table ``maps``.
    views : mapping of str to mapviews.MapView

    Returns
    -------
    dict
        ``figures``: list of dicts svg and caption; ``nights``: rows of the table, one a night, array and band.
    """
    rows = table[table["map_id"].isin(views)].reset_index(drop=True)
    if rows.empty:
        return {"figures": [], "nights": []}
    numbers = pd.DataFrame([views[map_id].numbers for map_id in rows["map_id"]])
    rows = pd.concat([rows, numbers], axis=1)
    area = rows["area_deg2"].where(rows["area_deg2"] > 0)
    rows["false_rate"], rows["false_rate_err"] = (
        100 * value / area for value in (rows["n_negative"], np.sqrt(np.maximum(rows["n_negative"], 1)))
    )
    expected = float((100 * rows["n_negative_expected"] / area).median())
    return {"figures": _trends(rows, expected), "nights": _nights(rows)}


def _trends(rows, false_expected):
    drawn = [
        ("flux_err_mjy", "flux error [mJy]", {}, "Depth: median flux error of each map"),
        ("ra_offset_arcsec", "ΔRA cos Dec [arcsec]", {"level": 0.0}, "Pointing offset along RA"),
        ("dec_offset_arcsec", "ΔDec [arcsec]", {"level": 0.0}, "Pointing offset along Dec"),
        ("pointing_rms_arcsec", "rms [arcsec]", {}, "Pointing residuals after the model, per coordinate"),
        (
            "flux_ratio", "forced / catalogue", {"level": 1.0, "error": "flux_ratio_err"},
            "Forced over catalogue flux: the calibration, and outside the catalogue's band the spectra assumed",
        ),
        ("beam_width", "width / expected", {"level": 1.0}, "Width of bright sources"),
        (
            "false_rate", "per 100 deg²", {"level": false_expected, "error": "false_rate_err"},
            f"False detections: peaks below −{checks.SEARCH_SNR:g}σ without sources; the line is Gaussian noise",
        ),
    ]  # fmt: skip
    made = []
    for name, label, options, caption in drawn:
        if rows[name].notna().any():
            svg = plots.to_svg(plots.trend(rows, name, label, **options), f"trend-{name}", f"{caption}, against time")
            made.append({"svg": svg, "caption": caption})
    return made


def _nights(rows):
    """One row a night (UTC date), array and band."""
    days = pd.to_datetime(rows["time_unix_s"], unit="s").dt.strftime("%Y-%m-%d")
    made = []
    for (night, array, band), part in rows.groupby([days, "array", "band"]):
        weight = part["flux_ratio_err"] ** -2.0
        sure = np.isfinite(weight)
        ratio = np.average(part["flux_ratio"][sure], weights=weight[sure]) if sure.any() else np.nan
        made.append(
            {
                "night": night, "array": array, "band": band, "n_maps": len(part),
                "depth": float(part["flux_err_mjy"].median()),
                "pointing": float(np.hypot(part["ra_offset_arcsec"], part["dec_offset_arcsec"]).median()),
                "pointing_rms": float(part["pointing_rms_arcsec"].median()),
                "ratio": ratio, "ratio_err": weight[sure].sum() ** -0.5 if sure.any() else np.nan,
                "n_negative": int(part["n_negative"].sum()), "n_expected": float(part["n_negative_expected"].sum()),
                "area": float(part["area_deg2"].sum()),
            }
        )  # fmt: skip
    return made


def judge_recovery(paths, table):
    """How well sources put into copies of the maps are recovered, or None where that was not measured.

    Parameters
    ----------
    paths : sequence of path
        Files of the rule ``measure_recovery``.
    table : pandas.DataFrame
        Table ``maps``.

    Returns
    -------
    dict or None
        ``figures``: list of dicts svg and caption; ``maps``: one row a map with the flux at which half and 90 % of the
        sources are found, the bias of fluxes, and the widths of the pulls.
    """
    paths = [path for path in paths if store.read_attrs(path).get("status") == "ok"]
    if not paths:
        return None
    rows = table.set_index("map_id")
    parts = {name: [] for name in ("recovery", "injections", "false_alarms")}
    for path in paths:
        map_id = store.read_attrs(path)["map_id"]
        for name, frames in parts.items():
            one = store.read_table(path, name).assign(map_id=map_id, band=rows["band"].get(map_id, ""))
            frames.append(one.assign(flux_err_mjy=rows["flux_err_mjy"].get(map_id, np.nan)))
    merged = {name: pd.concat(frames, ignore_index=True) for name, frames in parts.items()}
    figures = _recovery_figures(**merged)
    return {"figures": figures, "maps": [_recovered(*group) for group in merged["injections"].groupby("map_id")]}


def _recovery_figures(recovery, injections, false_alarms):
    flux_bins = complete_by_flux(injections)
    pulls = {
        "forced flux": injections["forced_pull"],
        "RA": injections["ra_pull"],
        "Dec": injections["dec_pull"],
    }
    counts = {name: np.histogram(values.dropna(), _PULL_EDGES)[0] for name, values in pulls.items()}
    detected = {"detected flux": np.histogram(injections["detected_pull"].dropna(), _PULL_EDGES)[0]}
    threshold = false_alarms.assign(flux_mjy=false_alarms["snr_min"] * false_alarms["flux_err_mjy"])
    drawn = [
        (plots.completeness(recovery), "completeness", "Part of the injected sources found, against their SNR"),
        (plots.completeness_by_flux(flux_bins), "completeness-flux", "The same against flux, all maps of a band"),
        (plots.purity(threshold), "purity", "Part of the detections that the negative of the map does not explain"),
        (plots.pulls(_PULL_EDGES, counts), "pulls", "Pulls: measured minus true over the error, all injections"),
        (
            plots.pulls(_PULL_EDGES, detected), "pulls-found",
            "Pulls of detected fluxes: selection at the threshold lifts the faint ones",
        ),
    ]  # fmt: skip
    return [{"svg": plots.to_svg(figure, name, caption), "caption": caption} for figure, name, caption in drawn]


def complete_by_flux(injections):
    """Part of the injected sources found in bins of flux: band, flux_mjy (mean), completeness and its error."""
    shown = injections[injections["true_flux_mjy"] > 0]
    if shown.empty:
        return pd.DataFrame(columns=["band", "flux_mjy", "completeness", "completeness_err"])
    low, high = shown["true_flux_mjy"].quantile([0.02, 0.85])
    edges = np.geomspace(low, max(high, 1.01 * low), _FLUX_BINS + 1)
    inside = shown.assign(bin=np.digitize(shown["true_flux_mjy"], edges)).query(f"0 < bin <= {_FLUX_BINS}")
    groups = inside.groupby(["band", "bin"])
    n, found = groups.size(), groups["found"].sum()
    mean = (found + 1) / (n + 2)  # of the Beta distribution that the error is that of
    columns = {"flux_mjy": groups["true_flux_mjy"].mean(), "completeness": found / n}
    columns["completeness_err"] = np.sqrt(mean * (1 - mean) / (n + 3))
    return pd.DataFrame(columns).reset_index()


def _recovered(map_id, rows):
    """Row of the table of maps: limits of completeness and pulls."""
    seen = rows[rows["true_snr"] > 0]
    sure = rows["forced_pull"].notna() & (rows["true_snr"] > 0)
    weight = (rows["true_flux_mjy"] / rows["forced_flux_err_mjy"])[sure] ** 2
    bias = (rows["forced_flux_mjy"] / rows["true_flux_mjy"])[sure] - 1
    return {
        "map_id": map_id, "n": len(rows),
        "half": flux_found(seen, 0.5), "most": flux_found(seen, 0.9),
        "bias": float(np.average(bias, weights=weight)) if sure.any() else np.nan,
        "bias_err": float(weight.sum() ** -0.5) if sure.any() else np.nan,
        "forced_pull": rows["forced_pull"].std(), "forced_mean": rows["forced_pull"].mean(),
        "position_pull": float(np.sqrt(np.nanmean(rows[["ra_pull", "dec_pull"]].to_numpy() ** 2)))
        if rows["ra_pull"].notna().any()
        else np.nan,
    }  # fmt: skip


def flux_found(rows, part):
    """Flux (mJy) at which this part of the injected sources is found, between the levels; NaN beyond them."""
    levels = rows.groupby("level").agg(flux=("true_flux_mjy", "mean"), found=("found", "mean")).sort_values("flux")
    found = np.maximum.accumulate(levels["found"].to_numpy(float))
    if not len(found) or found[0] > part or found[-1] < part:
        return np.nan
    return float(np.interp(part, found, levels["flux"].to_numpy()))
