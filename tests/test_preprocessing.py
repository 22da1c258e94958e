"""From an input map to rho and kappa with true errors, whatever the map holds."""

import numpy as np
import pytest
import skies
from astropy.io import fits

from sotrplib import beams, geometry, maps, preprocessing, tables

OPTIONS = {
    "noise_model": "measured",
    "ell_knee": 3000.0,
    "alpha": 3.0,
    "ell_min": 0.0,
    "noise_zone_deg": 10.0,
    "noise_taper_arcmin": 20.0,
    "noise_shear": 0.0,
    "apodise_edge_arcmin": 0.0,
    "apodise_hole_arcmin": 0.0,
    "passes": 3,
    "find_snr": 5.0,
    "beam_error": 0.02,
    "band_rows": 400,
    "pad_rows": 40,
    "pixel_window": True,
    "given_template": "file",
    "edge_arcmin": 3.0,
    "hole_min_arcmin": 0.0,
    "kappa_min_fraction": 0.05,
    "kappa_reference": "median",
    "galaxy_mask": "",
    "galaxy_masked_value": 0,
    "extra_mask": "",
    "noise_mask": "",
    "planet_mask_radius_arcmin": 10.0,
    "asteroid_mask_radius_arcmin": 0.0,
    "flatfield_tile_deg": 1.0,
    "flatfield_clip_sigma": 3.0,
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


def test_a_source_on_an_unobserved_pixel_stays_in_the_map(sky):
    """A source in the middle of a pixel without data has its flux in the pixels beside it."""
    ivar = sky.ivar.copy()
    y, x = np.arange(40, 270, 46), np.arange(40, 330, 46)
    y, x = (p.ravel() for p in np.meshgrid(y, x, indexing="ij"))
    ivar[y, x] = 0
    bright = sky.signal + sum(skies.point_source(sky, float(a), float(b), 400.0) for a, b in zip(y, x, strict=True))
    sky_map = preprocessing.preprocess(input_map(bright, ivar), beams.gaussian(2.05), OPTIONS)
    half = sky_map.template.values.shape[-1] // 2
    beside = sky_map.template.values[0][half, half + 1]
    flux = (sky_map.rho[y, x + 1] / sky_map.kappa[y, x + 1] / beside).mean()
    assert flux == pytest.approx(400.0, rel=0.1)


def test_snr_of_noise_is_unit(quiet):
    """Away from edges the SNR has a standard deviation of 1 within 3 %."""
    assert significance(quiet)[40:-40, 40:-40].std() == pytest.approx(1, abs=0.03)
    assert preprocessing.summarize(quiet)["snr_std"] == pytest.approx(1, abs=0.04)


def test_mask_has_its_edges(quiet):
    """The border of the map is masked as an edge, its middle is not."""
    assert quiet.mask[0, 0] & tables.MASK_BITS["EDGE"]
    assert quiet.mask[150, 180] == 0


def test_small_holes_have_no_edge(sky):
    """Holes of 2.5 arcmin are surrounded by a masked edge unless only those of 3 arcmin count; larger ones always."""
    ivar = sky.ivar.copy()
    ivar[150:155, 180:185] = ivar[60:80, 60:80] = 0
    given, rim = input_map(sky.signal, ivar), ([149, 59], [182, 70])
    for diameter, expected in ((0.0, [True, True]), (3.0, [False, True]), (11.0, [False, False])):
        options = OPTIONS | {"hole_min_arcmin": diameter, "passes": 1}
        mask = preprocessing.preprocess(given, beams.gaussian(2.05), options).mask
        assert ((mask[rim] & tables.MASK_BITS["EDGE"]) > 0).tolist() == expected
        assert mask[152, 182] == tables.MASK_BITS["UNOBSERVED"]


def test_planets_are_cut_out_before_the_filter(sky):
    """A planet of 10 kJy under its disc leaves no trace outside of it."""
    bright = sky.signal + skies.point_source(sky, 150, 180, 1e7)
    ra, dec = geometry.pix2sky(wcs_of(SHAPE), np.array([150.0]), np.array([180.0]))
    planet = {"name": "Mars", "time_unix_s": 0, "ra_rate_arcsec_h": 0, "dec_rate_arcsec_h": 0, "pos_err_arcsec": 1}
    rows = tables.make("moving", planet | {"ra_deg": ra, "dec_deg": dec, "radius_arcmin": 0.1, "kind": "planet"})
    result = preprocessing.preprocess(input_map(bright, sky.ivar), beams.gaussian(2.05), OPTIONS, moving=rows)
    assert result.mask[150, 180] & tables.MASK_BITS["PLANET"] and result.kappa[150, 180] == 0
    assert np.abs(significance(result)).max() < 6.5


def test_masked_sky_is_masked_in_its_bit_and_left_out_of_the_noise(sky, quiet):
    """Half a map with three times its stated noise, under a mask, leaves the errors of the other half as they were."""
    loud = np.zeros(SHAPE, bool)
    loud[:, 180:] = True
    given = input_map(np.where(loud, 3 * sky.signal, sky.signal), sky.ivar)
    far = (slice(40, -40), slice(40, 140))
    options = OPTIONS | {"flatfield_tile_deg": 0.0}
    for name, bit in (("galaxy", "GALAXY"), ("extra", "USER"), ("noise", None)):
        areas = preprocessing.Areas(**{name: loud})
        result = preprocessing.preprocess(given, beams.gaussian(2.05), options, areas=areas)
        bits = result.mask & (tables.MASK_BITS["GALAXY"] | tables.MASK_BITS["USER"])
        np.testing.assert_array_equal(bits, loud * (tables.MASK_BITS[bit] if bit else 0))
        assert np.median(np.sqrt(quiet.kappa[far] / result.kappa[far])) == pytest.approx(1, abs=0.05)
    plain = preprocessing.preprocess(given, beams.gaussian(2.05), options)
    assert np.median(np.sqrt(quiet.kappa[far] / plain.kappa[far])) > 1.3


def test_masks_are_read_from_the_files_named(tmp_path):
    """Each mask comes from its own file, and there is none where no file is named."""
    values = (np.arange(SHAPE[1]) < 90) * np.ones(SHAPE, np.float32)
    fits.writeto(tmp_path / "mask.fits", values, wcs_of(SHAPE).to_header())
    options = OPTIONS | {"extra_mask": str(tmp_path / "mask.fits"), "galaxy_masked_value": 1}
    areas = preprocessing.read_areas(options, SHAPE, wcs_of(SHAPE))
    assert areas.galaxy is None and areas.noise is None
    np.testing.assert_array_equal(areas.extra, values > 0)


@pytest.mark.parametrize(("asteroid_radius", "n_masked"), [(0.0, [True, False]), (2.0, [True, True])])
def test_small_bodies_are_masked_on_request(sky, asteroid_radius, n_masked):
    """A planet is always masked, out to its own radius; an asteroid only with one given for it."""
    ra, dec = geometry.pix2sky(wcs_of(SHAPE), np.array([80.0, 220.0]), np.array([100.0, 260.0]))
    still = {"time_unix_s": 0, "ra_rate_arcsec_h": 0, "dec_rate_arcsec_h": 0, "pos_err_arcsec": 1, "radius_arcmin": 0.1}
    names = {"name": ["Mars", "Ceres"], "kind": ["planet", "asteroid"]}
    rows = tables.make("moving", still | names | {"ra_deg": ra, "dec_deg": dec})
    options = OPTIONS | {"asteroid_mask_radius_arcmin": asteroid_radius, "passes": 1}
    mask = preprocessing.preprocess(input_map(sky.signal, sky.ivar), beams.gaussian(2.05), options, moving=rows).mask
    assert ((mask[[80, 220], [100, 260]] & tables.MASK_BITS["PLANET"]) > 0).tolist() == n_masked
    assert mask[220, 266] & tables.MASK_BITS["PLANET"] == 0 and mask[80, 116] & tables.MASK_BITS["PLANET"]


def test_low_multipoles_get_no_weight(rng):
    """A cloud of 40 arcmin disappears with ell_min 1500, and the noise that is left has true errors."""
    distance = np.hypot(*(np.indices(SHAPE) - np.array([150, 180])[:, None, None]))
    noise, cloud = rng.normal(size=SHAPE), 30 * np.exp(-0.5 * (distance / 34) ** 2)
    given = [input_map(image * 1e6, np.full(SHAPE, 1e-12)) for image in (noise, noise + cloud)]
    for ell_min, low, high in ((0.0, 100, np.inf), (1500.0, 0, 0.5)):
        options = OPTIONS | {"noise_model": "white", "flatfield_tile_deg": 0.0, "ell_min": ell_min}
        still, cloudy = (significance(preprocessing.preprocess(m, beams.gaussian(2.05), options)) for m in given)
        assert low < np.abs(cloudy - still)[60:-60, 60:-60].max() < high
        assert still[60:-60, 60:-60].std() == pytest.approx(1, abs=0.06)


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
        preprocessing.preprocess(input_map(sky.signal, sky.ivar), beams.gaussian(2.05), OPTIONS, moving=rows)


def test_apodised_edges_cost_depth_and_nothing_else(sky, quiet):
    """Inside a taper of 20 arcmin the flux is right, the SNR of noise keeps its scatter, and kappa is a little less."""
    source = skies.point_source(sky, 150.0, 12.0, 5000.0)
    options = OPTIONS | {"apodise_edge_arcmin": 20.0, "passes": 1, "flatfield_tile_deg": 0.0}
    noise, both = (
        preprocessing.preprocess(input_map(image, sky.ivar), beams.gaussian(2.05), options)
        for image in (sky.signal, sky.signal + source)
    )
    rise = both.rho[150, 12] / both.kappa[150, 12] - noise.rho[150, 12] / noise.kappa[150, 12]
    assert rise == pytest.approx(5000, rel=0.05)
    rim = np.zeros(SHAPE, bool)
    rim[6:-6, 6:-6], rim[34:-34, 34:-34] = True, False
    assert significance(noise)[rim].std() == pytest.approx(1, abs=0.08)
    ratio = (noise.kappa / quiet.kappa)[100:200]
    assert 0.5 < np.median(ratio[:, 1]) < 0.95 < np.median(ratio[:, 12])
    assert np.median((noise.kappa / quiet.kappa)[140:160, 140:200]) == pytest.approx(1, abs=0.05)


def test_what_was_measured_is_recorded():
    """White noise twice as strong as stated has power 4; a filter that takes it for 1 leaves a flat field of 2."""
    sky = skies.make_sky(SHAPE, np.random.default_rng(8), ell_knee=1e-3)
    given = input_map(2 * sky.signal, sky.ivar)
    for model, rms, power in (("white", 2.0, np.nan), ("measured", 1.0, 4.0)):
        _, record = preprocessing.preprocess_recorded(given, beams.gaussian(2.05), OPTIONS | {"noise_model": model})
        spectra = record.spectra[record.spectra["ell"] > 1000]
        assert spectra["measured"].median() == pytest.approx(power, rel=0.05, nan_ok=True)
        assert (spectra["model"] / 4).median() == pytest.approx(1, rel=0.05) or spectra.empty
        assert record.local_rms.shape == (3, 3)
        assert np.median(record.local_rms) == pytest.approx(rms, rel=0.05)
