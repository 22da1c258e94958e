"""The two finders and their table."""

import numpy as np
import pytest
from filtered_skies import filtered_noise, filtered_sources, make_filtered_sky, make_sky_map, make_template
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from sotrplib import detection, geometry, tables
from sotrplib.pointing import PointingModel

OPTIONS = {
    "snr_min": 5.0,
    "min_separation_fwhm": 0.5,
    "template_err": 0.02,
    "near_edge_arcmin": 6.0,
    "chi2_max": 3.0,
    "fwhm_ratio_min": 0.82,
    "fwhm_ratio_max": 1.3,
    "segment_snr": 3.0,
    "segment_n_pixels": 2,
    "deblend_n_levels": 32,
    "deblend_contrast": 0.001,
}
FINDERS = [detection.find_peaks, detection.find_segments]
NO_POINTING = PointingModel(kind="constant")


def run(finder, skymap, *, pointing_model=NO_POINTING, rho=None, **options):
    return finder(skymap, skymap.rho if rho is None else rho, OPTIONS | options, pointing_model)


def pixel_of(skymap, table):
    return geometry.sky2pix(skymap.wcs, table["ra_deg"], table["dec_deg"], skymap.rho.shape)


def has(table, flag):
    return (table["flags"].to_numpy() & np.uint32(tables.flag(flag))) > 0


@pytest.mark.parametrize("finder", FINDERS)
def test_fluxes_and_positions_have_true_errors(rng, finder):
    """For SNR 8 to 30 pulls of flux, RA and Dec have mean 0 within 0.2 and scatter 1 within 0.12."""
    sky = make_filtered_sky((416, 416), rng, [8, 12, 30], spacing_pix=26, knee=0.0)
    skymap = make_sky_map(sky.s, sky.template, kappa=0.04)
    found = run(finder, skymap)
    y, x = pixel_of(skymap, found)
    distance, index = cKDTree(np.stack([sky.y, sky.x], 1)).query(np.stack([y, x], 1))
    found, index = found[distance < 3], index[distance < 3]
    assert len(found) > 0.98 * len(sky.y)
    ra, dec = geometry.pix2sky(skymap.wcs, sky.y[index], sky.x[index])
    dra, ddec = geometry.tangent_offsets(found["ra_deg"].to_numpy(), found["dec_deg"].to_numpy(), ra, dec)
    pulls = {
        "flux": (found["flux_mjy"] - sky.snr[index] * 5) / found["flux_err_mjy"],
        "ra": dra / found["ra_err_arcsec"],
        "dec": ddec / found["dec_err_arcsec"],
    }
    for pull in pulls.values():
        assert pull.mean() == pytest.approx(0, abs=0.2)
        assert pull.std() == pytest.approx(1, abs=0.12)


@pytest.mark.parametrize("finder", FINDERS)
def test_table_has_its_columns_and_order(rng, finder):
    """The table is of the schema, brightest first, numbered from 0, with snr below snr_peak."""
    sky = make_filtered_sky((240, 240), rng, [10, 20, 40], spacing_pix=60)
    found = run(finder, make_sky_map(sky.s, sky.template))
    assert list(found.columns) == tables.column_names("detections")
    assert found["detection_id"].tolist() == list(range(len(found)))
    assert (np.diff(found["flux_mjy"]) <= 0).all()
    assert found["snr"].to_numpy() == pytest.approx(np.sqrt(found["snr_peak"].to_numpy() ** 2 - 2))
    assert found["snr"].to_numpy() == pytest.approx((found["flux_mjy"] / found["flux_err_mjy"]).to_numpy())
    assert found["time_unix_s"].to_numpy() == pytest.approx(1.7e9 + 100)
    assert found["fwhm_ratio"].to_numpy() == pytest.approx(1, abs=0.25)


@pytest.mark.parametrize("finder", FINDERS)
@pytest.mark.parametrize("sky", ["no signal", "unobserved", "masked"])
def test_nothing_to_find_is_a_table_without_rows(finder, sky):
    """A map of zeros, one without data and one all masked give zero rows of the right types."""
    image = np.full((48, 64), {"no signal": 0.0, "unobserved": np.nan, "masked": 9.0}[sky], "f4")
    mask = np.full(image.shape, tables.MASK_BITS["GALAXY"]) if sky == "masked" else None
    found = run(finder, make_sky_map(image, make_template(n_rows=48), mask=mask))
    assert len(found) == 0
    assert found.dtypes.equals(tables.empty("detections").dtypes)


def test_one_pixel_is_enough():
    """A map with one observed pixel above the threshold has one detection there, near edge and hole."""
    image = np.full((32, 32), np.nan, "f4")
    image[10, 12] = 12.0
    skymap = make_sky_map(image, make_template(n_rows=32))
    found = run(detection.find_peaks, skymap)
    assert len(found) == 1
    assert np.concatenate(pixel_of(skymap, found)) == pytest.approx([10, 12], abs=0.01)
    assert has(found, "NEAR_EDGE").all()
    assert has(found, "NEAR_HOLE").all()
    assert len(run(detection.find_peaks, make_sky_map(np.full((1, 1), 12, "f4"), make_template(n_rows=1)))) == 1


@pytest.mark.parametrize("finder", FINDERS)
def test_positions_are_right_over_the_wrap_of_ra(rng, finder):
    """Sources on both sides of RA 0 have RA within 0 to 360 and lie where they were put."""
    y, x = np.array([60.0, 60.0]), np.array([40.0, 88.0])
    image = filtered_noise((128, 128), rng) + filtered_sources((128, 128), y, x, [60.0, 60.0])
    skymap = make_sky_map(image.astype("f4"), make_template(n_rows=128), ra0_deg=0.0)
    found = run(finder, skymap).sort_values("ra_deg")
    ra, dec = geometry.pix2sky(skymap.wcs, y, x)
    assert ((found["ra_deg"] >= 0) & (found["ra_deg"] < 360)).all()
    assert found["ra_deg"].min() < 1
    assert found["ra_deg"].max() > 359
    away = geometry.separation_arcsec(found["ra_deg"].to_numpy(), found["dec_deg"].to_numpy(), np.sort(ra), dec)
    assert away == pytest.approx([0, 0], abs=6)


def test_pointing_is_taken_off_and_its_error_added(rng):
    """With a pointing model of 30 and -20 arcsec positions move by -30 and 20 and errors grow in quadrature."""
    image = filtered_noise((128, 128), rng) + filtered_sources((128, 128), [60.0], [70.0], [40.0])
    skymap = make_sky_map(image.astype("f4"), make_template(n_rows=128), dec0_deg=-50.0)
    model = PointingModel("constant", 0, (10.0, -50.0), 1.0, np.array([[30.0], [-20.0]]), np.full((2, 1, 1), 9.0))
    plain, moved = run(detection.find_peaks, skymap), run(detection.find_peaks, skymap, pointing_model=model)
    sky = [table[["ra_deg", "dec_deg"]].to_numpy().T for table in (moved, plain)]
    assert np.concatenate(geometry.tangent_offsets(*sky[0], *sky[1])) == pytest.approx([-30, 20], abs=0.01)
    assert moved["ra_err_arcsec"].to_numpy() == pytest.approx(np.hypot(plain["ra_err_arcsec"], 3))
    assert not has(moved, "POINTING_IDENTITY").any()
    assert has(run(detection.find_peaks, skymap, pointing_model=PointingModel()), "POINTING_IDENTITY").all()


def test_masked_pixels_hold_no_detection(rng):
    """A source under a mask is not found, one beside it is, with its distance to the mask."""
    image = filtered_noise((128, 128), rng) + filtered_sources((128, 128), [40.0, 90.0], [64.0, 64.0], [50.0, 50.0])
    mask = np.zeros(image.shape, int)
    mask[:60] = tables.MASK_BITS["PLANET"]
    skymap = make_sky_map(image.astype("f4"), make_template(n_rows=128), mask=mask)
    found = run(detection.find_peaks, skymap)
    assert len(found) == 1
    assert found["edge_distance_arcmin"].to_numpy() == pytest.approx([31 * 0.5], abs=0.2)
    assert not has(found, "NEAR_EDGE").any()


def test_flags_of_shape(rng):
    """A glitch is BAD_SHAPE, an extended source EXTENDED, a point source neither."""
    wide = np.zeros((256, 256))
    wide[190, 128] = 1
    wide = gaussian_filter(wide, 5.0)
    image = filtered_sources((256, 256), [64.3], [64.3], [30.0]) + 60 * wide / wide.max()
    image += filtered_sources((256, 256), [64.0], [190.0], [30.0], power=1) + filtered_noise((256, 256), rng)
    skymap = make_sky_map(image.astype("f4"), make_template(n_rows=256))
    found = run(detection.find_peaks, skymap)
    y, x = pixel_of(skymap, found)
    kind = {"source": (y < 100) & (x < 100), "glitch": (y < 100) & (x > 100), "wide": y > 100}
    assert [int(where.sum()) for where in kind.values()] == [1, 1, 1]
    assert [bool(has(found, "BAD_SHAPE")[where][0]) for where in kind.values()] == [False, True, True]
    assert [bool(has(found, "EXTENDED")[where][0]) for where in kind.values()] == [False, False, True]


def test_flags_of_neighbours(rng):
    """Overlapping sources are BLENDED; one in the wing of a much brighter one is NEAR_BRIGHT as well."""
    y, x, snr = [64.0, 64.0, 190.0, 190.0], [64.0, 70.0, 60.0, 67.2], [40.0, 50.0, 300.0, 25.0]
    image = filtered_noise((256, 256), rng) + filtered_sources((256, 256), y, x, snr)
    found = run(detection.find_peaks, make_sky_map(image.astype("f4"), make_template(n_rows=256)))
    assert len(found) == 4
    assert has(found, "BLENDED").all()
    assert has(found, "NEAR_BRIGHT").tolist() == [False, False, False, True]


def test_a_map_without_times_says_so(rng):
    """Without a time map times are NaN and flagged."""
    image = filtered_sources((96, 96), [48.0], [48.0], [20.0]).astype("f4")
    skymap = make_sky_map(image, make_template(n_rows=96))
    timeless = type(skymap)(**{**vars(skymap), "time": None})
    found = run(detection.find_peaks, timeless)
    assert np.isnan(found["time_unix_s"]).all()
    assert has(found, "NO_TIME").all()


def test_flux_is_right_where_depth_changes(rng):
    """Flux and error follow kappa where it changes by 10 % a pixel."""
    kappa = 0.04 * 1.1 ** np.arange(-64, 64)[:, None] * np.ones(128)
    image = filtered_sources((128, 128), [64.5], [64.0], [100.0])
    skymap = make_sky_map(image.astype("f4"), make_template(n_rows=128), kappa=kappa)
    found = run(detection.find_peaks, skymap)
    depth = np.sqrt(0.04 * 1.1**0.5)
    assert found["flux_err_mjy"].to_numpy() == pytest.approx([1 / depth], rel=0.005)
    assert found["flux_mjy"].to_numpy() == pytest.approx([100 / depth], rel=0.005)


def test_segments_measure_extended_emission(rng):
    """An island twice as wide as the template is one detection, its width within 15 %, elongated ones elongated."""
    image = np.zeros((256, 256))
    image[80, 128], image[190, 128] = 1, 1
    sigma = 2.0 * np.sqrt(2) / 0.5 / np.sqrt(8 * np.log(2))
    round_one, long_one = gaussian_filter(image[:128], 2 * sigma), gaussian_filter(image[128:], (sigma, 3 * sigma))
    image = 80 * np.concatenate([round_one / round_one.max(), long_one / long_one.max()])
    skymap = make_sky_map((image + filtered_noise(image.shape, rng)).astype("f4"), make_template(n_rows=256))
    found = run(detection.find_segments, skymap, deblend_contrast=0.1)
    found = found.iloc[np.argsort(pixel_of(skymap, found)[0])]
    assert len(found) == 2
    assert found["fwhm_ratio"].to_numpy() == pytest.approx([2, np.sqrt(3)], rel=0.15)
    assert found["elongation"].to_numpy() == pytest.approx([1, 3], rel=0.15)
    assert has(found, "EXTENDED").all()


def test_segments_divide_merged_sources(rng):
    """Two sources in one island above 3 sigma are two detections with their own fluxes."""
    y, x = [64.0, 64.0], [60.0, 69.0]
    image = filtered_noise((128, 128), rng) + filtered_sources((128, 128), y, x, [60.0, 40.0])
    found = run(detection.find_segments, make_sky_map(image.astype("f4"), make_template(n_rows=128)))
    assert len(found) == 2
    assert found["snr"].to_numpy() == pytest.approx([60, 40], abs=4)


def test_finder_is_chosen_by_name(rng):
    """peaks and segments find the source of a map, none gives the same columns without a row."""
    sky = make_filtered_sky((96, 96), rng, [30], spacing_pix=96)
    skymap = make_sky_map(sky.s, sky.template)
    names = "peaks", "segments", "none"
    found = {name: detection.find(skymap, skymap.rho, OPTIONS | {"finder": name}, NO_POINTING) for name in names}
    assert {name: len(table) for name, table in found.items()} == {"peaks": 1, "segments": 1, "none": 0}
    assert list(found["none"].columns) == list(found["peaks"].columns)
