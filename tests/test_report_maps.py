"""Views of maps: Gaussian once the sources are gone, cutouts and coverage where the sky says."""

import nights
import numpy as np
import pytest
from filtered_skies import filtered_sources, make_template

from sotrplib import geometry, maps, pointing
from sotrplib.report import checks, coverage, mapviews, stamps


def test_sources_of_the_map_are_taken_out_of_its_histogram(rng, tmp_path):
    """The map is Gaussian once its sources are subtracted where the pointing puts them; a failed map has no view."""
    frames, files = nights.write_night(tmp_path, rng, [*nights.TWO_MAPS, nights.map_row("i4", nights.NIGHT, "failed")])
    targets = frames["measurements"]
    views = [
        mapviews.view_map(first, second, rest, targets, draw=mapviews.Draw.SMALL) for first, second, *rest in files
    ]
    assert len(frames["maps"]) == len(views)
    assert [view.warnings for view in views if view] == [[], []]
    assert views[2] is None and all(view.thumbnail and not view.images for view in views[:2])


def test_cutout_is_centred_north_up_east_left(rng):
    """A source is in the middle of its cutout with the pointing offset, and one 3 arcmin east of it to the left."""
    shape, wcs = nights.car_wcs()
    y, x = geometry.sky2pix(wcs, *geometry.offset_position(0.1, -30.1, [20.0, 200.0], [0.0, 0.0]))
    snr = filtered_sources(shape, y, x, [50.0, 40.0])
    model = pointing.PointingModel(coefficients=np.array([[20.0], [0.0]]))
    image = stamps.resample(snr, wcs, {"ra_deg": 0.1, "dec_deg": -30.1}, model)
    middle = (image.shape[0] - 1) / 2
    peak = np.unravel_index(np.argmax(image), image.shape)
    assert np.abs(np.array(peak) - middle).max() <= 1.5
    left = image[:, : int(middle - 6)]
    peak = np.unravel_index(np.argmax(left), left.shape)
    assert np.abs(np.array(peak) - [middle, middle - 12]).max() <= 1.5


def test_a_steady_source_leaves_no_pixel_pattern_in_the_difference():
    """Maps whose pixels lie differently on a source of SNR 100 differ by less than 0.1 where they are subtracted."""
    shape, wcs = nights.car_wcs()
    kappa, cut, place = np.ones(shape, "f4"), [], {"ra_deg": 0.1, "dec_deg": -30.1}
    for east in (0.0, 13.0):
        y, x = geometry.sky2pix(wcs, *geometry.offset_position(0.1, -30.1, [east], [-9.0]))
        rho = filtered_sources(shape, y, x, [100.0]).astype("f4")
        seen = maps.SkyMap(rho, kappa, None, np.zeros(shape, "u1"), wcs, None, make_template())
        model = pointing.PointingModel(coefficients=np.array([[east], [-9.0]]))
        cut.append(stamps.cut(seen, place, model))
    between = stamps.subtract(cut[0].between, [cut[1].between])
    assert np.nanmax(np.abs(between.snr)) < 0.1
    assert np.nanmax(np.abs(stamps.subtract(cut[0], [cut[1]]).snr)) > 5


def test_cutout_outside_the_map_is_blank():
    """Pixels beyond the edge of the map are NaN."""
    shape, wcs = nights.car_wcs()
    image = stamps.resample(np.ones(shape), wcs, {"ra_deg": 180.0, "dec_deg": -30.0}, pointing.PointingModel())
    assert np.isnan(image).all()


@pytest.mark.parametrize("ra0", [0.0, 180.0, 359.9])
def test_coverage_over_the_wrap(ra0):
    """The covered area is that of the map and the figure is centred on it, wherever RA 0 lies."""
    shape, wcs = nights.car_wcs(ra0)
    usable = np.ones(shape, bool)
    found = coverage.cover_sky([(usable, 1, wcs), (usable, 1, wcs)])
    assert found["area_deg2"] == pytest.approx(geometry.area_deg2(shape, wcs, usable), rel=0.02)
    assert abs((found["ra0_deg"] - ra0 + 180) % 360 - 180) < 0.01
    assert np.ptp(found["x_deg"]) < 2.5
    assert set(np.unique(found["count"])) == {0, 2}


def test_coverage_of_nothing():
    """No map, or maps without a usable pixel, cover nothing."""
    shape, wcs = nights.car_wcs()
    assert coverage.cover_sky([]) is None
    assert coverage.cover_sky([(np.zeros(shape, bool), 1, wcs)]) is None


def test_middle_of_right_ascensions():
    """The middle lies opposite the widest gap."""
    assert coverage.middle_ra(np.array([350.0, 10.0])) == pytest.approx(0, abs=1e-9)
    assert coverage.middle_ra(np.array([100.0, 140.0])) == pytest.approx(120)


def test_noise_is_judged():
    """Gaussian noise of unit width passes; wider noise and a negative tail are told."""
    noise = np.random.default_rng(2).normal(size=100_000)
    assert checks.judge_noise(noise) == []
    assert checks.judge_noise(1.2 * noise)[0] == "the noise is 1.20 times the stated error"
    assert "200 pixels lie below −5σ" in checks.judge_noise(np.append(noise, np.full(200, -7.0)))[0]
    assert checks.judge_noise(np.empty(0)) == ["no usable pixel"]


def test_block_shows_its_farthest_pixel():
    """A block of an image is its pixel farthest from 0, whatever else is NaN; blocks at the ends may be smaller."""
    _, wcs = nights.car_wcs()
    values = np.full((7, 10), np.nan)
    values[6, 9], values[0, 0], values[1, 1], values[3, 4] = 2.0, 1.0, -3.0, 5.0
    good = np.isfinite(values)
    good[3, 4] = False
    image, masked = mapviews.map_image(values, good, 3, wcs)
    expected = np.full((3, 4), np.nan)
    expected[2, 3], expected[0, 0], expected[1, 1] = 2.0, -3.0, 5.0
    np.testing.assert_array_equal(image, expected[::-1])
    assert np.argwhere(masked[::-1]).tolist() == [[1, 1]]


def test_every_pixel_is_in_its_bin(rng):
    """Bins of the histogram hold what numpy's do, their lower edges and what lies beyond the ends included."""
    edges = np.arange(-8.0, 8.01, 0.25)
    values = np.concatenate([rng.normal(0, 3, 200_000), edges, [-50.0, 50.0]]).astype("f4")
    expected = np.histogram(np.clip(values, -8, np.nextafter(np.float32(8), np.float32(0))), edges)[0]
    np.testing.assert_array_equal(mapviews.count_in_bins(np.append(values, np.float32(np.nan))), expected)
    assert mapviews.count_in_bins(np.empty(0, "f4")).sum() == 0
