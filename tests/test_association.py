"""Detections of one source share an event; others do not."""

import time

import numpy as np
import pandas as pd
import pytest

from sotrplib import association, geometry, tables

OPTIONS = {"associate_sigma": 4.0, "associate_radius_arcmin": 1.5, "pointing_floor_arcsec": 3.0, "detect_snr": 5.0}


def sifted(ra_deg, dec_deg, map_id, **columns):
    """Transients of SNR 10 good to 5 arcsec in the maps named, changed by ``columns``."""
    n = np.size(ra_deg)
    given = {name: np.zeros(n) for name in tables.column_names("sifted")}
    given |= {"detection_id": np.arange(n), "origin": "blind", "ra_deg": ra_deg, "dec_deg": dec_deg}
    given |= {"ra_err_arcsec": 5.0, "dec_err_arcsec": 5.0, "flux_mjy": 100.0, "flux_err_mjy": 10.0}
    given |= {"snr": 10.0, "snr_peak": 10.1}
    given |= {"class": "transient", "reason": "none near", "matched_name": ""}
    frame = tables.make("sifted", given | columns)
    return frame.assign(map_id=np.broadcast_to(map_id, n), array="i1", band="f090")


def visits(rng, ra, dec, n_maps, error=5.0):
    """The same sources found in every map with true errors, and the number of each row's source."""
    source, maps = (values.ravel() for values in np.meshgrid(np.arange(np.size(ra)), np.arange(n_maps)))
    offsets = rng.normal(0, error, (2, source.size))
    ra, dec = geometry.offset_position(np.atleast_1d(ra)[source], np.atleast_1d(dec)[source], *offsets)
    return sifted(ra, dec, maps.astype(str), snr=rng.uniform(5, 50, source.size)), source


def partition(labels):
    """Which rows stand together, whatever the labels are called."""
    return {frozenset(np.flatnonzero(labels == k)) for k in set(labels)}


@pytest.mark.parametrize(("ra", "dec"), [(0.0, 0.0), (359.9999, -60.0), (77.0, 89.9999), (10.0, -90.0)])
def test_sources_are_put_together_anywhere(rng, ra, dec):
    """Five sources 4 arcmin apart in 30 maps give five events, at RA 0, near the poles and on them."""
    angle = np.arange(5) * 2 * np.pi / 5
    frame, truth = visits(rng, *geometry.offset_position(ra, dec, 240 * np.cos(angle), 240 * np.sin(angle)), 30)
    assert partition(association.associate(frame, OPTIONS)) == partition(truth)


def test_order_of_rows_does_not_matter(rng):
    """Permuted rows give the same events with the same numbers, crowded and mixed with noise as they may be."""
    ra, dec = rng.uniform(-0.04, 0.04, (2, 25))
    frame, _ = visits(rng, ra, dec, 8, error=8.0)
    frame["class"] = rng.choice(["transient", "transient", "noise", "known"], len(frame))
    labels = association.associate(frame, OPTIONS)
    events = association.summarize(frame, labels, OPTIONS)
    for _ in range(5):
        order = rng.permutation(len(frame))
        again = association.associate(frame.iloc[order], OPTIONS)
        np.testing.assert_array_equal(again, labels[order])
        pd.testing.assert_frame_equal(association.summarize(frame.iloc[order], again, OPTIONS), events)


def test_chains_make_one_event():
    """A near B and B near C make one event of three, though A and C are too far apart."""
    frame = sifted([0.0, 0.0, 0.0], np.array([0, 28, 56]) / 3600, ["a", "b", "c"])
    assert association.associate(frame, OPTIONS).tolist() == [0, 0, 0]
    assert association.associate(frame.iloc[[0, 2]], OPTIONS).tolist() == [0, 1]


def test_weak_detections_support_events_and_make_none():
    """Detections below the threshold join one that reaches it; without such a one, or one that is noise, they go."""
    frame = sifted([0.0, 0.0, 1.0, 1.0, 2.0, 2.0], 0.0, list("ababab"), snr_peak=[5.0, 4.0, 4.9, 4.9, 4.0, 9.0])
    frame.loc[5, "class"] = "noise"
    assert association.associate(frame, OPTIONS).tolist() == [0, 0, -1, -1, -1, -1]
    everything = association.associate(frame, OPTIONS | {"detect_snr": 0.0})
    assert partition(everything) == {frozenset(pair) for pair in ([0, 1], [2, 3], [4, 5])}


def test_close_pairs_in_one_map_stay_apart(rng):
    """Sources 25 arcsec apart in 40 maps are two events at errors of 2 arcsec; at 8 no event has two of one map."""
    pair = [0.0, 0.0], [0.0, 25 / 3600]
    frame, truth = visits(rng, *pair, 40, error=2.0)
    frame = frame.assign(ra_err_arcsec=8.0, dec_err_arcsec=8.0)
    assert partition(association.associate(frame, OPTIONS)) == partition(truth)
    frame, truth = visits(rng, *pair, 40, error=8.0)
    labels = association.associate(frame.assign(ra_err_arcsec=8.0, dec_err_arcsec=8.0), OPTIONS)
    for k in set(labels):
        assert not frame["map_id"][labels == k].duplicated().any()


def test_one_position_twice_in_a_map_is_one_thing():
    """Two detections of one map at the same position share an event."""
    frame = sifted([1.0, 1.0, 1.0], [0.0, 0.0, 0.0], ["a", "a", "b"])
    assert association.associate(frame, OPTIONS).tolist() == [0, 0, 0]


def test_link_needs_significance_and_radius():
    """40 arcsec apart is one event at 8 arcsec errors, two at 2 arcsec or with a smaller maximum."""
    frame = sifted([0.0, 0.0], [0.0, 40 / 3600], ["a", "b"])
    for error, radius, expected in ((8.0, 1.5, [0, 0]), (2.0, 1.5, [0, 1]), (8.0, 0.5, [0, 1])):
        poor = frame.assign(ra_err_arcsec=error, dec_err_arcsec=error)
        assert association.associate(poor, OPTIONS | {"associate_radius_arcmin": radius}).tolist() == expected


def test_noise_supports_but_never_seeds_or_links():
    """Noise joins the closest transient, makes no event alone, and links no two transients."""
    dec = np.array([0, 28, 56, 900, 905]) / 3600
    frame = sifted(np.zeros(5), dec, list("abcde"), snr=[10, 9, 8, 7, 6.0])
    frame["class"] = ["transient", "noise", "transient", "noise", "noise"]
    assert association.associate(frame, OPTIONS).tolist() in ([0, 0, 1, -1, -1], [0, 1, 1, -1, -1])
    frame["dec_deg"] = np.array([0, 20, 56, 900, 905]) / 3600
    assert association.associate(frame, OPTIONS).tolist() == [0, 0, 1, -1, -1]


def test_noise_of_the_same_map_stays_out():
    """Noise next to a transient of its own map is another thing."""
    frame = sifted([0.0, 0.0], [0.0, 20 / 3600], ["a", "a"])
    frame["class"] = ["transient", "noise"]
    assert association.associate(frame, OPTIONS).tolist() == [0, -1]


def test_named_rows_are_grouped_by_name():
    """An asteroid degrees along its way is one event, two flaring sources are two, known sources none."""
    frame = sifted([10.0, 12.0, 10.0, 10.0, 10.0], np.zeros(5), list("abbca"), snr=[9, 8, 7, 6, 5.0])
    frame["class"] = ["moving", "moving", "flare", "flare", "known"]
    frame["matched_name"] = ["Ceres", "Ceres", "s1", "s2", "s3"]
    assert association.associate(frame, OPTIONS).tolist() == [0, 0, 1, 2, -1]


def test_chance_links_are_as_rare_as_the_sky_is_empty(rng):
    """Unrelated detections of two maps are linked with the chance of the match area."""
    n, side = 20000, 20.0
    ra, dec = rng.uniform(0, side, n), rng.uniform(-side / 2, side / 2, n)
    labels = association.associate(sifted(ra, dec, rng.choice(["a", "b"], n)), OPTIONS)
    sigma = np.sqrt(2 * 5**2 + 2 * 3**2) / 3600
    expected = n * n / 4 / side**2 * np.pi * (4 * sigma) ** 2
    assert abs(n - len(set(labels)) - expected) < 5 * np.sqrt(expected)


def test_many_visits_cost_n_log_n(rng):
    """1000 visits of 20 sources, 10 million pairs, take a second or two and come out whole."""
    frame, truth = visits(rng, rng.uniform(0, 5, 20), np.arange(20) / 4, 1000)
    start = time.perf_counter()
    labels = association.associate(frame, OPTIONS)
    assert time.perf_counter() - start < 15
    assert partition(labels) == partition(truth)


def test_summary_has_the_weighted_mean_and_the_best_detection(rng):
    """The position is the weighted mean, over RA 0; numbers are those of the highest SNR that is not noise."""
    frame = sifted([359.9995, 0.0005, 0.0], [0.0, 0.0, 0.001], ["a", "b", "c"], snr=[9.0, 12.0, 30.0])
    frame = frame.assign(ra_err_arcsec=[1.0, 2.0, 1.0], dec_err_arcsec=[1.0, 2.0, 1.0], flux_mjy=[1.0, 2.0, 3.0])
    frame["class"] = ["transient", "transient", "noise"]
    found = association.summarize(frame, np.zeros(3, int), OPTIONS).iloc[0]
    assert found["ra_deg"] == pytest.approx(360 - 0.0003, abs=1e-9) and found["dec_deg"] == pytest.approx(0, abs=1e-9)
    assert found["ra_err_arcsec"] == pytest.approx(np.hypot(1 / np.sqrt(1.25), 3.0))
    assert (found["map_id"], found["snr"], found["flux_mjy"], found["n_detections"]) == ("b", 12.0, 2.0, 3)


def test_mean_positions_have_true_errors(rng):
    """Pulls of the mean positions of 2000 sources in 5 maps are those of a unit normal (within 0.05)."""
    ra, dec = np.arange(2000) % 50 * 0.2, np.arange(2000) // 50 * 0.2 - 4
    frame, truth = visits(rng, ra, dec, 5)
    options = OPTIONS | {"pointing_floor_arcsec": 0.0, "associate_sigma": 9.0}
    labels = association.associate(frame, options)
    found = association.summarize(frame, labels, options)
    source = truth[[np.flatnonzero(labels == k)[0] for k in found["event"]]]
    offset = geometry.tangent_offsets(found["ra_deg"].to_numpy(), found["dec_deg"].to_numpy(), ra[source], dec[source])
    assert np.std(offset[0] / found["ra_err_arcsec"]) == pytest.approx(1, abs=0.05)
    assert np.std(offset[1] / found["dec_err_arcsec"]) == pytest.approx(1, abs=0.05)


def test_moving_event_is_where_it_was_brightest():
    """The position of a moving event is that of its best detection, no mean along the way."""
    frame = sifted([10.0, 12.0], [0.0, 0.0], ["a", "b"], snr=[9.0, 8.0], matched_name="Ceres")
    frame["class"] = "moving"
    assert association.summarize(frame, np.zeros(2, int), OPTIONS)["ra_deg"].tolist() == [pytest.approx(10.0)]


def test_nothing_gives_nothing():
    """No rows give no events, of the right columns."""
    frame = sifted([], [], [])
    labels = association.associate(frame, OPTIONS)
    assert labels.shape == (0,)
    assert "n_detections" in association.summarize(frame, labels, OPTIONS)


def test_candidate_names_are_truncated_and_unique():
    """Names follow the IAU: truncated, signed, over all carries; equal ones get letters."""
    ra = [0.0, 359.99999, 180.0, 83.63321, 83.63321, 83.63321, 15.0]
    dec = [0.0, -0.0001, 90.0, 22.01446, 22.01446, 22.01446, -5.99999]
    assert association.candidate_ids(ra, dec) == [
        "SOTRP_J000000.0+000000",
        "SOTRP_J235959.9-000000",
        "SOTRP_J120000.0+900000",
        "SOTRP_J053431.9+220052",
        "SOTRP_J053431.9+220052b",
        "SOTRP_J053431.9+220052c",
        "SOTRP_J010000.0-055959",
    ]
    names = association.candidate_ids(np.zeros(800), np.zeros(800))
    assert len(set(names)) == 800 and association.candidate_ids([], []) == []
