"""Spectral indices of many sources at once, against truth and against a fit of two bands."""

import numpy as np
import pytest
from nights import MERGE

from sotrplib import spectra, tables

FREQ = np.array([93.0, 149.0, 226.0])


def sky(rng, alpha, flux_mjy, err_mjy, n_visits):
    """Fluxes of sources of these indices, of another brightness at each visit, in three bands at once."""
    n = len(alpha)
    source, visit, band = (grid.ravel() for grid in np.indices((n, n_visits, len(FREQ))))
    level = flux_mjy[:, None] * rng.lognormal(0, 0.5, (n, n_visits))
    truth = level[source, visit] * (FREQ[band] / 149.0) ** alpha[source]
    err = np.full(len(source), float(err_mjy))
    return rng.normal(truth, err), err, FREQ[band], source * n_visits + visit, source


def test_two_bands_give_the_ratio_of_the_logarithms():
    """Of one pair of bands the index and its error are those of the logarithm of the ratio."""
    flux, err, freq = np.array([100.0, 70.0]), np.array([2.0, 3.0]), np.array([90.0, 150.0])
    index, index_err, n = spectra.fit_indices(flux, err, freq, np.zeros(2, int), np.zeros(2, int))
    log = np.log(150 / 90)
    assert index[0] == pytest.approx(np.log(0.7) / log, abs=1e-6) and n[0] == 1
    assert index_err[0] == pytest.approx(np.hypot(0.02, 3 / 70) / log, rel=1e-6)


def test_indices_have_true_errors(rng):
    """Pulls of 1500 variable sources of 8 sigma a band, 5 visits each, have mean 0 and width 1 (within 4 sigma)."""
    alpha = rng.normal(0.5, 1.2, 1500)
    index, index_err, n = spectra.fit_indices(*sky(rng, alpha, np.full(1500, 80.0), 10.0, 5))
    pull = (index - alpha) / index_err
    assert np.isfinite(index).all() and (n == 5).all()
    assert np.mean(pull) == pytest.approx(0, abs=4 / 1500**0.5)
    assert np.std(pull) == pytest.approx(1, abs=4 / 3000**0.5)


def test_brightness_between_visits_does_not_count():
    """A source that flares between two visits, each with one band, has no index; with both bands in each it has."""
    flux, freq = np.array([100.0, 500.0]), np.array([90.0, 150.0])
    apart = spectra.fit_indices(flux, np.ones(2), freq, np.array([0, 1]), np.zeros(2, int))
    assert np.isnan(apart[0][0]) and np.isnan(apart[1][0]) and apart[2][0] == 0
    both = spectra.fit_indices(np.r_[flux, 0.1 * flux], np.ones(4), np.tile(freq, 2), [0, 0, 1, 1], np.zeros(4, int))
    assert both[0][0] == pytest.approx(np.log(5) / np.log(5 / 3), abs=1e-3)


def test_sources_that_are_not_seen_have_no_index():
    """Negative fluxes, and one-band sources beside good ones, give NaN and leave the others alone."""
    flux = np.array([-5.0, -9.0, 100.0, 60.0, 40.0])
    freq = np.array([90.0, 150.0, 90.0, 150.0, 90.0])
    index, index_err, n = spectra.fit_indices(flux, np.ones(5), freq, [0, 0, 1, 1, 2], [0, 0, 1, 1, 2])
    assert np.isnan(index[[0, 2]]).all() and np.isnan(index_err[[0, 2]]).all()
    assert index[1] == pytest.approx(np.log(0.6) / np.log(5 / 3), abs=1e-6) and n.tolist() == [1, 1, 0]


def test_observations_are_chains_in_time():
    """Times chain within the gap, per source, in any order; an unknown time stands alone."""
    time = np.array([100.0, 0.0, np.nan, 60.0, 500.0, 10.0, np.nan])
    group = np.array([0, 0, 0, 0, 0, 1, 0])
    found = spectra.observations(group, time, 60.0)
    assert found[0] == found[1] == found[3]
    assert len(set(found.tolist())) == 5


def test_source_indices_of_a_table():
    """Bands measured ten minutes apart give an index a source; the calibration enters its error; blind rows do not."""
    columns = {name: np.zeros(6) for name in tables.column_names("measurements")}
    columns |= dict.fromkeys(("map_id", "source_name", "array"), "x")
    columns |= {"source_id": list("aabbcc"), "band": ["f090", "f150"] * 3, "freq_ghz": [90.0, 150.0] * 3}
    columns |= {"flux_mjy": [100.0, 60.0, 1000.0, 1000.0, 1.0, 2.0], "flux_err_mjy": 1.0}
    columns |= {"kind": ["forced"] * 4 + ["blind"] * 2, "time_unix_s": [0.0, 600.0, 0.0, 9000.0, 0.0, 0.0]}
    found = spectra.source_indices(tables.make("measurements", columns), MERGE)
    assert found.index.tolist() == ["a", "b"] and found["n_simultaneous"].tolist() == [1, 0]
    expected = np.hypot(np.hypot(0.05, 0.01), np.hypot(0.05, 1 / 60)) / np.log(5 / 3)
    assert found["spectral_index_err"]["a"] == pytest.approx(expected, rel=0.02)
    assert np.isnan(found["spectral_index"]["b"])


def test_nothing_gives_nothing():
    """No measurements give a table without rows."""
    assert spectra.source_indices(tables.empty("measurements"), MERGE).empty
