"""Candidates on the page: their order, and of each its cutouts, light curve, spectrum and neighbours."""

import numpy as np

from sotrplib import geometry, plots, spectra, variability
from sotrplib.report import stamps, words

CLASSES = {
    "transient": "not catalogued, and not seen to be steady",
    "flare": "catalogued, and brighter than the catalogue says",
    "new_source": "not catalogued, and steady over two observations or more",
    "moving": "at the predicted position of a moving object",
    "artefact": "contradicted: other maps should have seen it and did not",
}
FOUND_BY = {
    "map": "in single maps",
    "joint": "only in the sum of the maps of one observation; the numbers are of the map that sees it best",
    "coadd": "only in a coadd of several observations; the numbers are of the map that sees it best",
    "difference": "only in a map minus the other observations; the numbers are of the map that sees it best",
}
CARDS_MAX = 60  # candidates shown with their figures
CUTOUTS_MAX = 24  # maps that a candidate has cutouts from: those nearest in time to its discovery
_FLUX_SIGMA = 6.0  # the colour scale of flux reaches so many errors at least


def rank_candidates(candidates):
    """Candidates in the order of the page: by class, confirmed ones first, by falling combined SNR."""
    order = {name: k for k, name in enumerate(CLASSES)}
    keys = candidates.assign(
        _class=candidates["class"].map(order).astype(float), _unconfirmed=~candidates["confirmed"].astype(bool),
        _snr=-candidates["combined_snr"].fillna(candidates["max_snr"]),
    )  # fmt: skip
    ranked = keys.sort_values(["_class", "_unconfirmed", "_snr", "candidate_id"], kind="stable", ignore_index=True)
    return ranked[candidates.columns]


def choose_targets(measurements, ranked):
    """Measurements that cutouts are made at: those of the first candidates, in the maps nearest to their discovery."""
    confirming = measurements.query("kind == 'confirm'").drop_duplicates(["source_id", "map_id"])
    found = ranked.head(CARDS_MAX).set_index("candidate_id")["time_unix_s"]
    targets = confirming[confirming["source_id"].isin(found.index)]
    distance = (targets["time_unix_s"] - targets["source_id"].map(found).astype(float)).abs().fillna(np.inf)
    near = targets.assign(_distance=distance).sort_values(["source_id", "_distance", "map_id"], kind="stable")
    return near.groupby("source_id").head(CUTOUTS_MAX)[targets.columns], targets


def group_by_class(ranked, carded):
    """Candidates by class, with the cards of those that have one."""
    groups = []
    for name, meaning in CLASSES.items():
        rows = ranked[ranked["class"] == name].to_dict("records")
        cards = [carded[row["candidate_id"]] for row in rows if row["candidate_id"] in carded]
        groups.append({"name": name, "meaning": meaning, "rows": rows, "cards": cards})
    return groups


def make_cards(ranked, targets, views, frames, gap_s):
    """Cards of the first candidates, by candidate_id.

    Parameters
    ----------
    ranked, targets : pandas.DataFrame
        Candidates in the order of the page, and their measurements in all maps.
    views : mapping of str to mapviews.MapView
    frames : mapping of str to DataFrame
        ``catalog``, ``forced`` and ``counterparts``.
    gap_s : float
        Maps closer in time are one observation.
    """
    curves = dict(list(targets.groupby("source_id")))
    others = {name: rows.to_dict("records") for name, rows in frames["counterparts"].groupby("candidate_id")}
    known, nothing = (frames["catalog"], frames["forced"]), targets.iloc[:0]
    cards = {}
    for row in ranked.head(CARDS_MAX).to_dict("records"):
        name = row["candidate_id"]
        card = make_card(row, curves.get(name, nothing), views, known, gap_s)
        cards[name] = card | {"counterparts": others.get(name, []), "found_in": FOUND_BY[row["found_by"]]}
    return cards


def make_card(candidate, curve, views, known, gap_s):
    """What the page shows of one candidate.

    Parameters
    ----------
    candidate : dict
        Row of ``candidates``.
    curve : pandas.DataFrame
        Its rows of ``measurements``, one a map.
    views : mapping of str to mapviews.MapView
    known : (pandas.DataFrame, pandas.DataFrame)
        The catalogue, and the forced photometry of all maps.
    gap_s : float
        Maps closer in time are one observation.

    Returns
    -------
    dict
        The row, and light_curve and spectrum (SVG or empty), cutouts, neighbours and words.
    """
    catalog, forced = known
    name = candidate["candidate_id"]
    curve = curve.sort_values(["time_unix_s", "map_id"], kind="stable")
    usable = curve[variability.usable(curve)]
    match = forced[forced["source_id"] == candidate["matched_name"]]
    steady = match.drop_duplicates("band").set_index("band")["catalog_flux_mjy"].to_dict()
    figure = plots.light_curve(usable, steady=steady) if len(usable) else None
    spectrum, spectrum_words = draw_spectrum(candidate, usable, gap_s)
    cutouts, flux_max = make_cutouts(candidate, curve, views, gap_s)
    return candidate | {
        "light_curve": plots.to_svg(figure, f"curve-{name}", f"Light curve of {name}") if figure else "",
        "spectrum": spectrum,
        "spectrum_words": spectrum_words,
        "cutouts": cutouts,
        "n_left_out": sum(row["map_id"] in views for row in curve.to_dict("records")) - len(cutouts),
        "flux_max": flux_max,
        "neighbours": [] if candidate["class"] == "moving" else find_neighbours(candidate, catalog),
        "sexagesimal": words.format_sexagesimal(candidate["ra_deg"], candidate["dec_deg"]),
    }


def make_cutouts(candidate, curve, views, gap_s):
    """Cutouts of a candidate in order of time, and the flux (mJy) at the end of their colour scale, one for all.

    Each is the row of ``measurements`` and ``images``, name to data URI: SNR, flux and, in maps of the observation in
    which it was found, difference: the SNR of what is left when all others of the band are taken off.
    """
    name = candidate["candidate_id"]
    rows = [row for row in curve.to_dict("records") if name in getattr(views.get(row["map_id"]), "stamps", {})]
    cut = [views[row["map_id"]].stamps[name] for row in rows]
    errors = curve["flux_err_mjy"].dropna()
    largest = max(abs(candidate["flux_mjy"]), _FLUX_SIGMA * float(errors.median()) if len(errors) else 0.0, 1e-3)
    together = [abs(row["time_unix_s"] - candidate["time_unix_s"]) < gap_s for row in rows]
    made = []
    for k, (row, stamp) in enumerate(zip(rows, cut, strict=True)):
        others = [
            other
            for other, like, same in zip(cut, rows, together, strict=True)
            if not same and like["band"] == row["band"]
        ]
        left = stamps.subtract(stamp.between, [other.between for other in others]) if together[k] else None
        images = {"SNR": plots.snr_image(stamp.snr), "flux": plots.image(stamp.flux, largest)}
        if left:
            images["difference"] = plots.snr_image(left.snr)
        made.append(row | {"images": images, "n_reference": len(others)})
    return made, largest


def draw_spectrum(candidate, usable, gap_s):
    """Spectrum of a candidate in the observation it was found in: SVG and its index in words; empty for one band."""
    rows = usable[(usable["time_unix_s"] - candidate["time_unix_s"]).abs() < gap_s]
    weight = rows["flux_err_mjy"] ** -2.0
    sums = rows.assign(w=weight, wf=weight * rows["flux_mjy"], wn=weight * rows["freq_ghz"]).groupby("band")
    total = sums[["w", "wf", "wn"]].sum()
    if len(total) < 2:
        return "", ""
    points = total.assign(
        flux_mjy=total["wf"] / total["w"], flux_err_mjy=total["w"] ** -0.5, freq_ghz=total["wn"] / total["w"]
    ).reset_index()
    one = np.zeros(len(points), int)
    flux, err, freq = (points[name].to_numpy() for name in ("flux_mjy", "flux_err_mjy", "freq_ghz"))
    (index,), (index_err,), _ = spectra.fit_indices(flux, err, freq, one, one)
    line = None
    if np.isfinite(index):
        pivot = freq[np.argmax(flux / err)]
        shape = (freq / pivot) ** index
        line = pivot, float(np.sum(shape * flux / err**2) / np.sum((shape / err) ** 2)), index
    name = candidate["candidate_id"]
    said = f"spectral index {words.format_pair(index, index_err)}" if line else "no spectral index can be told"
    return plots.to_svg(plots.spectrum(points, power_law=line), f"spectrum-{name}", f"Spectrum of {name}"), said


def find_neighbours(position, catalog):
    """Known sources in the cutout around a position: list of name, east and north (arcmin)."""
    half = stamps.CUTOUT_ARCMIN / 2
    near = catalog[(catalog["dec_deg"] - position["dec_deg"]).abs() * 60 < half]
    offsets = geometry.tangent_offsets(
        near["ra_deg"].to_numpy(), near["dec_deg"].to_numpy(), position["ra_deg"], position["dec_deg"]
    )
    found = zip(near["source_name"], *(np.round(offset / 60, 3).tolist() for offset in offsets), strict=True)
    return [{"name": n, "east": e, "north": u} for n, e, u in found if max(abs(e), abs(u)) < half]
