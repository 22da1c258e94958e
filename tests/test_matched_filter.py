"""The matched filter: right flux, true errors, nothing where nothing was observed."""

import dataclasses

import numpy as np
import pytest
import skies

from sotrplib import matched_filter, noise


def snr_of(rho, kappa):
    return np.where(kappa > 0, rho / np.sqrt(np.maximum(kappa, 1e-30)), 0)


@pytest.mark.parametrize("dec_deg", [0.0, -30.0, -52.0])
def test_flux_of_a_source_at_any_declination(rng, dec_deg):
    """A noiseless source comes out with its flux to 0.3 %, at the middle of a 10 degree band and at its ends."""
    sky = skies.make_sky((1200, 240), rng, dec_deg=dec_deg)
    bands = matched_filter.plan_bands(sky.signal.shape, sky.pixels, band_rows=1200)
    for row in (60, 600, 1140):
        signal = skies.point_source(sky, row, 120, 100.0).astype(np.float32)
        rho, kappa, _ = matched_filter.filter_map(
            signal, sky.ivar, sky.pixels, sky.beam_ell, [noise.power_law(3000, 3)], bands=bands
        )
        assert rho[row, 120] / kappa[row, 120] == pytest.approx(100, rel=3e-3)


def test_flux_against_the_golden_number_of_pixell():
    """100 uK peak, 1.4 arcmin beam, 150 GHz, 10 uK arcmin noise: 7.486 mJy with an error of 0.711 mJy.

    The numbers stand in the docstring of pixell.analysis.matched_filter_constcorr_dual.
    """
    dplanck_150 = 3.987e8  # Jy/sr per K_CMB at 150 GHz
    factor = dplanck_150 * 1e3 * 1e-6
    shape = (240, 240)
    pixels = skies.pixels_of(shape)
    y, x = np.mgrid[:240, :240] - 120.0
    sigma = 1.4 / np.sqrt(8 * np.log(2)) / 0.5
    signal = (100 * factor * np.exp(-0.5 * (y**2 + x**2) / sigma**2)).astype(np.float32)
    ivar = np.full(shape, (0.5 / 10 / factor) ** 2, np.float32)
    bands = matched_filter.plan_bands(shape, pixels)
    rho, kappa, _ = matched_filter.filter_map(
        signal, ivar, pixels, skies.gaussian_beam(1.4), [noise.white()] * len(bands), bands=bands, pixel_window=False
    )
    assert rho[120, 120] / kappa[120, 120] == pytest.approx(7.486, rel=3e-3)
    assert kappa[120, 120] ** -0.5 == pytest.approx(0.711, rel=3e-3)


@pytest.mark.parametrize("shape", [(240, 240), (480, 480)])
def test_snr_of_noise_has_unit_standard_deviation(rng, shape):
    """std(rho / sqrt(kappa)) is 1 within 4 % with the noise measured on the very map, also on 2 x 2 degrees."""
    values = []
    for _ in range(4):
        sky = skies.make_sky(shape, rng)
        rho, kappa, _ = skies.filter_sky(sky, skies.measured_noise(sky))
        values.append(snr_of(rho, kappa)[30:-30, 30:-30].std())
    assert np.mean(values) == pytest.approx(1, abs=0.04)


def test_measured_noise_does_not_bias_the_flux(rng):
    """On 2 x 2 degrees, a 2 sigma source that is in the map while its noise is measured keeps its flux to 1 %."""
    fluxes = []
    for _ in range(6):
        sky = skies.make_sky((240, 240), rng)
        with_source = dataclasses.replace(sky, signal=sky.signal + skies.point_source(sky, 120, 120, 1.0))
        rho, kappa, _ = skies.filter_sky(with_source, skies.measured_noise(with_source))
        rho_noise, kappa_noise, _ = skies.filter_sky(sky, skies.measured_noise(sky))
        fluxes.append(rho[120, 120] / kappa[120, 120] - rho_noise[120, 120] / kappa_noise[120, 120])
    assert np.mean(fluxes) == pytest.approx(1, rel=0.01)


def test_response_holds_up_to_edges_and_holes(rng):
    """From 2 arcmin of an edge and 1 arcmin of a hole the flux is right to 4 %; on the last row to 6 %."""
    sky = skies.make_sky((480, 480), rng)
    y, x = np.mgrid[:480, :480]
    ivar = np.where((y < 8) | ((y - 240) ** 2 + (x - 240) ** 2 < 400), 0, sky.ivar).astype(np.float32)
    sky = dataclasses.replace(sky, ivar=ivar)
    model = noise.power_law(3000, 3)
    for row, col in [(12, 200), (240, 262), (475, 100), (479, 300)]:
        rho, kappa, _ = skies.filter_sky(sky, model, skies.point_source(sky, row, col, 100.0))
        limit = 0.06 if row == 479 else 0.04
        assert rho[row, col] / kappa[row, col] == pytest.approx(100, rel=limit)


def test_unobserved_pixels_are_exactly_zero(rng):
    """rho and kappa are 0 where ivar is 0, whatever the map holds there."""
    sky = skies.make_sky((240, 240), rng)
    ivar = sky.ivar.copy()
    ivar[:, :50] = 0
    rho, kappa, _ = skies.filter_sky(dataclasses.replace(sky, ivar=ivar), noise.white())
    assert not rho[:, :50].any() and not kappa[:, :50].any()
    assert (kappa[:, 50:] > 0).all()


def test_bands_do_not_show(rng):
    """Cutting the map into bands changes rho by less than 5 % of its scatter."""
    sky = skies.make_sky((480, 240), rng)
    model = skies.measured_noise(sky)
    one = matched_filter.plan_bands((480, 240), sky.pixels, band_rows=480)
    two = matched_filter.plan_bands((480, 240), sky.pixels, band_rows=240)
    args = sky.signal, sky.ivar, sky.pixels, sky.beam_ell
    rho_one = matched_filter.filter_map(*args, [model], bands=one)[0]
    rho_two = matched_filter.filter_map(*args, [model, model], bands=two)[0]
    assert np.std(rho_one - rho_two) < 0.05 * np.std(rho_one)


def test_template_is_the_shape_of_a_source(rng):
    """A noiseless source in the filtered map is the template to 0.5 % of its peak, ring included."""
    sky = skies.make_sky((240, 240), rng)
    ivar = np.full_like(sky.ivar, sky.ivar.mean())
    sky = dataclasses.replace(sky, ivar=ivar)
    rho, kappa, template = skies.filter_sky(sky, noise.power_law(3000, 3), skies.point_source(sky, 120, 120, 100.0))
    snr = snr_of(rho, kappa)
    half = template.values.shape[1] // 2
    stamp = snr[120 - half : 121 + half, 120 - half : 121 + half] / snr[120, 120]
    np.testing.assert_allclose(stamp, template.values[0], atol=5e-3)
    assert template.values[0].min() < -0.03


def test_inputs_are_left_alone(rng):
    """Filtering changes neither the map nor its ivar."""
    sky = skies.make_sky((128, 128), rng)
    signal, ivar = sky.signal.copy(), sky.ivar.copy()
    skies.filter_sky(sky, noise.white())
    np.testing.assert_array_equal(signal, sky.signal)
    np.testing.assert_array_equal(ivar, sky.ivar)


def test_empty_map_filters_to_nothing():
    """A map with no data gives zeros, not NaN."""
    pixels = skies.pixels_of((64, 64))
    bands = matched_filter.plan_bands((64, 64), pixels)
    zero = np.zeros((64, 64), np.float32)
    rho, kappa, _ = matched_filter.filter_map(zero, zero, pixels, skies.gaussian_beam(2), [noise.white()], bands=bands)
    assert not rho.any() and not kappa.any()


def test_bands_of_any_declination_share_a_template_size(rng):
    """Bands whose pixels are of different widths, as away from the equator, give one array of templates."""
    sky = skies.make_sky((900, 64), rng, dec_deg=-50.0)
    bands = matched_filter.plan_bands((900, 64), sky.pixels, band_rows=300)
    model = noise.power_law(3000, 3)
    beam = skies.gaussian_beam(2.6)
    _, _, template = matched_filter.filter_map(sky.signal, sky.ivar, sky.pixels, beam, [model] * 3, bands=bands)
    assert template.values.shape[0] == 3
    assert matched_filter.template_half(bands, skies.gaussian_beam(7.4)) > matched_filter.template_half(bands, beam)


def test_bands_end_at_margins():
    """Rows that only surround a map are bands of their own, and the bands between them are those of the rest."""
    plain, framed = skies.pixels_of((600, 300)), skies.pixels_of((760, 300))
    framed = dataclasses.replace(framed, margin_rows=(60, 100))
    bands = matched_filter.plan_bands((760, 300), framed, band_rows=200, pad_rows=40)
    inner = matched_filter.plan_bands((600, 300), plain, band_rows=200, pad_rows=40)
    assert [(band.start, band.stop) for band in bands] == [
        (0, 60),
        *((band.start + 60, band.stop + 60) for band in inner),
        (660, 760),
    ]
    assert (bands[1].low, bands[3].high) == (20, 700)
