"""Is a candidate real, and what is it? Decided by measuring its position in every map that covers it.

An observation is a chain of maps no farther than ``observation_gap_s`` apart in time at the position.
Numbers in ``code`` are options of the section ``confirm_candidates``; "excess" is the flux over the
catalogue flux, which is zero except for a flaring catalogue source.

* A map has *seen* the event when its excess there is at least ``confirm_snr`` sigma.
* A map *contradicts* it when its excess is below ``contradict_fraction`` of that of the discovery, and by
  more than ``contradict_sigma``, whichever of the ``spectral_indices`` links their bands. The same is
  asked of all other arrays together, and of the other bands of the discovering array.
* *Significance* (``combined_snr``): all maps of the observation of the discovery in one likelihood, whether
  they see it or not, for the best power law of ``spectral_indices``, against the constant catalogue flux
  with its error. ``p_false_night`` and ``p_false_survey`` say how likely noise alone is to reach it somewhere
  in the sky searched within 12 hours, and in all.
* *Confirmed*: in the observation of the discovery at least ``min_arrays`` arrays and ``min_bands`` bands
  have seen and do not contradict it, all maps of an array (or band) taken together, and ``p_false_night`` is not
  above ``p_false_night_max``. Two bands of one array are one witness: they share optics and time. However many
  maps an array has, noise makes it a witness with the probability of one Gaussian (a few, for the spectra tried).
* *artefact*: not confirmed, and contradicted.
* *new_source*: seen by all other observations together too, and constant in every band (chi-square probability
  at least ``p_constant_min``, with ``calibration_err``); confirmed by ``min_arrays`` over all observations.
* *flare*: an event found as the excess of a catalogue source. *moving*: matched with a moving object,
  measured where it was at the time; confirmed by ``min_arrays`` over all observations.
* An event that no single map has found, but several together (``found_by`` of the candidate), counts as
  discovered in the map that sees most of it at that time.
* *transient*: all else. An event that only one array covered, or that the others were too shallow to
  see, stays a transient (or flare) that is not confirmed; its reason says which.
"""

import numpy as np
import pandas as pd

from sotrplib import association, counterparts, mapgroups, matches, sifting, significance, tables, variability, workers

_COUNTS = ["combined_snr", "p_false_night", "p_false_survey", "n_maps", "n_arrays", "n_bands", "n_covering"]
_COUNTS += ["n_arrays_for", "n_arrays_against"]


def confirm(events, measure, maps, options, *, moving=None, recalled=None):
    """Measure every event in every map, and judge it.

    Parameters
    ----------
    events : pandas.DataFrame
        What ``association.summarize`` returned.
    measure : callable
        ``measure(map_id, targets)`` returns the fluxes at the targets in one map, row by row, as a table
        ``forced``, flag NO_DATA where the map does not cover them. ``targets`` has source_id (that of the
        flaring catalogue source, else empty), ra_deg and dec_deg. See :func:`revisits.measure_in_map`.
    maps : pandas.DataFrame
        The maps to use: map_id, array, band, freq_ghz, time_unix_s (reference time), area_deg2, fwhm_arcmin.
    options : mapping
        Section ``confirm_candidates``.
    moving : pandas.DataFrame, optional
        Tables ``moving`` of the maps in one, with a column ``map_id`` besides.
    recalled : callable, optional
        ``recalled(name)`` returns what takes the place of ``measure`` for targets of a kind: fixed, moving (where
        predicted for a map) or moved (when its time there is known). It may remember what was measured before.

    Returns
    -------
    candidates, measurements : pandas.DataFrame
        Tables of these names; the candidates by falling SNR and without ``external_*``, the measurements of kind
        ``confirm``.
    """
    evidence = gather(events, measure, maps, moving, recalled)
    found_by = [mapgroups.found_by(map_id) for map_id in events["map_id"]]
    events = _in_single_maps(events, evidence, options)
    judged = assess(events, evidence, maps, options)
    ids = np.array(association.candidate_ids(events["ra_deg"].to_numpy(), events["dec_deg"].to_numpy()), dtype=object)
    own = ["ra_deg", "dec_deg", "ra_err_arcsec", "dec_err_arcsec", "time_unix_s", "flux_mjy", "flux_err_mjy"]
    candidates = judged.assign(
        candidate_id=ids,
        max_snr=events["snr"],
        found_by=found_by,
        **events[[*own, "band", "map_id", "matched_name"]],
        **counterparts.NONE,
    )
    return tables.make("candidates", candidates), _measurements(events, evidence, ids)


def gather(events, measure, maps, moving=None, recalled=None):
    """Measurements of all events in all maps that cover them, one map at a time on each core of the job.

    Parameters as of :func:`confirm`.

    Returns
    -------
    pandas.DataFrame
        Columns of the table ``forced`` with event, map_id, array, band, freq_ghz; sorted by event, time
        and map_id. Rows without data are left out; unknown times are those of the map.
    """
    columns = [*tables.column_names("forced"), "event", "map_id", "array", "band", "freq_ghz"]
    tracks = {} if moving is None else dict(iter(moving.groupby("map_id")))
    parts = [pd.DataFrame({**{name: tables.empty("forced")[name] for name in columns[:-5]}})]

    def measured(row):
        track = tracks.get(row["map_id"], tables.empty("moving"))
        found = _measure_map(events, recalled or (lambda name: measure), row, track)
        labels = {name: row[name] for name in ("map_id", "array", "band", "freq_ghz")}
        time = found["time_unix_s"].fillna(row["time_unix_s"])
        kept = (found["flags"] & np.uint32(tables.flag("NO_DATA"))) == 0
        return found.assign(**labels, time_unix_s=time)[kept & np.isfinite(found["flux_mjy"])]

    if len(events):
        with workers.processes(measured) as each:
            parts += each(maps.sort_values("map_id").to_dict("records"))
    evidence = pd.concat(parts, ignore_index=True).reindex(columns=columns).astype({"event": int, "freq_ghz": float})
    return evidence.sort_values(["event", "time_unix_s", "map_id"], kind="stable", ignore_index=True)


def assess(events, evidence, maps, options):
    """Judge events by their measurements.

    Parameters
    ----------
    events, evidence : pandas.DataFrame
        From ``association.summarize`` and :func:`gather`.
    maps : pandas.DataFrame
        As for :func:`confirm`.
    options : mapping
        Section ``confirm_candidates``.

    Returns
    -------
    pandas.DataFrame
        One row an event: class, reason, confirmed and the columns of the table ``candidates`` from combined_snr
        to n_arrays_against.
    """
    rows = _weigh(events, evidence[variability.usable(evidence)].reset_index(drop=True), options)
    facts = _facts(events, rows, options)
    facts = facts.assign(**_false_alarms(events, facts, maps, options))
    judged = _classify(events, facts, options)
    groups = rows.groupby("event").indices
    reasons = [
        _reason(event, rows.iloc[groups.get(k, [])], options) for k, event in enumerate(judged.to_dict("records"))
    ]
    return judged[["class", "confirmed", *_COUNTS]].assign(reason=reasons)


# ---- measuring --------------------------------------------------------------------------------------


def _measure_map(events, measure_of, row, track):
    """Measurements of all events in one map; moving ones where they were when the map saw them."""
    is_moving = (events["class"] == "moving").to_numpy()
    flaring = np.where(events["class"] == "flare", events["matched_name"], "")
    fixed = pd.DataFrame({"source_id": flaring, **events[["ra_deg", "dec_deg", "event"]]})[~is_moving]
    gap = (track["time_unix_s"] - row["time_unix_s"]).abs()
    near = track.assign(gap=gap).sort_values(["gap", "time_unix_s"]).drop_duplicates("name").drop(columns="gap")
    movers = events[is_moving][["event", "matched_name"]].merge(near, left_on="matched_name", right_on="name")
    found = _measured(measure_of("moving"), row["map_id"], _as_targets(movers))
    if len(movers):
        movers = matches.propagate(movers, found["time_unix_s"].to_numpy())
        found = _measured(measure_of("moved"), row["map_id"], _as_targets(movers))
    return pd.concat([_measured(measure_of("fixed"), row["map_id"], fixed), found], ignore_index=True)


def _as_targets(movers):
    return movers[["ra_deg", "dec_deg", "event"]].assign(source_id="")


def _measured(measure, map_id, targets):
    if targets.empty:
        return tables.empty("forced").assign(event=np.empty(0, int))
    found = tables.make("forced", measure(map_id, targets.reset_index(drop=True)[["source_id", "ra_deg", "dec_deg"]]))
    if len(found) != len(targets):
        raise ValueError(f"{map_id}: {len(found)} measurements of {len(targets)} targets; return one row a target")
    return found.assign(event=targets["event"].to_numpy())


def _measurements(events, evidence, ids):
    event = evidence["event"].to_numpy()
    names = np.where(events["matched_name"] != "", events["matched_name"], ids)
    columns = [name for name in tables.column_names("measurements") if name in evidence]
    labels = {"source_id": ids[event], "source_name": names[event], "kind": "confirm"}
    return tables.make("measurements", evidence[columns].assign(**labels))


# ---- weighing ---------------------------------------------------------------------------------------


def _in_single_maps(events, evidence, options):
    """Events that several maps together gave, as measured in the map that sees most of each at that time."""
    rows = evidence[variability.usable(evidence)]
    shared = np.array([mapgroups.found_by(map_id) != "map" for map_id in events["map_id"]], bool)
    event = rows["event"].to_numpy()
    gap = np.abs(rows["time_unix_s"].to_numpy() - events["time_unix_s"].to_numpy(float)[event])
    ranked = rows.assign(apart=~(gap <= options["observation_gap_s"]))[shared[event]]
    best = ranked.sort_values(["event", "apart", "snr"], ascending=[True, True, False]).drop_duplicates("event")
    names = ["map_id", "array", "band", "time_unix_s", "flux_mjy", "flux_err_mjy"]
    seen = best.set_index("event")[names].reindex(events.index)
    return events.assign(**{name: seen[name].where(seen["map_id"].notna(), events[name]) for name in names})


def _weigh(events, rows, options):
    """Add to each measurement what it says about its event (see the head of this module)."""
    event = rows["event"].to_numpy()
    expected, expected_err = (np.nan_to_num(rows[f"catalog_flux{e}_mjy"].to_numpy()) for e in ("", "_err"))
    flare = (events["class"] == "flare").to_numpy()[event]
    rows = rows.assign(
        excess=rows["flux_mjy"] - np.where(flare, expected, 0),
        base_err=np.where(flare, expected_err, 0),
        observation=_observations(event, rows["time_unix_s"].to_numpy(), options["observation_gap_s"]),
        discovery=rows["map_id"].to_numpy() == events["map_id"].to_numpy()[event],
    )
    rows = rows.assign(significance=rows["excess"] / np.hypot(rows["flux_err_mjy"], rows["base_err"]))
    found = rows[rows["discovery"]].drop_duplicates("event").set_index("event").reindex(range(len(events)))
    own = {
        name: found[name].to_numpy()[event] for name in ("observation", "freq_ghz", "excess", "flux_err_mjy", "array")
    }
    rows = rows.assign(
        together=rows["observation"] == own["observation"],
        same_array=rows["array"].to_numpy() == own["array"],
        ratio=rows["freq_ghz"] / own["freq_ghz"],
        found_excess=own["excess"],
        found_err=np.hypot(own["flux_err_mjy"], options["calibration_err"] * own["excess"]),
    )
    against = _contradicts(rows["excess"].to_numpy()[None], rows["flux_err_mjy"].to_numpy()[None], rows, options)
    return rows.assign(
        seen=rows["significance"] >= options["confirm_snr"],
        against=against & rows["together"] & ~rows["discovery"],
    )


def _observations(event, time, gap_s):
    """Number of the observation of each row; rows are sorted by event and time."""
    new = (np.diff(event, prepend=-1) != 0) | (np.diff(time, prepend=-np.inf) > gap_s)
    return np.cumsum(new) - 1


def _contradicts(excess, err, found, options):
    """Is the excess (n spectra, n) far below that of the discovery, for every spectrum?"""
    spectrum = significance.spectra(found["ratio"], options["spectral_indices"])
    expected, expected_err = (found[name].to_numpy() * spectrum for name in ("found_excess", "found_err"))
    far = (expected - excess) > options["contradict_sigma"] * np.hypot(err, expected_err)
    return (far & (excess < options["contradict_fraction"] * expected)).all(axis=0)


def _facts(events, rows, options):
    """What all measurements together say of each event: one row an event."""
    n, event = len(events), rows["event"].to_numpy()
    together, indices = rows[rows["together"]], options["spectral_indices"]
    rest = rows[~rows["together"]]
    others = significance.combine(rest, rest["event"].to_numpy(), n, indices)[2].max(axis=0)
    arrays_for, arrays_against, _ = _witnesses(n, together, "array", options)
    combined, n_seen, n_observations = _observation_facts(n, rows, options)
    return pd.DataFrame(
        {
            "combined_snr": combined,
            "n_observations": n_observations,
            "n_seen": n_seen,
            "p_constant": _constancy(n, rows, options),
            "contradicted": _any_contradiction(n, rows, options),
            "n_maps": np.bincount(event[rows["seen"]], minlength=n),
            "n_arrays": _distinct(n, rows[rows["seen"]], "array"),
            "n_bands": _distinct(n, rows[rows["seen"]], "band"),
            "n_covering": np.bincount(event, minlength=n),
            "n_watching": _distinct(n, rows[rows["together"]], "array"),
            "n_watching_bands": _distinct(n, rows[rows["together"]], "band"),
            "n_arrays_for": arrays_for,
            "n_arrays_against": arrays_against,
            "n_bands_for": _witnesses(n, together, "band", options)[0],
            "n_arrays_ever": _witnesses(n, rows, "array", options)[2],
            "n_bands_ever": _witnesses(n, rows, "band", options)[2],
            "others_snr": others,
        }
    )


def _distinct(n, rows, column):
    pairs = rows[["event", column]].drop_duplicates()
    return np.bincount(pairs["event"], minlength=n)


def _witnesses(n, rows, column, options):
    """How many arrays (or bands), their maps together, see an event without contradiction, contradict it, see it."""
    group = rows.groupby(["event", column]).ngroup().to_numpy()
    each = rows.assign(group=group, ratio=1.0).drop_duplicates("group").sort_values("group")
    indices, event = options["spectral_indices"], each["event"].to_numpy()
    seen = significance.combine(rows, group, len(each), indices)[2].max(axis=0) >= options["confirm_snr"]
    flux, err, _ = significance.combine(rows.assign(base_err=0.0), group, len(each), indices)
    against = _contradicts(flux, err, each, options)
    return [np.bincount(event[found], minlength=n) for found in (seen & ~against, against, seen)]


def _observation_facts(n, rows, options):
    """Combined SNR of the discovery's observation, and how many observations saw the event, of how many."""
    observation, event = rows["observation"].to_numpy(), rows["event"].to_numpy()
    count = int(observation.max(initial=-1)) + 1
    first = np.unique(observation, return_index=True)[1]
    snr = significance.combine(rows, observation, count, options["spectral_indices"])[2]
    combined, best = np.full(n, np.nan), np.zeros(n, int)
    own = first[rows["together"].to_numpy()[first]]
    best[event[own]] = np.argmax(snr[:, observation[own]], axis=0)
    combined[event[own]] = snr[best[event[own]], observation[own]]
    seen = snr[best[event[first]], np.arange(count)] >= options["confirm_snr"]
    return combined, np.bincount(event[first][seen], minlength=n), np.bincount(event[first], minlength=n)


def _false_alarms(events, facts, maps, options):
    """Probability that noise alone is as significant: columns p_false_night and p_false_survey."""
    night, survey = significance.areas_deg2(events["time_unix_s"].to_numpy(), maps)
    n_trials = np.where(facts["n_watching_bands"] > 1, len(options["spectral_indices"]), 1)
    shared = facts["combined_snr"].to_numpy(), maps["fwhm_arcmin"].min()
    return {
        "p_false_night": significance.false_alarm_probability(*shared, night, n_trials),
        "p_false_survey": significance.false_alarm_probability(*shared, survey, n_trials),
    }


def _any_contradiction(n, rows, options):
    """Contradicted by the other arrays together, or by the other maps of the discovering array."""
    found = rows[rows["discovery"]].drop_duplicates("event").assign(ratio=1.0)
    contradicted = np.zeros(n, bool)
    for others in (~rows["same_array"], rows["same_array"] & ~rows["discovery"]):
        part = rows[rows["together"] & others].assign(base_err=0.0)  # the discovery has the same base
        flux, err, _ = significance.combine(part, part["event"].to_numpy(), n, options["spectral_indices"])
        event = found["event"].to_numpy()
        contradicted[event] |= _contradicts(flux[:, event], err[:, event], found, options)
    return contradicted


def _constancy(n, rows, options):
    """Probability of so large a chi-square if the flux is constant in every band; NaN for one map a band."""
    from scipy.special import chdtrc

    group = rows.groupby(["event", "band"]).ngroup().to_numpy()
    pairs = rows[["event", "band"]].drop_duplicates().sort_values(["event", "band"])
    event = pairs["event"].to_numpy()
    flux, err = rows["flux_mjy"].to_numpy(), rows["flux_err_mjy"].to_numpy()
    mean = variability.statistics(flux, err, group, len(pairs))["mean"]
    err = np.hypot(err, options["calibration_err"] * mean[group])
    found = variability.statistics(flux, err, group, len(pairs))
    chi2 = np.bincount(event, np.nan_to_num(found["chi2"]), minlength=n)
    dof = np.bincount(event, np.clip(found["n"] - 1, 0, None), minlength=n)
    return chdtrc(np.where(dof > 0, dof, np.nan), chi2)


# ---- judging ----------------------------------------------------------------------------------------


def _classify(events, facts, options):
    """Class and confirmation of each event, beside its facts."""
    kind = events["class"].to_numpy()
    seen_again = facts["others_snr"] >= options["confirm_snr"]
    steady = (kind == "transient") & seen_again & (facts["p_constant"] >= options["p_constant_min"])
    simultaneous = (facts["n_arrays_for"] >= options["min_arrays"]) & (facts["n_bands_for"] >= options["min_bands"])
    ever = (facts["n_arrays_ever"] >= options["min_arrays"]) & (facts["n_bands_ever"] >= options["min_bands"])
    likely = facts["p_false_night"] <= options["p_false_night_max"]
    confirmed = np.where(steady | (kind == "moving"), ever, simultaneous & likely)
    artefact = ~confirmed & ~steady & facts["contradicted"] & (kind != "moving")
    named = np.select([artefact, steady], ["artefact", "new_source"], kind)
    shared = events[["sift_reason", "matched_name"]].assign(**{"class": named, "confirmed": confirmed})
    return pd.concat([shared.reset_index(drop=True), facts], axis=1)


def _reason(event, rows, options):
    """The evidence for one event in words."""
    parts = [] if event["sift_reason"].startswith(sifting.NOTHING_NEAR) else [event["sift_reason"]]
    parts.append(_verdict(event, options))
    together = rows[rows["together"]]
    parts.append("together: " + ", ".join(_map_words(*v) for v in _columns(together)) if len(together) else "")
    others = event["n_observations"] - (len(together) > 0)
    seen = event["n_seen"] - (event["combined_snr"] >= options["confirm_snr"])
    text = f"{others} other observations, seen in {seen}" if others else "no other observation"
    parts.append(text + (f", constant flux p = {event['p_constant']:.1g}" if event["p_constant"] >= 0 else ""))
    return "; ".join(part for part in parts if part)


def _verdict(event, options):
    if event["class"] == "artefact":
        return "contradicted: others should have seen it and did not"
    if event["confirmed"]:
        over_all = event["class"] in ("new_source", "moving")
        count = event["n_arrays_ever"] if over_all else event["n_arrays_for"]
        return f"confirmed: {count} arrays" + (" over all observations" if over_all else " in one observation")
    if event["n_watching"] < options["min_arrays"]:
        return f"unconfirmed: {_arrays(event['n_watching'])} covered it"
    if event["n_arrays_for"] >= options["min_arrays"] and event["p_false_night"] > options["p_false_night_max"]:
        return f"unconfirmed: noise reaches this in one night with p = {event['p_false_night']:.1g}"
    return f"unconfirmed: {_arrays(event['n_arrays_for'])} saw it, the others too shallow to tell"


def _arrays(count):
    return {0: "no array", 1: "one array"}.get(count, f"{count} arrays")


def _columns(rows):
    names = ["array", "band", "significance", "against"]
    return zip(*(rows[name] for name in names), strict=True)


def _map_words(array, band, significance, against):
    return f"{array} {band} {significance:.1f} sigma" + (" (contradicts)" if against else "")
