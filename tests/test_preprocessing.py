"""From an input map to rho and kappa with true errors, whatever the map holds."""

import numpy as np
import pytest
import skies

from sotrplib import beams, geometry, maps, preprocessing, tables

OPTIONS = {
    "noise_model": "measured",
    "ell_knee": 3000.0,
    "alpha": 3.0,
    "noise_zone_deg": 10.0,
    "noise_taper_arcmin": 20.0,
    "passes": 3,
    "find_snr": 5.0,
    "beam_error": 0.02,
    "band_rows": 300,
    "pad_rows": 40,
    "pixel_window": True,
    "given_template": "noise",
    "edge_arcmin": 3.0,
    "kappa_min_fraction": 0.05,
    "planet_mask_radius_arcmin": 10.0,
    "flatfield_tile_deg": 1.0,
}
SHAPE = (300, 360)


def wcs_of(shape):
    return geometry.make_car(30.0, 0.0, shape[1] / 120, shape[0] / 120, 0.5)[1]


def input_map(signal, weight, form="intensity_ivar"):
    info = maps.MapInfo("solat_i1_f090_1763085600", "solat", "i1", "f090", 90.0, 1763085600.0)
    return maps.InputMap(form, signal.astype(np.float32), weight.astype(np.float32), None, wcs_of(signal.shape), info)


def significance(sky_map):
    return np.where(sky_map.kappa > 0, sky_map.rho / np.sqrt(np.maximum(sky_map.kappa, 1e-30)), 0)


@pytest.fixture(scope="module")
def sky():
    return skies.make_sky(SHAPE, np.random.default_rng(5))


@pytest.fixture(scope="module")
def quiet(sky):
    return preprocessing.preprocess(input_map(sky.signal, sky.ivar), beams.gaussian(2.05), OPTIONS)


@pytest.mark.parametrize("flux_jy", [1, 10, 50])
def test_a_bright_source_leaves_the_noise_level_alone(sky, quiet, flux_jy):
    """With 1, 10 or 50 Jy in the field, known to nobody, the flux error elsewhere stays within 2 %."""
    bright = sky.signal + skies.point_source(sky, 150.3, 180.6, 1000.0 * flux_jy)
    loud = preprocessing.preprocess(input_map(bright, sky.ivar), beams.gaussian(2.05), OPTIONS)
    far = np.hypot(*(np.indices(SHAPE) - np.array([150, 180])[:, None, None])) > 60
    ratio = np.median(np.sqrt(quiet.kappa[far] / loud.kappa[far]))
    assert ratio == pytest.approx(1, abs=0.02)
    np.testing.assert_allclose(loud.rho[150, 180] / loud.kappa[150, 180], 1000.0 * flux_jy, rtol=0.1)


def test_snr_of_noise_is_unit(quiet):
    """Away from edges the SNR has a standard deviation of 1 within 3 %."""
    assert significance(quiet)[40:-40, 40:-40].std() == pytest.approx(1, abs=0.03)
    assert preprocessing.summarize(quiet)["snr_std"] == pytest.approx(1, abs=0.04)


def test_mask_has_its_edges(quiet):
    """The border of the map is masked as an edge, its middle is not."""
    assert quiet.mask[0, 0] & tables.MASK_BITS["EDGE"]
    assert quiet.mask[150, 180] == 0


def test_planets_are_cut_out_before_the_filter(sky):
    """A planet of 10 kJy under its disc leaves no trace outside of it."""
    bright = sky.signal + skies.point_source(sky, 150, 180, 1e7)
    ra, dec = geometry.pix2sky(wcs_of(SHAPE), np.array([150.0]), np.array([180.0]))
    planet = {"name": "Mars", "time_unix_s": 0, "ra_rate_arcsec_h": 0, "dec_rate_arcsec_h": 0, "pos_err_arcsec": 1}
    rows = tables.make("moving", planet | {"ra_deg": ra, "dec_deg": dec, "radius_arcmin": 0.1, "kind": "planet"})
    result = preprocessing.preprocess(input_map(bright, sky.ivar), beams.gaussian(2.05), OPTIONS, planets=rows)
    assert result.mask[150, 180] & tables.MASK_BITS["PLANET"] and result.kappa[150, 180] == 0
    assert np.abs(significance(result)).max() < 6.5


def test_filtered_maps_pass_with_their_noise_as_template(quiet):
    """rho and kappa as input come out as they are, with a template near that of the filter."""
    options = OPTIONS | {"flatfield_tile_deg": 0.0}
    again = preprocessing.preprocess(input_map(quiet.rho, quiet.kappa, "filtered"), beams.gaussian(2.05), options)
    np.testing.assert_allclose(again.rho, quiet.rho)
    middle, centre = again.template.values.shape[1] // 2, quiet.template.values.shape[1] // 2
    theirs = quiet.template.values[0, centre - 4 : centre + 5, centre - 4 : centre + 5]
    np.testing.assert_allclose(
        again.template.values[0, middle - 4 : middle + 5, middle - 4 : middle + 5], theirs, atol=0.08
    )


@pytest.mark.parametrize("model", ["white", "power_law"])
def test_configured_noise_models_filter_once(sky, model):
    """With an analytic noise model the flat field makes the SNR unit, as well as tiles of a small map can."""
    result = preprocessing.preprocess(
        input_map(sky.signal, sky.ivar), beams.gaussian(2.05), OPTIONS | {"noise_model": model}
    )
    assert preprocessing.summarize(result)["snr_std"] == pytest.approx(1, abs=0.15)


def test_tiny_map_is_filtered_with_white_noise(caplog):
    """A map too small to measure its noise says so and is still filtered; one pixel works too."""
    for n in (20, 1):
        rng = np.random.default_rng(1)
        small = input_map(rng.normal(size=(n, n)) * 1e6, np.full((n, n), 1e-12))
        result = preprocessing.preprocess(small, beams.gaussian(2.05), OPTIONS)
        assert np.isfinite(result.rho).all() and (result.kappa > 0).all()
    assert "white noise assumed" in caplog.text


def test_nothing_left_is_an_error(sky):
    """A map all under a planet's disc is refused by name."""
    ra, dec = geometry.pix2sky(wcs_of(SHAPE), np.array([150.0]), np.array([180.0]))
    moon = {"name": "Moon", "time_unix_s": 0, "ra_rate_arcsec_h": 0, "dec_rate_arcsec_h": 0, "pos_err_arcsec": 1}
    rows = tables.make("moving", moon | {"ra_deg": ra, "dec_deg": dec, "radius_arcmin": 300.0, "kind": "planet"})
    with pytest.raises(maps.MapError, match="solat_i1_f090_1763085600: no pixel is left"):
        preprocessing.preprocess(input_map(sky.signal, sky.ivar), beams.gaussian(2.05), OPTIONS, planets=rows)
