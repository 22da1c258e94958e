"""Masks against brute-force distances on the sphere, tapers, and masks in files."""

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

from sotrplib import geometry, images, maps, maskfiles, masks, tapers


def tan_map(size=80, ra=20.0, dec=-50.0, step=0.02):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cdelt = ["RA---TAN", "DEC--TAN"], [-step, step]
    wcs.wcs.crval, wcs.wcs.crpix = [ra, dec], [(size + 1) / 2] * 2
    wcs.wcs.set()
    wcs.array_shape = (size, size)
    return wcs


def full_turn():
    """All of RA between dec 50 and 70, in pixels of 1 degree, the seam at RA 180."""
    return geometry.make_car(0.0, 60.0, 360.0, 20.0, 60.0)[1]


MAPS = {
    "car": geometry.make_car(359.9, -60.0, 3.0, 2.0, 2.0)[1],
    "tan": tan_map(),
    "full_turn": full_turn(),
}


def ragged(shape, rng):
    """An observed area with ragged edges and a few holes."""
    y, x = np.mgrid[: shape[0], : shape[1]] / np.array(shape)[:, None, None] - 0.5
    observed = np.hypot(y, x) < 0.46 + 0.02 * rng.standard_normal(shape)
    for _ in range(3):
        row, column = rng.integers(0, shape[0] - 4), rng.integers(0, shape[1] - 6)
        observed[row : row + 4, column : column + 6] = False
    return observed


def all_vectors(wcs, y, x):
    return geometry.unit_vectors(*geometry.pix2sky(wcs, y, x))


def brute_distance(bad, wcs):
    """Distance [arcmin] of every pixel to the nearest bad one, or to the ring of pixels around the map."""
    shape, turn = bad.shape, MAPS["full_turn"] is wcs
    y, x = np.nonzero(np.pad(bad, 1, constant_values=True))
    keep = ~((x == 0) | (x == shape[1] + 1)) if turn else np.full(len(x), True)
    rim = all_vectors(wcs, y[keep] - 1, x[keep] - 1)
    rim = rim[np.isfinite(rim).all(axis=1)]
    pixels = all_vectors(wcs, *(grid.ravel() for grid in np.indices(shape)))
    chord = np.sqrt(np.maximum(2 - 2 * (pixels @ rim.T).max(axis=1), 0))
    return (np.degrees(2 * np.arcsin(chord / 2)) * 60).reshape(shape)


@pytest.mark.parametrize("name", list(MAPS))
def test_distance_is_the_distance_on_the_sphere(name, rng):
    """The distance to the nearest bad pixel is that of brute force to 1e-3 arcmin, 0 on bad pixels and off the map."""
    wcs = MAPS[name]
    bad = ~ragged(wcs.array_shape, rng)
    y, x = np.indices(bad.shape)
    found = masks.distance_to_bad_arcmin(bad, wcs, y.ravel(), x.ravel()).reshape(bad.shape)
    np.testing.assert_allclose(found, np.where(bad, 0, brute_distance(bad, wcs)), atol=2e-3)
    assert list(masks.distance_to_bad_arcmin(bad, wcs, [-5.0, np.nan], [3.0, 3.0])) == [0, 0]


@pytest.mark.parametrize(("name", "distance"), [("car", 9.0), ("car", 2.5), ("tan", 6.0), ("full_turn", 130.0)])
def test_edge_mask_is_all_within_the_distance(name, distance, rng):
    """Masked is what lies nearer to unobserved sky than the distance, to a tenth of a pixel."""
    wcs = MAPS[name]
    observed = ragged(wcs.array_shape, rng)
    mask, truth = masks.edge_mask(observed, wcs, distance), brute_distance(~observed, wcs)
    slack = 0.1 * geometry.pixel_scales(observed.shape, wcs)[0][0]
    assert mask[observed & (truth < distance - slack)].all()
    assert not mask[truth > distance + slack].any() and not mask[~observed].any()
    assert mask.any() and mask.sum() < observed.sum()


def test_edge_mask_can_spare_holes():
    """Without holes only the outside masks; a distance of 0 masks nothing; a full map is masked at its border."""
    wcs = MAPS["tan"]
    observed = np.ones(wcs.array_shape, bool)
    observed[40, 40] = False
    around = np.s_[37:44, 37:44]
    assert masks.edge_mask(observed, wcs, 3.0)[around].any()
    assert not masks.edge_mask(observed, wcs, 3.0, holes=False)[around].any()
    assert masks.edge_mask(observed, wcs, 3.0, holes=False)[:2].all()
    assert not masks.edge_mask(observed, wcs, 0.0).any()


def test_a_map_around_the_sky_has_no_edge_at_its_seam():
    """A hole at the last column masks the first ones; without it the seam is as good as any column."""
    wcs = full_turn()
    observed = np.ones(wcs.array_shape, bool)
    assert not masks.edge_mask(observed, wcs, 130.0)[8:-8].any()
    observed[10, -1] = False
    mask = masks.edge_mask(observed, wcs, 130.0)
    assert mask[10, 0] and mask[10, -2] and not mask[10, 180]
    observed[10, -1], observed[10, -3] = True, False
    assert masks.edge_mask(observed, wcs, 130.0)[10, 0]
    assert masks.distance_to_bad_arcmin(~observed, wcs, [10], [1])[0] == pytest.approx(
        4 * 60 * np.cos(np.radians(60)), rel=0.01
    )


def test_no_bad_pixel_at_all_is_infinitely_far():
    """On a map of the whole sky without a bad pixel the distance is infinite."""
    from pixell import enmap

    shape, wcs = enmap.fullsky_geometry(res=np.radians(5.0))
    assert masks.distance_to_bad_arcmin(np.zeros(shape, bool), wcs, [18], [20])[0] == np.inf


def test_holes_are_enclosed_by_data():
    """Unobserved pixels that reach the border, over a corner as well, are outside; the others are holes."""
    observed = np.ones((12, 12), bool)
    observed[:3] = False
    observed[3, 3] = observed[4, 4] = False
    observed[8, 8] = observed[8, 9] = False
    expected = np.zeros((12, 12), bool)
    expected[8, 8:10] = True
    np.testing.assert_array_equal(masks.find_holes(observed), expected)


def test_unobserved_is_without_positive_weight():
    """kappa of 0, below 0 and NaN is unobserved."""
    assert list(masks.unobserved_mask(np.array([1.0, 0.0, -1.0, np.nan]))) == [False, True, True, True]


def test_clean_kappa_drops_what_is_far_below_the_median(rng):
    """Pixels below the fraction of the median become 0 and no other changes; unobserved pixels do not count."""
    kappa = rng.uniform(0.9, 1.1, (1500, 1400)).astype(np.float32)
    kappa[:700] = 0
    kappa[-5:, :5] = 0.04
    cleaned = masks.clean_kappa(kappa, 0.05)
    assert not cleaned[-5:, :5].any() and cleaned.dtype == np.float32
    np.testing.assert_array_equal(cleaned[:-5], kappa[:-5])
    assert kappa[-1, 0] > 0, "the input is left alone"
    assert not masks.clean_kappa(np.zeros((3, 3)), 0.05).any()


@pytest.mark.parametrize(("width", "aspect", "error"), [(6, 1.0, 1e-6), (6, 0.5, 1e-6), (40, 0.6, 0.12)])
def test_taper_falls_from_one_to_zero(width, aspect, error, rng):
    """A cosine of the distance to the edge: exact for narrow tapers, rough for wide ones; 0 where unobserved."""
    from scipy.ndimage import distance_transform_edt

    observed = ragged((300, 500), rng)
    distance = distance_transform_edt(np.pad(observed, 1), sampling=(1, aspect))[1:-1, 1:-1]
    expected = 0.5 - 0.5 * np.cos(np.pi * np.clip(distance / width, 0, 1))
    found = tapers.taper(observed, width, aspect)
    assert found.dtype == np.float32 and not found[~observed].any()
    assert np.abs(found - expected).max() <= error and np.abs(found - expected).mean() <= error / 10 + 1e-6


@pytest.mark.parametrize("name", list(MAPS))
def test_discs_are_what_lies_within_their_radius(name, rng):
    """Discs on and off the map, each with its radius, mask exactly the pixels within it, over RA 0 and the seam."""
    wcs = MAPS[name]
    shape = wcs.array_shape
    y, x = rng.uniform(-0.2, 1.2, (2, 25)) * np.array(shape)[:, None]
    ra, dec = geometry.pix2sky(wcs, y, x)
    size = geometry.pixel_scales(shape, wcs)[0][0]
    radius = rng.uniform(0, 8, 25) * size
    mask = masks.disc_mask(shape, wcs, ra, dec, radius)
    sky = geometry.pix2sky(wcs, *np.indices(shape))
    expected = np.zeros(shape, bool)
    for one in np.transpose([ra, dec, radius]):
        expected |= geometry.separation_arcsec(*sky, *one[:2]) <= one[2] * 60
    np.testing.assert_array_equal(mask, expected)
    assert 0 < mask.sum() < mask.size


def test_disc_over_the_pole():
    """A disc over the pole masks all RA around it."""
    shape, wcs = geometry.make_car(0.0, 80.0, 360.0, 20.0, 60.0)
    mask = masks.disc_mask(shape, wcs, 30.0, 89.0, 300.0)
    sky = geometry.pix2sky(wcs, *np.indices(shape))
    np.testing.assert_array_equal(mask, geometry.separation_arcsec(*sky, 30.0, 89.0) <= 300 * 60)
    assert mask[-1].all()


def test_disc_over_the_seam():
    """A disc at the seam of a map of the whole sky masks both of its ends."""
    wcs = full_turn()
    for ra in (179.9, 180.1):
        mask = masks.disc_mask(wcs.array_shape, wcs, ra, 60.0, 100.0)
        assert mask[10, 0] and mask[10, 1] and mask[10, -1] and mask[10, -2] and not mask[10, 10:-10].any()


def test_no_disc_masks_nothing():
    """An empty list, a disc on the other side of the sky, and a NaN position mask nothing."""
    wcs = MAPS["tan"]
    assert not masks.disc_mask(wcs.array_shape, wcs, [], [], 5.0).any()
    assert not masks.disc_mask(wcs.array_shape, wcs, [200.0, np.nan], [50.0, -50.0], 5.0).any()


def strip_mask(system):
    """A FITS mask of the whole sky, 0 within 10 degrees of the plane of its own coordinates."""
    prefixes = {"RA": ("RA---CAR", "DEC--CAR"), "GLON": ("GLON-CAR", "GLAT-CAR"), "AIT": ("GLON-AIT", "GLAT-AIT")}
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = prefixes[system]
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = [0.0, 0.0], [180.5, 90.5], [-1.0, 1.0]
    y = np.arange(180)[:, None] - 89.5
    values = np.broadcast_to(np.abs(y) > 10, (180, 360)).astype(np.float32)
    if system == "AIT":
        latitude = wcs.wcs_pix2world(*(g.ravel() for g in np.meshgrid(np.arange(360), np.arange(180))), 0)[1]
        values = np.where(np.abs(latitude) > 10, 1, 0).reshape(180, 360).astype(np.float32)
    return fits.PrimaryHDU(values, wcs.to_header())


@pytest.mark.parametrize("name", list(MAPS))
@pytest.mark.parametrize("system", ["RA", "GLON", "AIT"])
def test_mask_of_a_file_in_any_projection(tmp_path, name, system):
    """Masks in RA, Dec and Galactic coordinates, CAR and Aitoff, fall where they belong to a pixel of the mask."""
    strip_mask(system).writeto(tmp_path / "mask.fits")
    wcs = MAPS[name]
    mask = maskfiles.read_mask(tmp_path / "mask.fits", wcs.array_shape, wcs)
    ra, dec = geometry.pix2sky(wcs, *np.indices(wcs.array_shape))
    latitude = dec if system == "RA" else SkyCoord(ra, dec, unit="deg").galactic.b.deg
    assert mask[np.abs(latitude) < 8.5].all() and not mask[np.abs(latitude) > 11.5].any()


def test_mask_of_a_file_takes_the_nearest_pixel(tmp_path):
    """A mask on the map's own pixels comes back as it is: 0 and NaN masked; or 1, if told; outside it nothing is."""
    wcs = MAPS["car"]
    values = np.ones(wcs.array_shape, np.float32)
    values[10:20, 30:50] = 0
    values[0, 10] = np.nan
    window = (slice(0, 40), slice(5, 60))
    fits.writeto(tmp_path / "mask.fits", values[window], geometry.slice_wcs(wcs, window).to_header())
    values[0, 10] = 0
    expected = np.zeros(wcs.array_shape, bool)
    expected[window] = values[window] == 0
    np.testing.assert_array_equal(maskfiles.read_mask(tmp_path / "mask.fits", wcs.array_shape, wcs), expected)
    inverse = maskfiles.read_mask(tmp_path / "mask.fits", wcs.array_shape, wcs, masked=1)
    expected[window] = values[window] == 1
    expected[0, 10] = True
    np.testing.assert_array_equal(inverse, expected)


@pytest.mark.parametrize("name", ["tan", "full_turn"])
def test_mask_of_a_file_on_the_pixels_of_other_maps(tmp_path, name):
    """Without the short cut for CAR, and over the seam, a mask on the map's own pixels comes back as it is."""
    wcs = MAPS[name]
    values = np.random.default_rng(1).integers(0, 2, wcs.array_shape).astype(np.uint8)
    fits.writeto(tmp_path / "mask.fits", values, wcs.to_header())
    np.testing.assert_array_equal(maskfiles.read_mask(tmp_path / "mask.fits", values.shape, wcs), values == 0)


def test_mask_of_a_file_that_is_none(tmp_path):
    """A missing file, a file without a sky and a wrong convention are refused."""
    wcs = MAPS["tan"]
    with pytest.raises(maps.MapError, match="mask.fits: no such file"):
        maskfiles.read_mask(tmp_path / "mask.fits", wcs.array_shape, wcs)
    fits.writeto(tmp_path / "mask.fits", np.ones((5, 5)))
    with pytest.raises(maps.MapError, match="mask.fits: CTYPE1, CTYPE2 are"):
        maskfiles.read_mask(tmp_path / "mask.fits", wcs.array_shape, wcs)
    with pytest.raises(maps.MapError, match="masked is 2; expected 0 or 1"):
        maskfiles.read_mask(tmp_path / "mask.fits", wcs.array_shape, wcs, masked=2)


@pytest.mark.parametrize(("reference", "dropped"), [("median", 10), ("percentile", 60), ("max", 99)])
def test_clean_kappa_has_its_reference(reference, dropped):
    """Of weights of 1, 10, 100 and 1000 those below half the median, the 95th percentile or the maximum go."""
    kappa = np.repeat([1.0, 10.0, 100.0, 1000.0], [10, 50, 39, 1]).reshape(10, 10)
    assert np.sum(masks.clean_kappa(kappa, 0.5, reference=reference) == 0) == dropped


def test_apodisation_has_a_width_for_edges_and_one_for_holes():
    """Weights are 1/2 at half the width from the border of the map and from a hole, 1 beyond, and 0 in the hole."""
    observed = np.ones((200, 300), bool)
    observed[95:105, 145:155] = False
    weight = tapers.apodisation(observed, (0.5, 0.5), edge_arcmin=20.0, hole_arcmin=10.0)
    assert not weight[~observed].any()
    assert weight[100, 20] == pytest.approx(0.5, abs=0.15) and weight[100, 60] == 1
    assert weight[100, 165] == pytest.approx(0.5, abs=0.15) and weight[100, 190] == 1
    only_holes = tapers.apodisation(observed, (0.5, 0.5), hole_arcmin=10.0)
    assert only_holes[0].min() == 1 and only_holes[100, 165] == pytest.approx(0.5, abs=0.1)
    assert tapers.apodisation(observed, (0.5, 0.5)) is None


def test_mask_of_a_file_is_read_in_the_rows_of_the_map(tmp_path, monkeypatch):
    """Of a mask of the sky only the declinations of the map are read; a map beside the mask has none of it."""
    wcs = geometry.make_car(0.0, 0.0, 360.0, 120.0, 30.0)[1]
    values = np.random.default_rng(4).integers(0, 2, wcs.array_shape).astype("f4")
    fits.writeto(tmp_path / "mask.fits", values, wcs.to_header())
    read, windows = images.read_image, []
    monkeypatch.setattr(images, "read_image", lambda path, window: windows.append(window) or read(path, window))
    shape, own = geometry.make_car(40.0, 12.0, 20.0, 5.0, 30.0)
    found = maskfiles.read_mask(tmp_path / "mask.fits", shape, own)
    y, x = np.rint(geometry.sky2pix(wcs, *geometry.pix2sky(own, *np.indices(shape)))).astype(int)
    np.testing.assert_array_equal(found, values[y, x] == 0)
    assert windows[0][0] == slice(y.min(), y.max() + 1)
    shape, own = geometry.make_car(40.0, 75.0, 20.0, 5.0, 30.0)
    assert not maskfiles.read_mask(tmp_path / "mask.fits", shape, own).any()


def test_weights_are_dropped_below_a_level_of_elsewhere():
    """A level from a sample gives the map that the sample's own map gives, and leaves one alone that is above it."""
    weight = np.array([[1.0, 10.0, 10.0, 0.0, 0.4]])
    level = masks.lowest_kappa(weight[weight > 0], 0.1)
    np.testing.assert_array_equal(masks.drop_below(weight, level), masks.clean_kappa(weight, 0.1))
    assert masks.drop_below(weight, 0.4) is weight
    assert masks.lowest_kappa(np.zeros(0), 0.1) == 0
