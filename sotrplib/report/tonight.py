"""The first part of the page: what was processed, how deep, and the map of the sky."""

import numpy as np

from sotrplib import plots
from sotrplib.report import candidates as cards
from sotrplib.report import packs


def count_all(frames, coverage):
    """Numbers of the night for the tiles at the top."""
    table, candidates = frames["maps"], frames["candidates"]
    time = table["time_unix_s"].dropna()
    classes = [
        {"name": name, "n": int(chosen.sum()), "confirmed": int((chosen & candidates["confirmed"]).sum())}
        for name in cards.CLASSES
        for chosen in [candidates["class"] == name]
    ]
    own = frames["sources"]["source_id"].isin(candidates["candidate_id"])
    return {
        "n_ok": int((table["status"] == "ok").sum()),
        "n_failed": int((table["status"] != "ok").sum()),
        "n_sources": len(frames["sources"]) - int(own.sum()),
        "n_measurements": len(frames["measurements"]),
        "area_deg2": coverage["area_deg2"] if coverage else 0.0,
        "first": float(time.min()) if len(time) else np.nan,
        "last": float(time.max()) if len(time) else np.nan,
        "classes": classes,
    }


def order_maps(table):
    """Failed maps first, then by time."""
    keys = table.assign(_ok=table["status"] == "ok")
    return keys.sort_values(["_ok", "time_unix_s", "map_id"], kind="stable", ignore_index=True)[table.columns]


def depth_by_band(table):
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


def draw_sky(coverage, catalog, ranked, carded):
    """Map of the sky: a still figure (SVG) and, packed for the script of the page, what it draws one to zoom from.

    Parameters
    ----------
    coverage : dict or None
        From :func:`coverage.cover_sky`.
    catalog, ranked : pandas.DataFrame
        Known sources, and candidates.
    carded : set of str
        Candidates that have a card to lead to.
    """
    if coverage is None:
        return {"figure": "", "pack": ""}
    x = plots.unwrap(catalog["ra_deg"], coverage["ra0_deg"])
    inside = catalog["dec_deg"].between(*coverage["dec_deg"][[0, -1]]).to_numpy()
    inside = inside & (x >= coverage["x_deg"][0]) & (x <= coverage["x_deg"][-1])
    links = [f"#{name}" if name in carded else "#candidates" for name in ranked["candidate_id"]]
    figure = plots.sky(coverage, catalog[inside], ranked, links)
    label = f"Sky map in RA and Dec: coverage, {inside.sum()} sources, {len(ranked)} candidates"
    return {
        "figure": plots.to_svg(figure, "sky", label),
        "label": label,
        "pack": _pack_sky(coverage, catalog[inside], ranked, links),
    }


def _pack_sky(coverage, known, ranked, links):
    ra0, edges = coverage["ra0_deg"], (coverage["x_deg"], coverage["dec_deg"])
    arrays = {"flux": packs.shorten(known["flux_mjy"])}
    for name, rows in (("known", known), ("found", ranked)):
        arrays[f"{name}_x"] = np.round(plots.unwrap(rows["ra_deg"], ra0), 5)
        arrays[f"{name}_dec"] = np.round(rows["dec_deg"].to_numpy(float), 5)
    for k, frame in enumerate(plots.CIRCLES.values()):
        arrays[f"circle{k}_x"], arrays[f"circle{k}_dec"] = (np.float32(v) for v in plots.great_circle(frame, ra0))
    words = {
        "ra0": ra0, "box": [float(e) for pair in edges for e in pair[[0, -1]]],
        "coverage": plots.coverage_image(coverage["count"][::-1, ::-1]), "most": int(coverage["count"].max(initial=0)),
        "names": known["source_name"].tolist(), "found": ranked["candidate_id"].tolist(),
        "classes": ranked["class"].tolist(), "links": links, "circles": list(plots.CIRCLES),
        "styles": {name: [plots.THEME[colour], mark] for name, (colour, mark) in plots.CLASS_STYLES.items()},
    }  # fmt: skip
    return packs.pack(arrays, words)
