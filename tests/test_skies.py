"""Skies and scans have the spectra, fluxes and times they claim."""

import numpy as np
import pytest
from astropy.wcs import WCS

from sotrplib import beams, geometry, skies

SHAPE, CAR = geometry.make_car(0.0, 0.0, 2.0, 1.6, 0.5)
SCAN = skies.Scan(0.0, -30.0, 2.0, 1.0, tilt=0.2, curvature=-0.1)


def total_flux(image, wcs):
    """Flux in mJy of a map in mJy/sr."""
    return float(np.sum(image.sum(axis=1, dtype=float) * geometry.pixel_area_sr(image.shape, wcs)))


def tan_wcs(shape, dec_deg):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.cdelt = ["RA---TAN", "DEC--TAN"], [40.0, dec_deg], [-1 / 120, 1 / 120]
    wcs.wcs.crpix = [shape[1] / 2, shape[0] / 2]
    return wcs


@pytest.mark.parametrize("fwhm_arcmin", [0.9, 1.4, 2.2])
@pytest.mark.parametrize("dec_deg", [0.0, -52.0])
def test_painted_source_has_its_flux(fwhm_arcmin, dec_deg):
    """The pixels of a source add up to its flux within 1e-4 wherever it lies within its pixel, at any declination."""
    shape, wcs = geometry.make_car(10.0, dec_deg, 1.0, 0.6, 0.5)
    beam = beams.gaussian(fwhm_arcmin)
    for offset in (0.0, 0.13, 0.5):
        ra, dec = geometry.pix2sky(wcs, 35 + offset, 60 - offset)
        image = skies.paint_point_sources(shape, wcs, ra, dec, 50.0, beam)
        assert total_flux(image, wcs) == pytest.approx(50.0, rel=1e-4)


def test_painted_source_has_its_flux_in_a_tangent_projection():
    """The flux is right in a TAN image near the pole too (1e-3, the change of pixel area over the image)."""
    shape = (80, 90)
    wcs = tan_wcs(shape, -80.0)
    image = skies.paint_point_sources(shape, wcs, 40.1, -80.02, 50.0, beams.gaussian(2.2))
    assert total_flux(image, wcs) == pytest.approx(50.0, rel=1e-3)


@pytest.mark.parametrize("fwhm_arcmin", [2.2, 3.0])
def test_painted_source_is_beam_times_pixel_window(fwhm_arcmin):
    """On the equator a source is the Fourier transform of beam times pixel window, shifted by a fraction of a pixel."""
    beam, y, x = beams.gaussian(fwhm_arcmin), 96.3, 119.8
    steps = skies.pixel_steps(SHAPE, CAR)
    transfer = skies.sky_transfer(beam, steps, (y, x))(*skies.multipoles(SHAPE, steps))
    expected = np.fft.irfft2(transfer, s=SHAPE) / np.prod(steps)
    ra, dec = geometry.pix2sky(CAR, y, x)
    image = skies.paint_point_sources(SHAPE, CAR, ra, dec, 1.0, beam)
    assert np.abs(image - expected).max() < 2e-5 * expected.max()


def test_pixels_are_means_over_their_area():
    """A source on 0.5 arcmin pixels is the block mean of one on 0.1 arcmin pixels, even for a beam of 0.9 arcmin."""
    (ny, nx), wcs = geometry.make_car(10.0, 0.0, 0.4, 0.3, 0.5)
    fine = geometry.slice_wcs(wcs, (slice(0, ny), slice(0, nx)))
    fine.wcs.cdelt = fine.wcs.cdelt / 5
    fine.wcs.crpix = 5 * (wcs.wcs.crpix - 0.5) + 0.5
    ra, dec = geometry.pix2sky(wcs, 17.3, 24.4)
    beam = beams.gaussian(0.9)
    image = skies.paint_point_sources((ny, nx), wcs, ra, dec, 1.0, beam)
    blocks = skies.paint_point_sources((5 * ny, 5 * nx), fine, ra, dec, 1.0, beam).reshape(ny, 5, nx, 5)
    np.testing.assert_allclose(image, blocks.mean(axis=(1, 3)), atol=1e-4 * image.max())


def test_sources_do_not_notice_ra_zero():
    """A source at RA 0, painted on a map across RA 0, looks as one at RA 180."""
    shape, other = geometry.make_car(180.0, 0.0, 2.0, 1.6, 0.5)
    beam = beams.gaussian(2.0)
    here = skies.paint_point_sources(SHAPE, CAR, [0.0, 359.9], [0.1, 0.2], [1.0, 2.0], beam)
    there = skies.paint_point_sources(shape, other, [180.0, 179.9], [0.1, 0.2], [1.0, 2.0], beam)
    np.testing.assert_allclose(here, there, atol=1e-6 * there.max())


def test_sources_off_the_map_leave_their_wings():
    """A source two pixels outside the map lights its edge; one far away, or with a NaN, lights nothing."""
    ra, dec = geometry.pix2sky(CAR, -2.0, 100.0)
    image = skies.paint_point_sources(SHAPE, CAR, ra, dec, 1.0, beams.gaussian(2.0))
    assert image[0, 100] > 0.3 * skies.paint_point_sources(SHAPE, CAR, 0.0, 0.0, 1.0, beams.gaussian(2.0)).max()
    assert not skies.paint_point_sources(SHAPE, CAR, [5.0, np.nan], [0, 0], [1, 1], beams.gaussian(2.0)).any()
    assert not skies.paint_point_sources(SHAPE, CAR, [], [], [], beams.gaussian(2.0)).any()


def test_white_noise_has_unit_variance(rng):
    """Noise with C = 1 has standard deviation 1 a pixel (five sigma of 1/sqrt(2 n))."""
    noise = skies.noise_field(SHAPE, CAR, lambda ell_y, ell_x: 1.0 + 0 * (ell_y + ell_x), rng)
    assert noise.shape == SHAPE
    assert abs(noise.std() - 1) < 5 / np.sqrt(2 * noise.size)


def test_field_has_the_stated_spectrum(rng):
    """The power of a periodic field follows the given anisotropic spectrum, in rings and along either axis."""
    steps = skies.pixel_steps(SHAPE, CAR)
    ell_y, ell_x = skies.multipoles(SHAPE, steps)
    options = {"knee_ell": 3000.0, "slope": 3.0, "stretch": 2.0, "angle_deg": 20.0}
    spectrum = skies.noise_spectrum(ell_y, ell_x, **options)
    ratio = np.zeros(spectrum.shape)
    for _ in range(10):
        field = skies.noise_field(SHAPE, CAR, lambda y, x: skies.noise_spectrum(y, x, **options), rng, pad_arcmin=0)
        ratio += np.abs(np.fft.rfft2(field)) ** 2 / field.size / spectrum / 10
    ratio = ratio[:, 1:-1]  # modes that are counted once in the half plane
    radius, angle = np.hypot(ell_y, ell_x)[:, 1:-1], np.arctan2(ell_y, ell_x)[:, 1:-1]
    for low, high in ((0, 1000), (1000, 3000), (3000, 10000), (10000, 25000)):
        for start in np.arange(-np.pi / 2, np.pi / 2, np.pi / 4):
            chosen = (radius >= low) & (radius < high) & (angle >= start) & (angle < start + np.pi / 4)
            assert abs(ratio[chosen].mean() - 1) < 5 / np.sqrt(10 * chosen.sum())


def test_noise_is_striped_along_the_scan():
    """With a stretch of 3, noise across the scan at 3 ell is as strong as along it at ell; a turned scan turns it."""
    options = {"knee_ell": 3000.0, "slope": 3.0, "stretch": 3.0}
    along, across = skies.noise_spectrum(1000.0, 0.0, **options), skies.noise_spectrum(0.0, 3000.0, **options)
    assert along == pytest.approx(across)
    turned = skies.noise_spectrum(0.0, 1000.0, **options, angle_deg=90.0)
    assert turned == pytest.approx(along)


def test_field_shifts_by_its_transfer():
    """A shift by whole pixels in the transfer function is a roll of the periodic field."""
    power = skies.cmb_power
    steps = skies.pixel_steps(SHAPE, CAR)
    beam = beams.gaussian(2.0)
    fields = [
        skies.gaussian_field(
            SHAPE, CAR, power, skies.rng_for(1, "x"), transfer=skies.sky_transfer(beam, steps, shift), pad_arcmin=0
        )
        for shift in ((0, 0), (3, -5))
    ]
    np.testing.assert_allclose(fields[1], np.roll(fields[0], (3, -5), (0, 1)), atol=1e-5 * fields[0].std())


def test_cmb_has_its_first_peak():
    """The spectrum of the CMB peaks at ell = 220 with D = 5750 uK^2 and is below 100 uK^2 at ell = 2500."""
    ell = np.arange(2.0, 5000.0)
    d_uk2 = 1e12 * skies.cmb_power(0 * ell, ell) * ell * (ell + 1) / (2 * np.pi)
    assert ell[np.argmax(d_uk2)] == 220
    assert d_uk2.max() == pytest.approx(5750, rel=1e-6)
    assert d_uk2[2498] < 100


def test_random_numbers_depend_on_seed_and_name_alone():
    """Equal seed and names give equal numbers, now and in the next release; another name gives others."""
    assert skies.rng_for(1, "map").integers(10**9) == skies.rng_for(1, "map").integers(10**9)
    assert skies.rng_for(1, "map").integers(10**9) != skies.rng_for(1, "mop").integers(10**9)
    assert skies.rng_for(1, "map").integers(10**9) == 334513298


def test_time_runs_with_right_ascension():
    """Positions a degree of RA apart are seen 240 s apart, over RA 0 too, and no time is 0 or less."""
    time = skies.scan_time(SCAN, np.array([359.0, 0.0, 1.0]), -30.0)
    np.testing.assert_allclose(np.diff(time), 240)
    ra, dec = np.meshgrid(np.linspace(-2, 2, 50), np.linspace(-31, -29, 50))
    assert skies.scan_time(SCAN, ra, dec).min() >= 60 - 1e-6


def test_depth_has_edges_holes_and_unit_median(rng):
    """Depth is 1 in the median, 0 on ragged edges and in holes, uneven in between."""
    shape, wcs = geometry.make_car(0.0, -30.0, 4.0, 2.0, 1.0)
    depth = skies.scan_depth(SCAN, shape, wcs, rng, n_holes=5, hole_max_arcmin=15.0)
    observed = depth > 0
    assert depth.dtype == np.float32
    assert np.median(depth[observed]) == pytest.approx(1, abs=1e-6)
    assert 0.6 < observed.mean() < 0.95
    assert np.ptp(np.argmax(observed[20:-20], axis=1)) > 10
    ratio = np.percentile(depth[observed], [5, 95])
    assert ratio[1] / ratio[0] > 2
    whole = skies.scan_depth(SCAN, shape, wcs, np.random.default_rng(1))
    holed = skies.scan_depth(SCAN, shape, wcs, np.random.default_rng(1), n_holes=5)
    assert (holed > 0).sum() < (whole > 0).sum()
