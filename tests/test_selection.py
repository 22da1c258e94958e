"""Tests of what theory says that a search finds."""

import numpy as np
import pytest
from filtered_skies import make_sky_map
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import norm

from sotrplib import geometry, selection
from sotrplib import template as templates


@pytest.mark.parametrize("snr", [0.5, 3.0, 4.8, 5.0, 7.0])
def test_completeness_is_the_stated_integral(snr):
    """The closed form is integral phi(z) p(S + z) dz over s >= 0."""
    parts = (-snr, 5 - snr), (5 - snr, 12)
    values = [quad(lambda z: norm.pdf(z) * selection.reaches(snr + z, 5.0), *part)[0] for part in parts]
    assert selection.completeness(snr, 5.0) == pytest.approx(sum(values), rel=1e-6)


def test_completeness_at_its_ends():
    """Half of the sources of 4.79 to 4.83 sigma pass 5 sigma, hardly any of 0 and all of 500."""
    half = brentq(lambda snr: selection.completeness(snr, 5.0) - 0.5, 3, 7)
    assert 4.78 < half < 4.84
    np.testing.assert_allclose(selection.completeness(np.array([0.0, 500.0]), 5.0), [0, 1], atol=1e-5)


@pytest.mark.parametrize("snr", [3.0, 5.0, 20.0])
def test_mean_snr_of_detections_is_that_of_a_sample(snr, rng):
    """The mean of sqrt(peak^2 - 2) above the threshold is that of a million peaks, within their scatter."""
    s = snr + rng.normal(size=1_000_000)
    peak = np.sqrt(np.maximum(s, 0) ** 2 + rng.chisquare(2, s.size))
    seen = np.sqrt(peak[(peak >= 5) & (s > 0)] ** 2 - 2)
    assert selection.detected_snr(snr, 5.0) == pytest.approx(seen.mean(), abs=4 * seen.std() / np.sqrt(len(seen)))


def test_false_alarms_of_2400_square_degrees():
    """A template whose positions are good to 67.8 arcsec / SNR gives 8 false alarms in 2400 deg2 at 5 sigma."""
    width = 67.8 / 60 * np.sqrt(8 * np.log(2))  # of a Gaussian with M = 1 / (67.8 arcsec)^2
    template = templates.gaussian_template(width, 0.5, autocorrelate=False, n_rows=400)
    sky_map = make_sky_map(np.zeros((400, 400)), template)
    area = geometry.area_deg2((400, 400), sky_map.wcs, sky_map.mask == 0)
    assert selection.expected_false_alarms(sky_map, 5.0) * 2400 / area == pytest.approx(8, rel=0.03)
