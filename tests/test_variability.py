"""Statistics of variability against analytic cases and against plain loops."""

import numpy as np
import pandas as pd
import pytest
from nights import MERGE
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
        "freq_ghz": 90.0,
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
    found = variability.band_statistics(frame, MERGE, 90.0)
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
    found = variability.band_statistics(pd.concat([good, *bad]), MERGE, 90.0)
    assert found["n_measurements"].tolist() == [2] and found["mean_flux_mjy"].tolist() == [2.0]


def test_no_measurements_give_an_empty_table():
    """An empty table of measurements gives an empty table of the right types."""
    found = variability.band_statistics(tables.empty("measurements"), MERGE, 90.0)
    assert found.dtypes.equals(tables.empty("source_bands").dtypes)


def test_eta_and_v_equal_those_of_trap():
    """Light curves of TraP's own test, 10 to 40 times 1, 2 and 3 with errors 0.1, give the eta and V it expects."""
    flux = np.outer([1, 2, 3], [10.0, 20.0, 30.0, 40.0]).ravel()
    found = variability.statistics(flux, np.full(12, 0.1), np.repeat(np.arange(3), 4), 3)
    np.testing.assert_allclose(found["eta"], [16666.66666667, 66666.666666667, 150000.0], rtol=1e-12)
    np.testing.assert_allclose(found["v"], 0.516397779494, rtol=1e-11)


def test_eta_and_v_equal_those_of_vast():
    """A light curve with negative fluxes, of the tests of the VAST tools, gives the eta and V they expect.

    Their V, like ours, is the sample standard deviation over the unweighted mean. The tolerance is that of their tests.
    """
    early = [-0.1536501944065094, -0.11119924485683441, -0.7933286428451538, 1.0169366598129272]
    early_err = [0.2477360963821411, 0.24757413566112518, 0.2197069227695465, 0.2355700582265854]
    peak, peak_err = [3.0840001106262207, 7.142000198364258], [0.26184606552124023, 0.2906762361526489]
    whole, whole_err = [3.947999954223633, 8.831000328063965], [0.5366007089614868, 0.5815157890319824]
    flux, err = np.array(early + peak + early + whole), np.array(early_err + peak_err + early_err + whole_err)
    found = variability.statistics(flux, err, np.repeat([0, 1], 6), 2)
    np.testing.assert_allclose(found["eta"], [121.89841839024031, 59.80572010933274], rtol=1e-6)
    np.testing.assert_allclose(found["v"], [1.7659815567107082, 1.740059768483511], rtol=1e-6)


def test_vs_and_m_equal_those_of_vast():
    """Pairs of the tests of the VAST tools: 200 +- 3 and 100 +- 4 have Vs = 20, fluxes 2 and 1 have m = 2/3."""
    vs, m = variability.pair_metrics([200.0, 2.0], [3.0, 1.0], [100.0, 1.0], [4.0, 1.0])
    assert vs[0] == 20 and m[1] == pytest.approx(2 / 3, rel=1e-15)


def test_fractional_variability_equals_published_numbers():
    """Fluxes 1 and 3 with errors 0.1 and 0.3 give 0.698212 and its error 0.0795621, as gammapy's tests have them."""
    found = variability.statistics(np.array([1.0, 3.0]), np.array([0.1, 0.3]), np.zeros(2, int), 1)
    assert found["f_var"][0] == pytest.approx(0.698212, abs=1e-6)
    assert found["f_var_err"][0] == pytest.approx(0.0795621, abs=1e-7)


def test_fractional_variability_is_that_of_the_source(rng):
    """A scatter of 20 % comes out whatever the errors, within the scatter of 4000 light curves; none as half zeros."""
    n, visits = 4000, 30
    group, err = np.repeat(np.arange(n), visits), np.tile(rng.uniform(5, 15, visits), n)
    truth = rng.normal(100, 20, n * visits)
    found = variability.statistics(rng.normal(truth, err), err, group, n)
    assert np.sqrt(np.mean(found["f_var"] ** 2)) == pytest.approx(0.2, abs=0.002)
    steady = variability.statistics(rng.normal(100, err), err, group, n)
    assert np.mean(steady["f_var"] == 0) == pytest.approx(0.5, abs=0.1)
    assert np.mean(steady["f_var"] < 2 * steady["f_var_err"]) == pytest.approx(0.84, abs=0.04)  # one sigma of f_var^2


def test_error_of_fractional_variability_is_that_of_the_noise(rng):
    """Of one light curve measured 3000 times anew, F_var scatters by its stated error (within 10 %)."""
    n, visits = 3000, 40
    truth, err = rng.normal(100, 25, visits), np.full(visits, 10.0)
    flux = rng.normal(np.tile(truth, n), 10.0)
    found = variability.statistics(flux, np.tile(err, n), np.repeat(np.arange(n), visits), n)
    assert np.std(found["f_var"]) == pytest.approx(np.mean(found["f_var_err"]), rel=0.1)


def test_most_significant_pair_is_that_of_all_pairs(rng):
    """Vs and m equal those of the best of all pairs, tried one by one, with errors of all sizes and with ties."""
    n, n_groups = 1500, 60
    group = rng.integers(0, n_groups, n)
    flux, err = np.round(rng.normal(20, 15, n)), np.round(rng.lognormal(1.5, 0.8, n)) + 1
    vs, m = variability.most_significant_pair(flux, err, group, n_groups + 1)
    assert np.isnan(vs[n_groups]) and np.isnan(m[n_groups])
    for k in range(n_groups):
        f, e = flux[group == k], err[group == k]
        every = variability.pair_metrics(f[:, None], e[:, None], f, e)[0]
        assert vs[k] == pytest.approx(every.max(), rel=1e-12)
        i, j = np.argwhere(np.isclose(every, every.max(), rtol=1e-12))[0]
        if np.sum(np.isclose(every, every.max(), rtol=1e-12)) == 1:
            assert m[k] == pytest.approx(2 * (f[i] - f[j]) / (f[i] + f[j]))


def test_pair_of_one_epoch_is_nan():
    """A single measurement has no pair; two equal ones have Vs and m of 0."""
    vs, m = variability.most_significant_pair([5.0, 7.0, 7.0], [1.0, 1.0, 1.0], [0, 1, 1], 2)
    np.testing.assert_array_equal(vs, [np.nan, 0.0])
    np.testing.assert_array_equal(m, [np.nan, 0.0])


def test_medians_and_peaks_equal_a_loop(rng):
    """Medians and largest values of groups of any size, empty ones included, equal numpy's."""
    group, flux = rng.integers(0, 50, 300), rng.normal(size=300)
    median, peak = variability.medians(flux, group, 60), variability.largest(flux, group, 60)
    for k in range(60):
        part = flux[group == k]
        assert (
            (median[k], peak[k]) == (np.median(part), part.max()) if len(part) else np.isnan([median[k], peak[k]]).all()
        )


def test_upper_limits_of_textbook_cases():
    """1.96 errors at zero flux, F + 1.64 errors where bright, and still above zero 8 errors below it."""
    found = variability.upper_limits(np.array([0.0, 100.0, -8.0, -60.0]), np.ones(4))
    assert found[0] == pytest.approx(1.95996, abs=1e-4) and found[1] == pytest.approx(101.64485, abs=1e-4)
    assert 0 < found[3] < found[2] < 0.5


def test_upper_limits_hold(rng):
    """A true flux of 1 sigma or more lies above its limit in 5 % of trials at most, for both confidences tried."""
    for confidence in (0.95, 0.9):
        for truth in (1.0, 2.0, 5.0):
            limits = variability.upper_limits(rng.normal(truth, 1, 40000), np.ones(40000), confidence)
            assert np.mean(limits < truth) < (1 - confidence) * 1.05


def test_flare_test_has_both_errors():
    """130 +- 10 against 100 +- 10 at the catalogue's frequency is 2.1 sigma; calibration and spectrum lower it."""
    frame = measured("a", "f090", [130.0], [10.0]).assign(
        catalog_flux_mjy=100.0, catalog_flux_err_mjy=10.0, freq_ghz=90.0
    )
    bare = MERGE | {"calibration_err": 0.0}
    assert variability.excess_significance(frame, bare, 90.0)[0] == pytest.approx(30 / np.hypot(10, 10))
    other = variability.excess_significance(frame.assign(freq_ghz=180.0), MERGE, 90.0)[0]
    assert other == pytest.approx(30 / np.sqrt(200 + 6.5**2 + (30 * np.log(2)) ** 2))
    assert np.isnan(variability.excess_significance(frame.assign(catalog_flux_mjy=np.nan), bare, 90.0)).all()


def test_flare_stands_out_in_the_table():
    """One high flux of ten shows in flare_sigma, Vs, m and the peak over the median of its band alone."""
    flux = np.r_[np.full(9, 100.0), 200.0, np.full(10, 100.0)]
    frame = measured("a", ["f090"] * 10 + ["f150"] * 10, flux, np.full(20, 10.0))
    frame = frame.assign(catalog_flux_mjy=100.0, catalog_flux_err_mjy=5.0, freq_ghz=90.0)
    found = variability.band_statistics(frame, MERGE, 90.0).set_index("band")
    assert found.loc["f090", "flare_sigma"] == pytest.approx(100 / np.sqrt(100 + 100 + 25))
    assert found.loc["f090", "vs"] == pytest.approx(100 / np.hypot(10, 10))
    assert found.loc["f090", "m"] == pytest.approx(2 / 3) and found.loc["f090", "peak_to_median"] == pytest.approx(2)
    assert found.loc["f150", ["flare_sigma", "vs", "m"]].tolist() == [0, 0, 0]


def test_one_source_some_or_all_give_the_same_rows(rng):
    """The statistics of a source do not depend on which others are in the table."""
    n = 400
    frame = measured(rng.choice(list("abcd"), n), rng.choice(["f090", "f150"], n), rng.normal(9, 3, n), np.ones(n))
    whole = variability.band_statistics(frame, MERGE, 90.0)
    alone = variability.band_statistics(frame[frame["source_id"] == "b"], MERGE, 90.0)
    expected = whole[whole["source_id"] == "b"].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, expected, rtol=1e-12)
