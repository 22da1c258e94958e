"""Boxes on the sky and the maps they cut: across RA 0, at the seam, near poles, on any projection, and off the map."""

import numpy as np
import pytest
import test_geometry

from sotrplib import boxes, geometry

BOX = {"ra_min_deg": 9.0, "ra_max_deg": 11.0, "dec_min_deg": -6.0, "dec_max_deg": -5.0}


def test_box_of_a_map_holds_exactly_its_pixels():
    """The box around a map across RA 0 ends at the rims of its outer pixels, and a margin is one of true angles."""
    shape, wcs = geometry.make_car(0.6, -30.0, 5.0, 3.0, 0.5)
    box = boxes.outline(shape, wcs)
    assert box["ra_min_deg"] > box["ra_max_deg"]
    width = (box["ra_max_deg"] - box["ra_min_deg"]) % 360
    assert width == pytest.approx(shape[1] / 120, abs=1e-9)
    assert box["dec_max_deg"] - box["dec_min_deg"] == pytest.approx(shape[0] / 120, abs=1e-9)
    wider = boxes.widen(box, 60.0)
    sides = (wider["ra_max_deg"] - wider["ra_min_deg"]) % 360 - width
    assert sides == pytest.approx(2 / np.cos(np.radians(box["dec_min_deg"] - 1)), abs=1e-9)


def test_box_cuts_the_stated_sky():
    """Every corner of the box plus margin is on the cut, within a pixel of its border."""
    shape, wcs = geometry.make_car(10.0, -5.0, 6.0, 4.0, 1.0)
    window = boxes.find_slices(shape, wcs, BOX, margin_arcmin=10)
    cut = geometry.slice_wcs(wcs, window)
    ra, dec = geometry.pix2sky(cut, [0, cut.array_shape[0] - 1], [cut.array_shape[1] - 1, 0])
    np.testing.assert_allclose(dec, [-6 - 1 / 6, -5 + 1 / 6], atol=1 / 60)
    side = 1 / 6 / np.cos(np.radians(6 + 1 / 6))
    np.testing.assert_allclose(ra, [9 - side, 11 + side], atol=1 / 60)


def test_margin_of_a_box_is_a_distance_on_the_sky():
    """At dec -75 a margin of 30 arcmin reaches 30 arcmin to each side, not 30 arcmin of RA."""
    shape, wcs = geometry.make_car(10.0, -75.0, 40.0, 4.0, 2.0)
    box = {"ra_min_deg": 9.0, "ra_max_deg": 11.0, "dec_min_deg": -75.5, "dec_max_deg": -74.5}
    cut = geometry.slice_wcs(wcs, boxes.find_slices(shape, wcs, box, margin_arcmin=30))
    west = geometry.pix2sky(cut, cut.array_shape[0] / 2, cut.array_shape[1] - 0.5)
    assert geometry.separation_arcsec(9.0, west[1], *west) >= 30 * 60


def test_box_across_ra_zero():
    """A box with ra_min > ra_max crosses RA 0, whatever the map's own wrap."""
    shape, wcs = geometry.make_car(0.5, 0.0, 6.0, 4.0, 1.0)
    box = {"ra_min_deg": 359.0, "ra_max_deg": 1.0, "dec_min_deg": -1.0, "dec_max_deg": 1.0}
    cut = geometry.slice_wcs(wcs, boxes.find_slices(shape, wcs, box))
    assert cut.array_shape == (121, 121)
    assert geometry.pix2sky(cut, 60, 60) == (pytest.approx(0, abs=1e-9), pytest.approx(0, abs=1e-9))


def test_box_over_the_seam_of_the_sky_takes_all_columns():
    """On a full-sky map a box over its RA seam keeps both ends; elsewhere it cuts."""
    from pixell import enmap

    shape, wcs = enmap.fullsky_geometry(res=np.radians(1.0))
    box = {"ra_min_deg": 175.0, "ra_max_deg": 185.0, "dec_min_deg": -1.0, "dec_max_deg": 1.0}
    assert boxes.find_slices(shape, wcs, box)[1] == slice(0, 360)
    box = {**box, "ra_min_deg": 355.0, "ra_max_deg": 5.0}
    columns = boxes.find_slices(shape, wcs, box)[1]
    assert columns.stop - columns.start in (11, 12)


@pytest.mark.parametrize("name", ["tan", "sin", "tan_pole"])
def test_box_on_other_projections_holds_all_of_the_box(name, rng):
    """Every position of the box that is on the image is on the cut."""
    wcs = test_geometry.make_maps()[name]
    shape = wcs.array_shape
    ra0, dec0 = wcs.wcs.crval
    box = {"ra_min_deg": ra0 - 0.5, "ra_max_deg": ra0 + 0.4, "dec_min_deg": dec0 - 0.6, "dec_max_deg": dec0 - 0.1}
    window = boxes.find_slices(shape, wcs, box)
    y, x = geometry.sky2pix(wcs, rng.uniform(ra0 - 0.5, ra0 + 0.4, 500), rng.uniform(dec0 - 0.6, dec0 - 0.1, 500))
    assert np.all((y > window[0].start - 0.5) & (y < window[0].stop - 0.5))
    assert np.all((x > window[1].start - 0.5) & (x < window[1].stop - 0.5))
    assert window[0].stop - window[0].start < 100


@pytest.mark.parametrize("name", ["car", "tan"])
def test_box_off_the_map_is_an_error(name):
    """A box that misses the map is refused with both places named, also when its RA is right."""
    wcs = test_geometry.make_maps()[name]
    for box in ({**BOX, "ra_min_deg": 100.0, "ra_max_deg": 110.0}, {**BOX, "dec_min_deg": 50.0, "dec_max_deg": 51.0}):
        with pytest.raises(ValueError, match="does not touch the map of .* pixels around RA"):
            boxes.find_slices(wcs.array_shape, wcs, box)


def test_box_upside_down_is_an_error():
    """dec_min above dec_max is no box."""
    wcs = test_geometry.make_maps()["car"]
    with pytest.raises(ValueError, match="does not touch"):
        boxes.find_slices(wcs.array_shape, wcs, {**BOX, "dec_min_deg": -5.0, "dec_max_deg": -6.0})
