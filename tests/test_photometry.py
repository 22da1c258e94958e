"""Forced photometry on skies of known truth: noise of the template's covariance, sources between the pixels."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from filtered_skies import filtered_noise, filtered_sources, make_sky_map, make_template

from sotrplib import geometry, photometry, subtraction, tables
from sotrplib import template as templates
from sotrplib.pointing import PointingModel

SPECTRA = {"f090": {"fwhm_arcmin": 2.05, "knee": 0.14}, "f150": {"fwhm_arcmin": 1.3, "knee": 0.14}}
OPTIONS = {
    "flux_min_mjy": 0.0,
    "offset_snr_min": 5.0,
    "offset_max_arcmin": 1.5,
    "chi2_max": 0.0,
    "interpolation": "template",
    "blend_limit": 0.01,
    "near_edge_arcmin": 6.0,
    "cutout_arcmin": 10.0,
}
ERROR = 5.0  # mJy, of a flux at the kappa of make_sky_map


def make_catalog(ra_deg, dec_deg, flux_mjy, *, pos_err_arcsec=1.5):
    """Table ``catalog`` of sources named s0, s1, ..."""
    names = [f"s{i}" for i in range(np.size(ra_deg))]
    columns = {"source_id": names, "source_name": names, "ra_deg": ra_deg, "dec_deg": dec_deg, "flux_mjy": flux_mjy}
    unknown = {"flux_err_mjy": np.nan, "spectral_index": np.nan}
    filled = {name: np.full(len(names), value) for name, value in unknown.items()}
    return tables.make("catalog", columns | filled | {"pos_err_arcsec": np.full(len(names), pos_err_arcsec)})


def make_sky(shape, y, x, snr, rng=None, *, band="f090", **options):
    """Sky map of sources at pixels (y, x), without noise if there is no ``rng``, and their catalogue."""
    spectrum = SPECTRA[band]
    snr = np.resize(snr, np.size(y)).astype(float)
    s = filtered_sources(shape, np.atleast_1d(y), np.atleast_1d(x), snr, **spectrum)
    s = s if rng is None else s + filtered_noise(shape, rng, **spectrum)
    skymap = make_sky_map(s, make_template(n_rows=shape[0], **spectrum), **options)
    return skymap, make_catalog(*geometry.pix2sky(skymap.wcs, np.atleast_1d(y), np.atleast_1d(x)), snr * ERROR)


def grid(shape, spacing, rng, margin=20):
    """Positions one in each cell of a grid, at random in its middle."""
    cells = np.stack(np.meshgrid(*(np.arange(margin, n - margin, spacing) for n in shape), indexing="ij"))
    return cells.reshape(2, -1) + rng.uniform(-spacing / 6, spacing / 6, (2, cells[0].size))


def without_data(skymap, hole):
    """The sky map unobserved where ``hole`` (ny, nx) is true."""
    mask = np.where(hole, tables.MASK_BITS["UNOBSERVED"], skymap.mask).astype("u1")
    return replace(skymap, rho=np.where(hole, 0, skymap.rho), kappa=np.where(hole, 0, skymap.kappa), mask=mask)


def pulls(forced, snr):
    return (forced["flux_mjy"] - snr * ERROR).to_numpy() / forced["flux_err_mjy"].to_numpy()


def has(forced, name):
    return (forced["flags"].to_numpy() & tables.flag(name)) > 0


@pytest.mark.parametrize("band", SPECTRA)
def test_fluxes_are_unbiased_with_true_errors(band, rng):
    """Of 1089 sources of SNR 0 to 500: bias below 0.15 sigma at each flux, 0.1 % at SNR 500, scatter 0.95 to 1.05."""
    y, x = grid((700, 700), 20, rng)
    levels = np.array([0, 5, 500])
    snr = np.resize(levels, len(y))
    forced = photometry.forced_photometry(*make_sky((700, 700), y, x, snr, rng, band=band), None, OPTIONS)
    pull = pulls(forced, snr)
    assert len(forced) == 1089
    assert pull.std() == pytest.approx(1, abs=0.05)
    for level in levels:
        assert abs(pull[snr == level].mean()) < 0.15
    assert abs(pull[snr == 500].mean()) / 500 < 1e-3
    np.testing.assert_allclose(forced["flux_err_mjy"], ERROR, rtol=2e-3)


@pytest.mark.parametrize("band", SPECTRA)
def test_offsets_reach_the_cramer_rao_bound(band, rng):
    """Offsets of sources of SNR 10 to 300 scatter as their errors say, which are those of M^-1 / SNR^2."""
    y, x = grid((700, 700), 20, rng)
    snr = np.resize([10, 40, 300], len(y))
    skymap, catalog = make_sky((700, 700), y, x, snr, rng, band=band)
    forced = photometry.forced_photometry(skymap, catalog, None, OPTIONS)
    bound = 60 / np.sqrt(templates.curvature(skymap.template, 0)[0, 0]) / snr
    for axis in ("ra", "dec"):
        offset, error = forced[f"{axis}_offset_arcsec"], forced[f"{axis}_offset_err_arcsec"]
        assert np.std(offset / error) == pytest.approx(1, abs=0.08)
        assert abs(np.mean(offset / error)) < 0.12
        np.testing.assert_allclose(np.median((error / bound)[snr == 300]), 1, rtol=0.01)
    assert not has(forced, "NO_OFFSET").any() and not has(forced, "OFFSET_LARGE").any()


@pytest.mark.parametrize("separation", [0.5, 0.75, 1.0])
def test_blends_are_unbiased(separation, rng):
    """Pairs of SNR 20 and 40, half a FWHM apart or more: bias below 0.15 sigma, pulls 0.94 to 1.06."""
    shape = (1080, 1080)
    y, x = grid(shape, 36, rng)
    angle, distance = (
        rng.uniform(0, 2 * np.pi, len(y)),
        separation * templates.fwhm_arcmin(make_template(**SPECTRA["f090"]), 0),
    )
    y, x = np.append(y, y + distance / 0.5 * np.sin(angle)), np.append(x, x + distance / 0.5 * np.cos(angle))
    snr = np.repeat([20, 40], len(y) // 2)
    forced = photometry.forced_photometry(*make_sky(shape, y, x, snr, rng), None, OPTIONS)
    pull = pulls(forced, snr)
    assert has(forced, "BLENDED").all() and (forced["n_blend"] == 2).all()
    for level in (20, 40):
        assert abs(pull[snr == level].mean()) < 0.15
    assert pull.std() == pytest.approx(1, abs=0.06)


def test_fluxes_hold_beside_edges_and_holes(rng):
    """Down to half a pixel from an edge or hole a source of SNR 200 is unbiased, with its error."""
    shape = (600, 600)
    y, x = grid(shape, 18, rng)
    skymap, catalog = make_sky(shape, y, x, 200, rng)
    hole = np.zeros(shape, bool)
    row, column = np.rint(y).astype(int), np.rint(x).astype(int)
    for step in range(1, 5):
        hole[row, np.minimum(column + step, shape[1] - 1)] = True
    forced = photometry.forced_photometry(without_data(skymap, hole), catalog, None, OPTIONS)
    pull = pulls(forced, 200)
    assert has(forced, "NEAR_HOLE").all() and has(forced, "NEAR_EDGE").all()
    assert abs(pull.mean()) < 0.15
    assert pull.std() == pytest.approx(1, abs=0.08)
    assert (forced["edge_distance_arcmin"] < 0.8).all()


def test_uneven_depth_does_not_bias(rng):
    """With depth that varies tenfold over the map fluxes keep their bias and scatter."""
    shape = (500, 500)
    y, x = grid(shape, 20, rng)
    kappa = 0.04 * 10 ** (-1 + 2 * np.arange(500) / 500) * np.ones((500, 1))
    skymap, catalog = make_sky(shape, y, x, np.resize([0, 300], len(y)), rng, kappa=kappa)
    depth = np.sqrt(0.04 * 10 ** (-1 + 2 * x / 500))
    catalog["flux_mjy"] = np.resize([0, 300], len(y)) / depth
    forced = photometry.forced_photometry(skymap, catalog, None, OPTIONS)
    pull = (forced["flux_mjy"] - forced["catalog_flux_mjy"]) / forced["flux_err_mjy"]
    assert abs(pull.mean()) < 0.12 and pull.std() == pytest.approx(1, abs=0.07)


def test_no_numbers_without_data():
    """Unobserved and masked positions are rows with NaN and a flag, those off the map are no rows."""
    y, x = np.array([50.0, 100.0, 30.0, 30.0]), np.array([50.0, 100.0, 100.0, 20.0])
    skymap, catalog = make_sky((150, 150), y, x, 30)
    hole = np.zeros((150, 150), bool)
    hole[45:56, 45:56] = True
    skymap = without_data(skymap, hole)
    mask = skymap.mask.copy()
    mask[95:106, 95:106] = tables.MASK_BITS["GALAXY"]
    mask[25:36, 95:106] = tables.MASK_BITS["BRIGHT"]
    off_map = make_catalog([200.0, np.nan], [0.0, 0.0], [10.0, 10.0])
    both = tables.make("catalog", {name: [*catalog[name], *off_map[name]] for name in catalog})
    forced = photometry.forced_photometry(replace(skymap, mask=mask), both, None, OPTIONS)
    assert len(forced) == 4
    assert has(forced, "NO_DATA").tolist() == [True, False, False, False]
    assert has(forced, "MASKED").tolist() == [False, True, False, False]
    for name in ("flux_mjy", "flux_err_mjy", "snr", "ra_offset_arcsec"):
        assert np.isfinite(forced[name]).tolist() == [False, False, True, True]
    assert has(forced, "NO_OFFSET").tolist() == [True, True, False, False]
    assert forced["edge_distance_arcmin"].tolist()[:2] == [0, 0]
    assert forced["flux_mjy"].to_numpy()[2:] == pytest.approx(150, rel=1e-3)


def test_a_masked_source_still_counts_for_its_neighbour():
    """A bright source just under a mask does not leak into the flux of the one beside it."""
    skymap, catalog = make_sky((120, 120), [60.0, 60.0], [60.0, 65.0], [20, 500])
    mask = skymap.mask.copy()
    mask[:, 63:] = tables.MASK_BITS["EDGE"]
    forced = photometry.forced_photometry(replace(skymap, mask=mask), catalog, None, OPTIONS)
    assert forced["flux_mjy"][0] == pytest.approx(100, rel=5e-3)
    assert has(forced, "MASKED").tolist() == [False, True]


def test_maps_over_ra_zero_give_the_same():
    """The flux and offset of a source at RA 0 equal those at RA 180, whichever way the catalogue writes its RA."""
    results = []
    for ra0 in (180.0, 0.0):
        skymap, catalog = make_sky((100, 120), [40.3, 52.0], [30.2, 90.7], [30, 60], ra0_deg=ra0)
        results.append(photometry.forced_photometry(skymap, catalog, None, OPTIONS))
        turned = catalog.assign(ra_deg=catalog["ra_deg"] - 360)
        results.append(photometry.forced_photometry(skymap, turned, None, OPTIONS))
    for result in results[1:]:
        for name in ("flux_mjy", "flux_err_mjy", "ra_offset_arcsec", "dec_offset_arcsec"):
            np.testing.assert_allclose(result[name], results[0][name], rtol=1e-6, atol=1e-6)


def test_pointing_moves_the_position_measured_not_the_catalogue():
    """With a map 20 and -35 arcsec off, the right model restores flux and zero offset; the catalogue stays."""
    y, x = np.array([60.0, 140.3, 90.8]), np.array([70.2, 120.0, 40.4])
    skymap, catalog = make_sky((200, 200), y, x, 100, dec0_deg=-1.0)
    true_ra, true_dec = geometry.offset_position(catalog["ra_deg"], catalog["dec_deg"], -20.0, 35.0)
    shifted = catalog.assign(ra_deg=true_ra, dec_deg=true_dec)
    model = PointingModel("constant", coefficients=np.array([[20.0], [-35.0]]))
    forced = photometry.forced_photometry(skymap, shifted, model, OPTIONS)
    np.testing.assert_allclose(forced["flux_mjy"], 500, rtol=1e-3)
    np.testing.assert_allclose(forced[["ra_offset_arcsec", "dec_offset_arcsec"]], 0, atol=0.02)
    np.testing.assert_array_equal(forced["ra_deg"], true_ra)
    assert not has(forced, "POINTING_IDENTITY").any()
    raw = photometry.forced_photometry(skymap, shifted, None, OPTIONS)
    np.testing.assert_allclose(raw["ra_offset_arcsec"], 20, atol=0.05)
    np.testing.assert_allclose(raw["dec_offset_arcsec"], -35, atol=0.05)
    assert (raw["flux_mjy"] < 490).all()
    assert has(raw, "POINTING_IDENTITY").all() and has(raw, "OFFSET_LARGE").all()


def test_offsets_ignore_a_bright_neighbour():
    """A source of SNR 20 beside one of SNR 400 is found at its own position, in whichever order they are listed."""
    y, x, snr = np.array([60.2, 60.7]), np.array([60.4, 66.1]), np.array([20, 400])
    for order in ([0, 1], [1, 0]):
        forced = photometry.forced_photometry(*make_sky((128, 128), y[order], x[order], snr[order]), None, OPTIONS)
        np.testing.assert_allclose(forced["ra_offset_arcsec"], 0, atol=0.2)
        np.testing.assert_allclose(forced["dec_offset_arcsec"], 0, atol=0.2)
        assert has(forced, "NEAR_BRIGHT").tolist() == [index == 0 for index in order]


def test_offsets_in_bands_of_rows(rng):
    """Sources in any order, on a map whose template has several bands, have the offsets they have with one band."""
    y, x = grid((200, 120), 24, rng)
    order = rng.permutation(len(y))
    skymap, catalog = make_sky((200, 120), y[order], x[order], 50, rng)
    one = skymap.template
    bands = templates.Template(np.repeat(one.values, 4, 0), [0, 50, 90, 110, 200], np.repeat(one.step_arcmin, 4, 0))
    results = [photometry.forced_photometry(replace(skymap, template=t), catalog, None, OPTIONS) for t in (one, bands)]
    for name in ("flux_mjy", "ra_offset_arcsec", "dec_offset_err_arcsec"):
        np.testing.assert_allclose(results[1][name], results[0][name], atol=1e-6)


def test_sources_of_another_shape_are_flagged_if_asked(rng):
    """Spikes of one pixel of the raw map are flagged, sources alone, in pairs and beside a hole are not.

    Fluxes do not change, offsets by less than a hundredth of an arcsecond: larger stamps hold fainter wings.
    """
    shape = (480, 480)
    y, x = grid(shape, 32, rng)
    skymap, catalog = make_sky(shape, y, x, 30.0, rng)
    odd, twin = np.arange(len(y)) % 7 == 0, np.arange(len(y)) % 7 == 1
    s = filtered_sources(shape, y[odd], x[odd], np.full(odd.sum(), 30.0), power=1, **SPECTRA["f090"])
    s -= filtered_sources(shape, y[odd], x[odd], np.full(odd.sum(), 30.0), **SPECTRA["f090"])
    s += filtered_sources(shape, y[twin] + 7, x[twin], np.full(twin.sum(), 60.0), **SPECTRA["f090"])
    beside = make_catalog(*geometry.pix2sky(skymap.wcs, y[twin] + 7, x[twin]), np.full(twin.sum(), 60.0 * ERROR))
    catalog = pd.concat([catalog, beside.assign(source_id=[f"t{k}" for k in range(twin.sum())])], ignore_index=True)
    skymap = replace(skymap, rho=skymap.rho + (s * np.sqrt(skymap.kappa)).astype("f4"))
    hole = np.zeros(shape, bool)
    hole[np.rint(y[2::7]).astype(int) + 3, np.rint(x[2::7]).astype(int)] = True
    skymap = without_data(skymap, hole)
    free, asked = (photometry.forced_photometry(skymap, catalog, None, OPTIONS | {"chi2_max": c}) for c in (0.0, 2.5))
    flagged = has(asked, "BAD_SHAPE")
    assert flagged[: len(y)][odd].all() and not has(free, "BAD_SHAPE").any()
    assert flagged.sum() - odd.sum() <= 0.03 * len(catalog)  # measured: none of 196
    np.testing.assert_array_equal(asked["flux_mjy"], free["flux_mjy"])
    for name in ("ra_offset_arcsec", "dec_offset_arcsec"):
        np.testing.assert_allclose(asked[name], free[name], rtol=0, atol=0.01)


def test_faint_sources_have_no_offset():
    """Below the stated significance the offset is NaN and flagged; the flux stays."""
    skymap, catalog = make_sky((128, 128), [40.0, 80.0], [40.0, 80.0], [4.5, 5.5])
    forced = photometry.forced_photometry(skymap, catalog, None, OPTIONS)
    assert has(forced, "NO_OFFSET").tolist() == [True, False]
    assert np.isnan(forced["dec_offset_err_arcsec"]).tolist() == [True, False]


def test_changed_flux_is_flagged():
    """A source ten times as bright as catalogued is flagged, unless the catalogue's error allows it."""
    skymap, catalog = make_sky((128, 128), [40.0, 80.0, 100.0], [40.0, 80.0, 30.0], 30)
    catalog["flux_mjy"], catalog["flux_err_mjy"] = [15.0, 15.0, 150.0], [np.nan, 100.0, np.nan]
    forced = photometry.forced_photometry(skymap, catalog, None, OPTIONS)
    assert has(forced, "FLUX_CHANGED").tolist() == [True, False, False]


def test_minimum_flux_leaves_sources_out():
    """Sources below the minimum are no rows; one without a catalogue flux is measured."""
    skymap, catalog = make_sky((128, 128), [40.0, 80.0, 100.0], [40.0, 80.0, 30.0], 30)
    catalog["flux_mjy"] = [1.0, 20.0, np.nan]
    forced = photometry.forced_photometry(skymap, catalog, None, OPTIONS | {"flux_min_mjy": 10.0})
    assert forced["source_id"].tolist() == ["s1", "s2"]
    np.testing.assert_allclose(forced["flux_mjy"], 150, rtol=1e-3)


def test_duplicate_entries_share_the_flux():
    """A source listed twice has finite errors, its flux in two parts and no offsets."""
    skymap, catalog = make_sky((128, 128), [64.0, 64.0], [64.0, 64.05], [20, 10])
    forced = photometry.forced_photometry(skymap, catalog, None, OPTIONS)
    np.testing.assert_allclose(forced["flux_mjy"], [100, 50], rtol=1e-3)
    assert has(forced, "BLENDED").all() and np.isnan(forced["ra_offset_arcsec"]).all()


def test_time_is_that_of_the_position():
    """The time of a row is read at its position, not averaged over the seam of two scans, and NaN where unknown."""
    skymap, catalog = make_sky((60, 80), [20.25, 20.25, 40.0, 20.0], [10.5, 49.6, 20.0, 79.4], 20)
    time = np.broadcast_to(np.arange(80) * 2.0, (60, 80)).astype("f4").copy()
    time[:, 50:] += 5000
    time[35:] = np.nan
    forced = photometry.forced_photometry(replace(skymap, time=time), catalog, None, OPTIONS)
    np.testing.assert_allclose(forced["time_unix_s"] - 1.7e9, [21, 5100, np.nan, 5158], atol=1e-3)
    assert has(forced, "NO_TIME").tolist() == [False, False, True, False]
    nowhere = photometry.forced_photometry(replace(skymap, time=None), catalog, None, OPTIONS)
    assert np.isnan(nowhere["time_unix_s"]).all() and has(nowhere, "NO_TIME").all()


def test_empty_catalogue_gives_an_empty_table():
    """No source, or none on the map, is a table of no rows with all columns and types."""
    skymap, _ = make_sky((40, 40), 20.0, 20.0, 10)
    for catalog in (tables.empty("catalog"), make_catalog([200.0], [50.0], [10.0])):
        forced = photometry.forced_photometry(skymap, catalog, None, OPTIONS)
        assert len(forced) == 0
        assert forced.dtypes.equals(tables.empty("forced").dtypes)


def test_one_pixel_map():
    """A map of a single pixel measures the source on it, with the error of that pixel."""
    skymap = make_sky_map(np.full((1, 1), 12.0), make_template(**SPECTRA["f090"]))
    forced = photometry.forced_photometry(
        skymap, make_catalog(*np.array(geometry.pix2sky(skymap.wcs, [0.0], [0.0])), 10.0), None, OPTIONS
    )
    np.testing.assert_allclose(forced[["flux_mjy", "flux_err_mjy"]], [[60, 5]], rtol=1e-5)
    assert has(forced, "NEAR_EDGE").all() and has(forced, "NEAR_HOLE").all()


def test_inputs_are_left_alone(rng):
    """Neither the map nor the catalogue is changed by a measurement."""
    skymap, catalog = make_sky((100, 100), [40.0, 44.0], [40.0, 43.0], [50, 900], rng)
    before = [skymap.rho.copy(), skymap.kappa.copy(), skymap.mask.copy(), catalog.copy()]
    photometry.forced_photometry(skymap, catalog, None, OPTIONS)
    photometry.cutouts(skymap, catalog["ra_deg"], catalog["dec_deg"], 10)
    for now, then in zip((skymap.rho, skymap.kappa, skymap.mask), before, strict=False):
        np.testing.assert_array_equal(now, then)
    assert catalog.equals(before[3])


def test_measure_agrees_with_forced_photometry(rng):
    """Flux and error at pixel positions are those of the table at the same places on the sky."""
    y, x = grid((150, 150), 12, rng)
    skymap, catalog = make_sky((150, 150), y, x, 15, rng)
    forced = photometry.forced_photometry(skymap, catalog, None, OPTIONS)
    flux, error, n_blend = photometry.measure(skymap.rho, skymap.kappa, y, x, skymap.template)
    np.testing.assert_allclose(flux, forced["flux_mjy"], rtol=1e-6)
    np.testing.assert_allclose(error, forced["flux_err_mjy"], rtol=1e-6)
    np.testing.assert_array_equal(n_blend, forced["n_blend"])


@pytest.mark.parametrize("size_arcmin, k", [(10, 21), (0.4, 1), (3.2, 7), (3.0, 7)])
def test_cutouts_are_centred(size_arcmin, k):
    """The peak of a source lies at the middle pixel plus the stated offset, to 0.01 pixel; k is odd."""
    y, x = np.array([50.0, 151.4, 70.5, 190.49]), np.array([60.0, 83.6, 180.2, 200.51])
    skymap, catalog = make_sky((256, 256), y, x, 50)
    images, offsets = photometry.cutouts(skymap, catalog["ra_deg"], catalog["dec_deg"], size_arcmin)
    assert images.shape == (4, 2, k, k) and images.dtype == np.float32
    assert (np.abs(offsets) <= 0.5 + 1e-6).all()
    assert offsets[0] == pytest.approx([0, 0], abs=1e-6)
    if k > 6:
        model = templates.patches(skymap.template, *offsets.T, y, k // 2) * 50
        np.testing.assert_allclose(images[:, 1], model, atol=0.05)
        np.testing.assert_allclose(images[:, 0], ERROR * model, atol=0.25)


def test_cutouts_at_and_off_the_border():
    """Beyond the map and where there are no data a cutout is NaN; far off and without a position it is all NaN."""
    skymap, catalog = make_sky((60, 60), [1.0, 30.0], [58.0, 30.0], 50)
    skymap = without_data(skymap, np.indices((60, 60))[0] == 31)
    ra, dec = np.append(catalog["ra_deg"], [200.0, np.nan]), np.append(catalog["dec_deg"], [0.0, 0.0])
    images, offsets = photometry.cutouts(skymap, ra, dec, 5)
    finite = np.isfinite(images)
    assert finite[0, 0].sum() == (5 + 2) * (5 + 2)
    assert not finite[1, :, 6].any() and finite[1].sum() == 2 * (121 - 11)
    assert not finite[2:].any()
    assert np.isfinite(offsets).tolist() == [[True] * 2, [True] * 2, [True] * 2, [False] * 2]


def test_cutouts_of_nothing():
    """No positions give no cutouts, of the right shape; a size of 0 gives no arrays to write."""
    skymap, _ = make_sky((60, 60), 30.0, 30.0, 50)
    images, offsets = photometry.cutouts(skymap, np.zeros(0), np.zeros(0), 5)
    assert images.shape == (0, 2, 11, 11) and offsets.shape == (0, 2)
    assert photometry.cutout_arrays(skymap, tables.empty("forced"), 0) == {}
    arrays = photometry.cutout_arrays(skymap, tables.empty("forced"), 5)
    assert arrays["cutouts/snr"][0].shape == (0, 11, 11) and arrays["cutouts/offset"][0].shape == (0, 2)


def test_bright_sources_are_followed_to_where_they_are(rng):
    """With a catalogue 3 arcsec off, sources of SNR 400 leave under 6 sigma beside them, not over 10."""
    y, x = np.array([60.3, 140.7]), np.array([70.2, 120.4])
    skymap, catalog = make_sky((200, 200), y, x, np.full(2, 400.0), rng)
    ra, dec = geometry.offset_position(catalog["ra_deg"], catalog["dec_deg"], 3.0, 0.0)
    forced = photometry.forced_photometry(skymap, catalog.assign(ra_deg=ra, dec_deg=dec), None, OPTIONS)
    place = photometry.expected_positions(skymap, forced["ra_deg"], forced["dec_deg"])
    worst = []
    for sources in (photometry.fitted_sources(skymap, forced), (place.y, place.x, forced["flux_mjy"].to_numpy())):
        rho = subtraction.subtract_sources(skymap.rho, skymap.kappa, *sources, skymap.template)
        worst.append(np.abs(rho / np.sqrt(skymap.kappa))[40:160, 40:160].max())
    assert worst[0] < 6 and worst[1] > 10


def test_method_none_measures_nothing():
    """The method matched_filter measures the known source, none gives a table without rows."""
    skymap, catalog = make_sky((96, 96), 40.0, 40.0, 30.0)
    found = [
        photometry.measure_known(skymap, catalog, None, OPTIONS | {"method": method})
        for method in ("matched_filter", "none")
    ]
    assert [len(table) for table in found] == [1, 0]
    assert found[1].dtypes.equals(found[0].dtypes)


@pytest.mark.parametrize(
    ("interpolation", "low", "high"), [("template", -1e-4, 1e-4), ("spline", -6e-3, -1e-4), ("nearest", -0.045, -0.02)]
)
def test_reading_between_pixels_is_as_exact_as_its_interpolation(rng, interpolation, low, high):
    """Sources of SNR 1000 at random places in their pixels, without noise: the template reads their flux to 1e-4, a
    spline some 0.2 % low, the nearest pixel some 3 % low, for it takes any other place for the peak.
    """
    y, x = grid((256, 256), 32, rng)
    y, x = y + rng.uniform(-0.5, 0.5, y.shape), x + rng.uniform(-0.5, 0.5, x.shape)
    skymap, catalog = make_sky((256, 256), y, x, 1000.0, band="f150")
    forced = photometry.forced_photometry(skymap, catalog, None, OPTIONS | {"interpolation": interpolation})
    assert low < np.mean(forced["flux_mjy"] / catalog["flux_mjy"]) - 1 < high


@pytest.mark.parametrize("interpolation", ["spline", "nearest"])
def test_unobserved_pixels_are_read_as_unknown(interpolation):
    """However a map is read, a position whose nearest pixel is unobserved or off the map is NaN, and others are not."""
    skymap, _ = make_sky((64, 64), 32.0, 32.0, 50.0)
    hole = np.zeros((64, 64), bool)
    hole[10, 10] = True
    s, kappa = photometry.read_between(
        without_data(skymap, hole), np.array([10.3, 32.0, -3.0]), np.array([9.8, 32.0, 5.0]), interpolation
    )
    assert np.isfinite(s).tolist() == np.isfinite(kappa).tolist() == [False, True, False]
    assert s[1] == pytest.approx(50, rel=1e-5)
