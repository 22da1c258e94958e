"""Detections of one thing in many maps: which belong together, where it is and what it is called.

Two detections are linked when they lie within ``associate_sigma`` of the joint error of their positions
and within ``associate_radius_arcmin``; links chain (A-B and B-C make one event of three). Two detections
of one map are two things and never share an event, unless they lie within an arcsecond: where chains
would join them the most significant links win and the last one is left out. Flaring catalogue sources
and moving objects are grouped by name. An event needs one detection, not noise, whose ``snr_peak`` reaches
``detect_snr``: where weaker ones are searched for, they support events and make none. Nothing depends on
the order of the rows.
"""

import numpy as np
import pandas as pd

from sotrplib import crossmatch, geometry, mapgroups
from sotrplib.sources import position_name

SAME_POSITION_ARCSEC = 1.0
_NEIGHBOURS = 48
_BLOCK = 20000
_POSITION = ["ra_deg", "dec_deg", "ra_err_arcsec", "dec_err_arcsec"]
_ARCSEC = np.deg2rad(1 / 3600)


def associate(sifted, options):
    """Number the event each detection belongs to.

    Parameters
    ----------
    sifted : pandas.DataFrame
        Table ``sifted`` of any number of maps in one, with a column ``map_id`` besides.
    options : mapping
        Section ``confirm_candidates``: associate_sigma, associate_radius_arcmin, pointing_floor_arcsec,
        detect_snr.

    Returns
    -------
    array of int, shape (n,)
        Event of each row: 0 is the event of the highest SNR. -1 for rows of none: the known, those too
        weak, and noise apart from any event (noise seeds no event and links no two, but supports the closest one).

    Notes
    -----
    Links come from a k-d tree on the sphere, to the 48 nearest neighbours of a detection at most: the cost
    is N log N however often a place was observed.
    """
    order = np.lexsort([sifted[name].to_numpy(dtype="U") for name in ("matched_name", "detection_id", "map_id")])
    rows = sifted.iloc[order].reset_index(drop=True)
    label = np.full(len(rows), -1)
    kind = rows["class"].to_numpy()
    seeds, noise = np.flatnonzero(kind == "transient"), np.flatnonzero(kind == "noise")
    label[seeds] = _chains(rows.iloc[seeds], options)
    label = _attach(label, rows, noise, seeds, options)
    named = np.flatnonzero(np.isin(kind, ["flare", "moving"]))
    label[named] = label.max(initial=-1) + 1 + _groups(rows.iloc[named])
    label = _drop_weak(label, rows, options["detect_snr"])
    numbered = np.empty(len(rows), int)
    numbered[order] = _number(label, rows["snr"].to_numpy())
    return numbered


def summarize(sifted, events, options):
    """One row an event: where it is and its most significant detection.

    Parameters
    ----------
    sifted : pandas.DataFrame
        As in :func:`associate`, with columns ``array`` and ``band`` besides.
    events : array of int, shape (n,)
        What :func:`associate` returned.
    options : mapping
        Section ``confirm_candidates``.

    Returns
    -------
    pandas.DataFrame
        Sorted by event: event, ra_deg, dec_deg (weighted mean; of the best detection for a moving object),
        ra_err_arcsec, dec_err_arcsec (with ``pointing_floor_arcsec``), n_detections, and of the detection
        of the highest SNR that is not noise: class, sift_reason, snr, time_unix_s, flux_mjy,
        flux_err_mjy, array, band, map_id, matched_name. Detections in several maps together (joint, coadd,
        difference) count only where no single map has one: they are made of the same data.
    """
    rows = sifted.assign(event=events, is_noise=sifted["class"] == "noise")[np.asarray(events) >= 0]
    maps, names = pd.factorize(rows["map_id"])
    rows = rows.assign(is_shared=np.array([mapgroups.found_by(name) != "map" for name in names], bool)[maps])
    order = ["event", "is_noise", "is_shared", "snr", "map_id"]
    rows = rows.sort_values(order, ascending=[True, True, True, False, True])
    best = rows.drop_duplicates("event").reset_index(drop=True)
    ra, dec, ra_err, dec_err = _mean_position(rows, best, options["pointing_floor_arcsec"])
    own = ["snr", "time_unix_s", "flux_mjy", "flux_err_mjy", "array", "band", "map_id", "matched_name"]
    return best[["event", "class", *own]].assign(
        sift_reason=best["reason"],
        ra_deg=ra,
        dec_deg=dec,
        ra_err_arcsec=ra_err,
        dec_err_arcsec=dec_err,
        n_detections=np.bincount(rows["event"], minlength=len(best)),
    )


def candidate_ids(ra_deg, dec_deg):
    """Names ``SOTRP_Jhhmmss.s-ddmmss`` of positions (n,), truncated as the IAU asks.

    Equal names get a letter in the order given: none, b, c, and so on.
    """
    names = [f"SOTRP_{position_name(ra % 360, dec)}" for ra, dec in zip(ra_deg, dec_deg, strict=True)]
    repeat = pd.Series(names, dtype=object).groupby(names).cumcount() if names else []
    return [name + _letters(n) for name, n in zip(names, repeat, strict=True)]


def _letters(n):
    text = ""
    while n > 0:
        text, n = chr(ord("a") + n % 26) + text, n // 26
    return text


# ---- links and chains -------------------------------------------------------------------------------


def _chains(rows, options):
    """Event of each seed: connected parts of the links in which no map comes twice."""
    i, j, sigma = _links(rows, rows, options)
    i, j, sigma = i[i < j], j[i < j], sigma[i < j]
    maps = _map_keys(rows, i, j)
    label = crossmatch.connected(len(rows), i, j) if len(rows) else np.empty(0, int)
    keys = pd.DataFrame({"label": label, "map": maps})
    crowded = np.unique(label[keys.duplicated().to_numpy()])
    split = np.isin(label[i], crowded)
    members = np.isin(label, crowded)
    label[members] = len(rows) + _strongest_first(i[split], j[split], sigma[split], maps)[members]
    return label


def _links(found, others, options):
    """Pairs of rows close enough to be one thing: i, j and significance of their separation."""
    radius, floor = 60 * options["associate_radius_arcmin"], 2 * options["pointing_floor_arcsec"] ** 2
    i, j = _neighbours(found, others, radius)
    one, two = found[_POSITION].iloc[i], others[_POSITION].iloc[j]
    position = [frame[name].to_numpy() for frame in (one, two) for name in ("ra_deg", "dec_deg")]
    offsets = geometry.tangent_offsets(*position)
    sigma = np.zeros(len(i))
    for offset, name in zip(offsets, ("ra_err_arcsec", "dec_err_arcsec"), strict=True):
        sigma = np.hypot(sigma, offset / np.sqrt(one[name].to_numpy() ** 2 + two[name].to_numpy() ** 2 + floor))
    near = sigma < options["associate_sigma"]
    return i[near], j[near], sigma[near]


def _neighbours(found, others, radius_arcsec):
    """The nearest of ``others`` around each of ``found``, within the radius; pairs in both directions."""
    from scipy.spatial import KDTree

    if found.empty or others.empty:
        return np.empty(0, int), np.empty(0, int)
    points, targets = (geometry.unit_vectors(f["ra_deg"].to_numpy(), f["dec_deg"].to_numpy()) for f in (found, others))
    tree, chord = KDTree(targets), 2 * np.sin(radius_arcsec * _ARCSEC / 2)
    pairs = []
    for start in range(0, len(points), _BLOCK):
        block = points[start : start + _BLOCK]
        near = tree.query(block, k=range(1, _NEIGHBOURS + 1), distance_upper_bound=chord)[1]
        row, column = np.nonzero(near < len(targets))
        pairs.append(np.stack([row + start, near[row, column]]))
    i, j = np.concatenate(pairs, axis=1)
    if found is not others:
        return i, j
    both = np.sort(np.concatenate([i * len(points) + j, j * len(points) + i]))
    return np.divmod(both[np.append(True, np.diff(both) > 0)[: len(both)]], len(points))  # np.unique hashes, slowly


def _map_keys(rows, i, j):
    """Number of the map of each row; detections of one map at one position count as of different maps."""
    maps = pd.factorize(rows["map_id"])[0]
    ra, dec = rows["ra_deg"].to_numpy(), rows["dec_deg"].to_numpy()
    same = maps[i] == maps[j]
    same[same] = geometry.separation_arcsec(ra[i[same]], dec[i[same]], ra[j[same]], dec[j[same]]) < SAME_POSITION_ARCSEC
    maps[j[same]] = maps.max(initial=0) + 1 + j[same]
    return maps


def _strongest_first(i, j, sigma, maps):
    """Chains built from the most significant link on, leaving out links that would join two of one map."""
    parent, members = np.arange(len(maps)), {}

    def root(k):
        while parent[k] != k:
            parent[k] = k = parent[parent[k]]
        return k

    for k in np.lexsort((j, i, sigma)):
        one, two = root(i[k]), root(j[k])
        maps_one, maps_two = members.get(one, {maps[one]}), members.get(two, {maps[two]})
        if one != two and not maps_one & maps_two:
            parent[two], members[one] = one, maps_one | maps_two
    return np.array([root(k) for k in range(len(maps))], int)


def _attach(label, rows, noise, seeds, options):
    """Labels with noise rows in the event of their most significant link, one row of a map at most."""
    label = label.copy()
    i, j, sigma = _links(rows.iloc[noise], rows.iloc[seeds], options)
    strongest = np.lexsort((j, i, sigma))
    strongest = strongest[np.sort(np.unique(i[strongest], return_index=True)[1])]
    maps, taken = rows["map_id"].to_numpy(), set(zip(label[seeds], rows["map_id"].iloc[seeds], strict=True))
    for k in strongest:
        row, event = noise[i[k]], label[seeds[j[k]]]
        if (event, maps[row]) not in taken:
            label[row] = event
            taken.add((event, maps[row]))
    return label


def _groups(rows):
    """Number of each row's class and name."""
    return rows.groupby(["class", "matched_name"], sort=True).ngroup().to_numpy()


def _drop_weak(label, rows, detect_snr):
    """Labels with -1 for events in which no detection but noise reaches the threshold."""
    strong = (rows["snr_peak"] >= detect_snr) & (rows["class"] != "noise")
    return np.where(np.isin(label, label[strong]), label, -1)


def _number(label, snr):
    """Relabel: 0 for the event of the highest SNR, and so on; -1 stays."""
    kept = np.flatnonzero(label >= 0)
    best = kept[np.argsort(-snr[kept], kind="stable")]
    _, first = np.unique(label[best], return_index=True)
    order = label[best][np.sort(first)]
    numbers = dict(zip(order.tolist(), range(len(order)), strict=True))
    return np.array([numbers.get(k, -1) for k in label.tolist()], int)


def _mean_position(rows, best, floor_arcsec):
    """Inverse-variance mean of the events' detections in the tangent plane of the best of each."""
    event, n = rows["event"].to_numpy(), len(best)
    ra0, dec0 = best["ra_deg"].to_numpy(), best["dec_deg"].to_numpy()
    offsets = geometry.tangent_offsets(rows["ra_deg"].to_numpy(), rows["dec_deg"].to_numpy(), ra0[event], dec0[event])
    doubled = rows["is_shared"].to_numpy() & ~best["is_shared"].to_numpy()[event]
    later = (rows["class"] == "moving") & rows["event"].duplicated()
    counted = ~(rows["is_noise"].to_numpy() | doubled | later.to_numpy())
    means, errors = [], []
    for offset, name in zip(offsets, ("ra_err_arcsec", "dec_err_arcsec"), strict=True):
        weight = np.where(counted, 1 / np.maximum(rows[name].to_numpy(), 1e-3) ** 2, 0.0)
        total = np.bincount(event, weight, minlength=n)
        means.append(np.bincount(event, weight * np.asarray(offset), minlength=n) / total)
        errors.append(np.hypot(total**-0.5, floor_arcsec))
    return *geometry.offset_position(ra0, dec0, *means), *errors
