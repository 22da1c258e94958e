"""The flat field: errors become true, fluxes stay."""

import numpy as np
import pytest

from sotrplib import flatfield


def test_rms_of_unit_noise_is_one(rng):
    """Tiles of unit normal noise have an rms of 1 within the error of the tile."""
    snr = rng.normal(size=(400, 400))
    rms, count = flatfield.tile_rms(snr, np.ones(snr.shape, bool), (100, 100))
    np.testing.assert_allclose(rms, 1, atol=0.05)
    assert count.sum() > 0.99 * snr.size


def test_sources_do_not_raise_the_rms(rng):
    """One per cent of pixels at 100 sigma move the rms by less than 2 %."""
    snr = rng.normal(size=(400, 400))
    snr[rng.random(snr.shape) < 0.01] = 100
    rms, _ = flatfield.tile_rms(snr, np.ones(snr.shape, bool), (100, 100))
    assert rms.mean() == pytest.approx(1, abs=0.02)


def test_a_slope_of_the_noise_is_taken_out(rng):
    """Noise that doubles across the map has unit rms everywhere after the correction, and the same flux."""
    truth = np.linspace(1, 2, 600)[None, :] * np.ones((600, 1))
    kappa = np.full((600, 600), 4.0, np.float32)
    rho = (rng.normal(size=(600, 600)) * truth * 2).astype(np.float32)
    field = flatfield.measure(rho, kappa, np.zeros(kappa.shape, np.uint8), (100, 100))
    flat_rho, flat_kappa = flatfield.apply(rho, kappa, field)
    snr = flat_rho / np.sqrt(flat_kappa)
    for column in (100, 300, 500):
        assert snr[:, column - 50 : column + 50].std() == pytest.approx(1, abs=0.04)
    np.testing.assert_allclose(flat_rho / flat_kappa, rho / kappa, rtol=1e-5)


def test_holes_lean_on_their_neighbours(rng):
    """A tile with no data and a map with none give finite numbers; nothing measured gives 1."""
    snr = rng.normal(size=(300, 300)) * 3
    weight = np.ones(snr.shape, bool)
    weight[:120, :120] = False
    rms = flatfield.local_rms(np.where(weight, snr, 0), weight, (100, 100))
    np.testing.assert_allclose(rms, 3, rtol=0.06)
    np.testing.assert_array_equal(flatfield.local_rms(snr, np.zeros(snr.shape, bool), (100, 100)), 1)


@pytest.mark.parametrize("clip_sigma", [1.5, 3.0, 5.0])
def test_rms_does_not_depend_on_the_clipping(rng, clip_sigma):
    """Noise of 2.5 has an rms of 2.5 within 1 %, wherever it is cut."""
    snr = 2.5 * rng.normal(size=(400, 400))
    rms, _ = flatfield.tile_rms(snr, np.ones(snr.shape, bool), (400, 400), clip_sigma=clip_sigma, iterations=40)
    assert rms[0, 0] == pytest.approx(2.5, rel=0.01)


def test_cut_of_few_pixels_is_that_of_all(rng):
    """The rms is that of cutting all pixels of each tile again and again, also after a first guess far too high."""
    snr = rng.normal(size=(200, 330)).astype(np.float32)
    snr[2::5, 2::5] *= 30
    weight = rng.random(snr.shape) > 0.2
    rms, count = flatfield.tile_rms(snr, weight, (100, 110), iterations=12)
    for tile in np.ndindex(rms.shape):
        window = tuple(slice(i * t, (i + 1) * t) for i, t in zip(tile, (100, 110), strict=True))
        squares = np.square(snr[window][weight[window]])
        variance = 1.0
        for _ in range(12):
            kept = squares[squares < 9 * variance]
            variance = kept.mean() / flatfield.clipped_variance(3.0)
        assert rms[tile] == pytest.approx(np.sqrt(variance), rel=1e-5) and count[tile] == len(kept)


def test_resampled_tiles_are_the_field():
    """The field between the middles of its tiles comes back from what was sampled there."""
    rng = np.random.default_rng(6)
    shape, tile = (300, 240), (50, 40)
    snr = rng.normal(size=shape) * np.linspace(0.8, 1.4, shape[1])
    field = flatfield.measure(snr.astype("f4"), np.ones(shape, "f4"), np.zeros(shape, "u1"), tile)
    rows, columns = np.arange(30, 270, 7), np.arange(25, 210, 9)
    found = flatfield.resample(flatfield.sample(field, tile[1]), shape, tile, rows, columns)
    np.testing.assert_allclose(found, flatfield.read_rows(field, rows)[:, columns], atol=0.01)
    assert found.dtype == np.float32
