"""Joint significance and false alarms, against explicit likelihoods and simulated noise."""

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from sotrplib import significance


def rows(rng, n, base):
    """Measurements of one event in n maps, with the errors of the catalogue that they share."""
    columns = {"excess": rng.normal(30, 12, n), "flux_err_mjy": rng.uniform(5, 15, n)}
    return pd.DataFrame(columns | {"base_err": base, "ratio": rng.choice([1.0, 1.6, 2.4], n)})


@pytest.mark.parametrize("base", [0.0, 8.0])
def test_joint_flux_is_that_of_the_full_covariance(rng, base):
    """Flux, error and significance equal those of the likelihood with its covariance matrix written out."""
    parts = [rows(rng, n, base * rng.uniform(0.5, 1.5, n)) for n in (1, 4, 9)]
    group = np.repeat(np.arange(3), [1, 4, 9])
    indices = [-1.0, 0.0, 2.0]
    flux, err, snr = significance.combine(pd.concat(parts), group, 4, indices)
    assert np.isnan(snr[:, 3]).all()
    for k, part in enumerate(parts):
        shared = part["base_err"].to_numpy()
        inverse = np.linalg.inv(np.diag(part["flux_err_mjy"] ** 2) + np.outer(shared, shared))
        for i, index in enumerate(indices):
            spectrum = part["ratio"].to_numpy() ** index
            best = spectrum @ inverse @ part["excess"] / (spectrum @ inverse @ spectrum)
            left = part["excess"] - best * spectrum
            gain = part["excess"] @ inverse @ part["excess"] - left @ inverse @ left
            assert flux[i, k] == pytest.approx(best)
            assert err[i, k] == pytest.approx((spectrum @ inverse @ spectrum) ** -0.5)
            assert snr[i, k] == pytest.approx(np.sign(best) * gain**0.5)


def test_peaks_of_noise_are_as_many_as_stated(rng):
    """Peaks above 3.5 and 4 sigma of two maps of noise added up are as many as stated, within 4 Poisson errors."""
    n, sigma_px = 2048, 2.0  # of the beam; of the filtered map sqrt(2) times that
    fields = [ndimage.gaussian_filter(rng.normal(size=(n, n)), sigma_px, mode="wrap") for _ in range(2)]
    joint = sum(field / field.std() for field in fields) / 2**0.5
    peaks = joint[ndimage.maximum_filter(joint, 3, mode="wrap") == joint]
    fwhm_arcmin = 2.3548 * sigma_px * 0.5
    for threshold in (3.5, 4.0):
        expected = significance.peaks_per_deg2(threshold, fwhm_arcmin) * (n * 0.5 / 60) ** 2
        assert np.sum(peaks > threshold) == pytest.approx(expected, abs=4 * expected**0.5)


def test_areas_count_each_footprint_once():
    """Bands of an array share a footprint; maps beyond 12 hours count for the survey alone."""
    maps = pd.DataFrame({"array": ["i1", "i1", "i3", "i1"], "time_unix_s": [0.0, 0.0, 600.0, 9e4]})
    night, survey = significance.areas_deg2(np.array([0.0, 9e4, 9e9]), maps.assign(area_deg2=[20.0, 19.0, 20.0, 5.0]))
    assert night.tolist() == [40.0, 5.0, 0.0] and survey == 45.0


def test_false_alarm_probability_is_a_probability():
    """It falls with significance, rises with area and trials, and is 1 for what noise has everywhere."""
    found = significance.false_alarm_probability(np.array([-3.0, 4.0, 5.0, 8.0, np.nan]), 1.9, 2400.0, 1)
    assert found[0] == 1 and np.isnan(found[4]) and found[3] < 1e-6
    assert found[0] >= found[1] >= found[2] > found[3]
    few = significance.false_alarm_probability(5.5, 1.9, [1.0, 10.0, 10.0], [1, 1, 4])
    assert few[0] < few[1] < few[2] < 1.1 * 40 * few[0]
    assert 5 < significance.peaks_per_deg2(5.0, 1.94) * 2400 < 9  # 8 at f090 for the measured template
