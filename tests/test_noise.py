"""The noise model: unbiased, anisotropic where the noise is, and never fitted to single modes."""

import numpy as np
import pytest
import skies

from sotrplib import noise


def grid_of(sky):
    shape = sky.signal.shape
    return noise.frequencies(shape, (sky.pixels.dy_rad[0], sky.pixels.dx_rad[shape[0] // 2]))


def test_spectrum_of_white_noise_is_one(rng):
    """White noise of the stated variance has C = 1 within 3 % at every multipole."""
    sky = skies.make_sky((480, 480), rng, ell_knee=1e-3)
    power = noise.evaluate(skies.measured_noise(sky), *grid_of(sky))
    assert np.abs(np.median(power) - 1) < 0.03
    assert power.std() < 0.2


def test_measured_spectrum_follows_the_truth(rng):
    """1/f noise is followed over four decades of power: the median ratio to truth is 1 within 3 %."""
    sky = skies.make_sky((480, 720), rng)
    ratio = noise.evaluate(skies.measured_noise(sky), *grid_of(sky)) / sky.power
    assert np.abs(np.median(ratio) - 1) < 0.03
    assert np.percentile(np.abs(np.log(ratio)), 95) < 0.4


def test_scan_stripes_are_kept(rng):
    """Power along one axis is measured there and not across it."""
    sky = skies.make_sky((720, 720), rng, stripes=30.0)
    ell_y, ell_x = grid_of(sky)
    power = noise.evaluate(skies.measured_noise(sky), ell_y, ell_x)
    along, across = np.argmin(np.abs(ell_x - 9000)), np.argmin(np.abs(ell_y - 9000))
    assert power[0, along] > 5 * power[across, 0]
    assert power[across, 0] == pytest.approx(sky.power[across, 0], rel=0.35)


def test_evaluate_is_even(rng):
    """C(ell_y, ell_x) = C(-ell_y, ell_x) at ell_x = 0, as the spectrum of a real map is."""
    sky = skies.make_sky((240, 240), rng)
    ell = np.linspace(100, 20000, 50)
    model = skies.measured_noise(sky)
    zero = np.zeros(1)
    np.testing.assert_allclose(noise.evaluate(model, ell, zero), noise.evaluate(model, -ell, zero), rtol=1e-4)


def test_power_law_is_analytic():
    """power_law(knee, alpha) has C = 2 at the knee."""
    value = noise.evaluate(noise.power_law(3000.0, 3.0), np.array([0.0]), np.array([3000.0]))
    assert value[0, 0] == pytest.approx(2, rel=1e-3)


def test_nothing_left_to_measure_is_an_error():
    """An empty taper says so."""
    with pytest.raises(ValueError, match="no area is left after tapering"):
        noise.estimate(np.zeros((32, 32), np.float32), np.zeros((32, 32), np.float32), (1e-4, 1e-4))


def test_a_sheared_model_follows_tilted_stripes(rng):
    """A model sheared along narrow stripes has two thirds of the error of an upright one."""
    sky = skies.make_sky((720, 720), rng, ell_knee=1e-3)
    ell_y, ell_x = grid_of(sky)
    power = 1 + 30 * np.exp(-0.5 * ((ell_y[:, None] + 1.5 * ell_x) / 250) ** 2)
    white = np.fft.rfft2(rng.normal(size=(720, 720)))
    image, flat = np.fft.irfft2(white * np.sqrt(power)).astype(np.float32), np.ones((720, 720), np.float32)
    step = sky.pixels.dy_rad[0], sky.pixels.dx_rad[360]
    upright, sheared = (noise.estimate(image, flat, step, shear=shear) for shear in (0.0, 1.5))
    near = (ell_x > 300) & (ell_x < 6000)
    error = [np.log(noise.evaluate(m, ell_y, ell_x) / power)[:, near].std() for m in (upright, sheared)]
    assert error[1] < 0.67 * error[0]


def test_table_of_spectra_holds_model_and_measurement(rng):
    """Beside the measured spectrum stands the model used, with its least and most power over directions."""
    measured = skies.measured_noise(skies.make_sky((480, 480), rng, stripes=30.0))
    table = noise.tabulate(
        [measured, measured], [noise.power_law(3000.0, 3.0), measured], [slice(0, 300), slice(300, 480)]
    )
    given, own = (table[table["zone"] == zone] for zone in (0, 1))
    assert given["model"].to_numpy() == pytest.approx(1 + (3000 / given["ell"]) ** 3, rel=0.02)
    assert (given[["model_min", "model_max"]].to_numpy() == given[["model"]].to_numpy()).all()
    assert (own["measured"] == own["model"]).all() and own["row_first"].unique().tolist() == [300]
    striped = own[own["ell"].between(8000, 10000)]
    assert (striped["model_max"] > 4 * striped["model_min"]).all()
    assert noise.tabulate([noise.white()], [noise.white()], [slice(0, 9)]).empty
