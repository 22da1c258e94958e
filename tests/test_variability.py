"""Statistics of variability against analytic cases and against plain loops."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sotrplib import tables, variability


def measured(source_id, band, flux, err, *, flags=0, kind="forced"):
    """Measurements with made-up positions and times."""
    n = np.size(flux)
    columns = {name: np.zeros(n) for name in tables.column_names("measurements")}
    columns |= {
        "source_id": source_id,
        "band": band,
        "flux_mjy": flux,
        "flux_err_mjy": err,
        "flags": flags,
        "kind": kind,
    }
    for name in ("map_id", "source_name", "array"):
        columns[name] = "x"
    return tables.make("measurements", columns)


def test_statistics_equal_the_published_formulae(rng):
    """eta and V equal TraP's formulae, written with means of products, for one source."""
    flux, err = rng.normal(100, 20, 30), rng.uniform(3, 9, 30)
    found = variability.statistics(flux, err, np.zeros(30, int), 1)
    w, n = err**-2, 30
    eta = n / (n - 1) * (np.mean(w * flux**2) - np.mean(w * flux) ** 2 / np.mean(w))
    assert found["eta"][0] == pytest.approx(eta, rel=1e-9)
    assert found["v"][0] == pytest.approx(np.std(flux, ddof=1) / np.mean(flux), rel=1e-12)
    assert found["mean"][0] == pytest.approx(np.average(flux, weights=w), rel=1e-12)
    assert found["mean_err"][0] == pytest.approx(np.sum(w) ** -0.5, rel=1e-12)
    assert found["p_constant"][0] == pytest.approx(stats.chi2.sf(eta * (n - 1), n - 1), rel=1e-9)


def test_constant_sources_have_eta_one_and_uniform_p(rng):
    """Over 4000 steady sources eta averages 1 and p_constant is uniform (Kolmogorov-Smirnov p above 1e-3)."""
    n, visits = 4000, 8
    group, err = np.repeat(np.arange(n), visits), rng.uniform(1, 5, n * visits)
    found = variability.statistics(rng.normal(1e4, err), err, group, n)
    assert found["eta"].mean() == pytest.approx(1, abs=4 * np.sqrt(2 / 7 / n))
    assert stats.kstest(found["p_constant"], "uniform").pvalue > 1e-3


def test_variable_source_stands_out():
    """Fluxes 10 and 30 with errors 1 give eta 200, V 0.707 and a p_constant of nothing."""
    found = variability.statistics(np.array([10.0, 30.0]), np.ones(2), np.zeros(2, int), 1)
    assert found["eta"][0] == pytest.approx(200)
    assert found["v"][0] == pytest.approx(0.5**0.5)
    assert found["p_constant"][0] < 1e-40


def test_precision_survives_bright_steady_sources():
    """A 1e9 mJy source that changes by 1e-3 mJy has that scatter, not rounding."""
    found = variability.statistics(1e9 + np.array([0, 1e-3, 2e-3]), np.full(3, 1e-3), np.zeros(3, int), 1)
    assert found["scatter"][0] == pytest.approx(1e-3, rel=1e-3)


def test_too_few_measurements_give_nan():
    """An empty group has no mean, a single measurement no scatter, eta or p."""
    found = variability.statistics(np.array([5.0]), np.array([2.0]), np.array([1]), 2)
    assert found["n"].tolist() == [0, 1]
    assert np.isnan(found["mean"][0]) and np.isnan(found["mean_err"][0])
    assert (found["mean"][1], found["mean_err"][1]) == (5, 2)
    assert all(np.isnan(found[name]).all() for name in ("scatter", "v", "eta", "chi2", "p_constant"))


def test_pair_metrics_of_two_epochs():
    """Fluxes 30 +- 3 and 10 +- 4 differ by Vs = 4 and m = 1; no change gives 0."""
    vs, m = variability.pair_metrics([30.0, 7.0], [3.0, 1.0], [10.0, 7.0], [4.0, 1.0])
    np.testing.assert_allclose(vs, [4, 0])
    np.testing.assert_allclose(m, [1, 0])


def test_band_statistics_equal_a_loop_over_sources(rng):
    """One pass over shuffled measurements gives what a loop over sources and bands gives."""
    n = 3000
    source, band = rng.integers(0, 40, n).astype(str), rng.choice(["f090", "f150"], n)
    frame = measured(source, band, rng.normal(50, 9, n), rng.uniform(1, 3, n))
    found = variability.band_statistics(frame)
    assert len(found) == 80 and found[["source_id", "band"]].equals(
        found[["source_id", "band"]].sort_values(["source_id", "band"])
    )
    for row in found.iloc[::17].to_dict("records"):
        part = frame[(frame["source_id"] == row["source_id"]) & (frame["band"] == row["band"])]
        assert row["n_measurements"] == len(part)
        assert row["mean_flux_mjy"] == pytest.approx(np.average(part["flux_mjy"], weights=part["flux_err_mjy"] ** -2))
        assert row["scatter_mjy"] == pytest.approx(part["flux_mjy"].std(ddof=1))


def test_unusable_measurements_do_not_count():
    """NaN fluxes, zero errors, masked positions and blind detections leave the mean alone."""
    good = measured("a", "f090", [1.0, 3.0], [1.0, 1.0])
    bad = [
        measured("a", "f090", [np.nan, 9.0, 9.0], [1.0, np.nan, 0.0]),
        measured("a", "f090", [9.0], [1.0], flags=tables.flag("MASKED")),
        measured("a", "f090", [9.0], [1.0], kind="blind"),
    ]
    found = variability.band_statistics(pd.concat([good, *bad]))
    assert found["n_measurements"].tolist() == [2] and found["mean_flux_mjy"].tolist() == [2.0]


def test_no_measurements_give_an_empty_table():
    """An empty table of measurements gives an empty table of the right types."""
    found = variability.band_statistics(tables.empty("measurements"))
    assert found.dtypes.equals(tables.empty("source_bands").dtypes)
