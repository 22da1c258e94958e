"""Views of maps: Gaussian once the sources are gone, cutouts and coverage where the sky says."""

from dataclasses import replace

import nights
import numpy as np
import pandas as pd
import pytest
from filtered_skies import filtered_sources, make_template

from sotrplib import geometry, maps, pointing, store
from sotrplib.report import checks, coverage, looks, mapviews, stamps, viewfiles


def test_sources_of_the_map_are_taken_out_of_its_histogram(rng, tmp_path):
    """The map is Gaussian once its sources are subtracted where the pointing puts them; a failed map has no view."""
    frames, files = nights.write_night(tmp_path, rng, [*nights.TWO_MAPS, nights.map_row("i4", nights.NIGHT, "failed")])
    views = [viewfiles.read_view(view) for _, view in files]
    assert len(frames["maps"]) == len(views)
    assert [view.warnings for view in views if view] == [[], []]
    assert views[2] is None and not any(view.images for view in views[:2])


def test_view_of_one_map_is_the_same_each_time(rng, tmp_path):
    """Equal inputs give equal bytes of the view and of the sheet; what the page reads back is what was drawn."""
    nights.write_night(tmp_path, rng, nights.TWO_MAPS[:1])
    map_id = nights.TWO_MAPS[0]["map_id"]
    paths = [tmp_path / "views" / f"{map_id}.h5", tmp_path / "figures" / f"{map_id}.png"]
    before = [path.read_bytes() for path in paths]
    nights.write_view(tmp_path, nights.files_of(tmp_path, map_id))
    assert [path.read_bytes() for path in paths] == before
    shown = viewfiles.read_in_full(paths[0])
    assert [figure["svg"][:9] for figure in shown["figures"]] == ["<svg role"] * 5
    assert shown["images"].keys() == {"snr", "flux", "flux_max", "flat", "flat_min", "flat_max"}
    assert all(shown["images"][name].startswith("data:image/png;base64,iVBOR") for name in ("snr", "flux", "flat"))
    assert shown["masked"].startswith("edge ") and len(viewfiles.read_compared(paths[0])) == 3


@pytest.mark.parametrize("lost", ["masked", "nan"])
def test_map_without_a_usable_pixel_has_a_view(rng, tmp_path, lost):
    """A map that is masked everywhere, or is nothing but NaN, says so and covers nothing."""
    nights.write_night(tmp_path, rng, nights.TWO_MAPS[:1])
    files = nights.files_of(tmp_path, nights.TWO_MAPS[0]["map_id"])
    given = maps.read_sky_map(files[0])
    nothing = {"rho": np.full_like(given.rho, np.nan), "kappa": np.full_like(given.kappa, np.nan)}
    changed = nothing if lost == "nan" else {"mask": np.full_like(given.mask, 1)}
    maps.write_sky_map(files[0], replace(given, **changed), {"status": "ok", "reason": "", "flux_err_mjy": np.nan})
    path = nights.write_view(tmp_path, files)
    view = viewfiles.read_view(path)
    assert view.warnings == ["no usable pixel"] and view.extent is None and view.numbers["n_negative"] == 0
    assert viewfiles.read_in_full(path)["images"]["flux_max"] == 1.0 and viewfiles.read_thumbnail(path)


def test_of_maps_too_large_for_memory_the_middle_is_shown(rng, tmp_path):
    """The checks are those of the rows in the middle; the part of the sky and the fluxes are those of the whole map."""
    paths = nights.write_map(tmp_path, nights.TWO_MAPS[0], rng)
    whole, _ = mapviews.view_map(*paths)
    ny, nx = store.list_contents(paths[0])["maps/mask"]
    part, sheet = mapviews.view_map(*paths, most_mpix=60.5 * nx / 1e6)
    assert sheet.any() and f"shown are 60 of {ny} rows" in part["attrs"]["masked"]
    for name in ("shape_arcmin", "extent", "wcs", "factor"):
        assert part["attrs"][name] == whole["attrs"][name]
    np.testing.assert_array_equal(part["arrays"]["footprint"], whole["arrays"]["footprint"])
    pd.testing.assert_frame_equal(part["frames"]["compared"][1], whole["frames"]["compared"][1])
    assert len(part["arrays"]["images/snr"]) < len(whole["arrays"]["images/snr"])


@pytest.mark.parametrize(("ra", "dec"), [(0.1, -30.1), (0.75, -29.62), (5.0, -30.0), (180.0, 0.0)])
def test_cutout_is_that_of_the_whole_map(rng, tmp_path, ra, dec):
    """Of the file only a window is read, and the cutout is that of the map: inside, over its edge and off it."""
    path = nights.write_map(tmp_path, nights.TWO_MAPS[0], rng)[0]
    model = pointing.PointingModel(coefficients=np.array([[20.0], [-7.0]]))
    place = {"source_id": "a", "ra_deg": ra, "dec_deg": dec}
    expected, found = stamps.cut(maps.read_sky_map(path), place, model), stamps.cut_from_file(path, [place], model)["a"]
    for one, other in ((expected, found), (expected.between, found.between)):
        np.testing.assert_allclose(other.flux, one.flux, rtol=1e-5)
        np.testing.assert_allclose(other.weight, one.weight, rtol=1e-5)


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
    found = coverage.cover_sky([coverage.measure_extent(usable, 1, wcs)] * 2, [(usable, 1, wcs)] * 2)
    assert found["area_deg2"] == pytest.approx(geometry.area_deg2(shape, wcs, usable), rel=0.02)
    assert abs((found["ra0_deg"] - ra0 + 180) % 360 - 180) < 0.01
    assert np.ptp(found["x_deg"]) < 2.5
    assert set(np.unique(found["count"])) == {0, 2}


def test_coverage_of_nothing():
    """No map, or maps without a usable pixel, cover nothing."""
    shape, wcs = nights.car_wcs()
    nothing = np.zeros(shape, bool)
    assert coverage.measure_extent(nothing, 1, wcs) is None
    assert coverage.cover_sky([], []) is None
    assert coverage.cover_sky([None], [(nothing, 1, wcs)]) is None


def test_middle_of_right_ascensions():
    """The middle lies opposite the widest gap."""
    assert coverage.middle_ra([[350.0, 350.0], [10.0, 10.0]]) == pytest.approx(0, abs=1e-9)
    assert coverage.middle_ra([[350.0, 10.0]]) == pytest.approx(0, abs=1e-9)
    assert coverage.middle_ra([[130.0, 140.0], [100.0, 135.0]]) == pytest.approx(120)
    assert coverage.middle_ra([[300.0, 20.0], [10.0, 200.0]]) == pytest.approx(70)


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
    image, masked = looks.map_image(values, good, 3, wcs)
    expected = np.full((3, 4), np.nan)
    expected[2, 3], expected[0, 0], expected[1, 1] = 2.0, -3.0, 5.0
    np.testing.assert_array_equal(image, expected[::-1])
    assert np.argwhere(masked[::-1]).tolist() == [[1, 1]]


def test_every_pixel_is_in_its_bin(rng):
    """Bins of the histogram hold what numpy's do, their lower edges and what lies beyond the ends included."""
    edges = np.arange(-8.0, 8.01, 0.25)
    values = np.concatenate([rng.normal(0, 3, 200_000), edges, [-50.0, 50.0]]).astype("f4")
    expected = np.histogram(np.clip(values, -8, np.nextafter(np.float32(8), np.float32(0))), edges)[0]
    np.testing.assert_array_equal(looks.count_in_bins(np.append(values, np.float32(np.nan))), expected)
    assert looks.count_in_bins(np.empty(0, "f4")).sum() == 0
