"""Pixels and sky: against pixell, astropy coordinates, closed forms, and at the places where geometry goes wrong."""

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

from sotrplib import geometry


def zenithal(projection, ra=30.0, dec=-40.0, size=200, step=0.01):
    """WCS of a TAN or SIN image around (ra, dec)."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = [f"RA---{projection}", f"DEC--{projection}"]
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = [ra, dec], [(size + 1) / 2] * 2, [-step, step]
    wcs.wcs.set()
    wcs.array_shape = (size, size)
    return wcs


def random_sky(rng, n):
    return rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))


def make_maps():
    """One map of each kind, by name."""
    return {
        "car": geometry.make_car(10.0, -5.0, 4.0, 3.0, 1.0)[1],
        "car_over_zero": geometry.make_car(359.5, 20.0, 4.0, 3.0, 1.0)[1],
        "car_polar": geometry.make_car(10.0, 85.0, 90.0, 9.0, 2.0)[1],
        "tan": zenithal("TAN"),
        "sin": zenithal("SIN"),
        "tan_pole": zenithal("TAN", 0.0, 90.0),
    }


@pytest.mark.parametrize("name", list(make_maps()))
def test_pixels_to_sky_and_back(name, rng):
    """pix2sky and sky2pix are inverse to 1e-7 pixel, in every projection, over RA 0 and around the pole."""
    wcs = make_maps()[name]
    y, x = rng.uniform(0, 1, (2, 500)) * np.array(wcs.array_shape)[:, None] - 0.5
    ra, dec = geometry.pix2sky(wcs, y, x)
    assert np.all((ra >= 0) & (ra < 360))
    for turn in (0, 360, -360):
        np.testing.assert_allclose(geometry.sky2pix(wcs, ra + turn, dec), [y, x], atol=1e-7)


def test_car_agrees_with_pixell(rng):
    """Plain CAR gives pixell's pixels to 1e-9 and pixell's pixel areas to 1e-6."""
    from pixell import enmap

    shape, wcs = geometry.make_car(10.0, -50.0, 6.0, 4.0, 0.5)
    ra, dec = rng.uniform(7.5, 12.5, 300), rng.uniform(-51.5, -48.5, 300)
    expected = enmap.sky2pix(shape, wcs, np.radians([dec, ra]))
    np.testing.assert_allclose(geometry.sky2pix(wcs, ra, dec), expected, atol=1e-9)
    areas = enmap.pixsizemap(shape, wcs)[:, 0]
    np.testing.assert_allclose(geometry.pixel_area_sr(shape, wcs), areas, rtol=1e-6)


def test_car_agrees_with_wcslib(rng):
    """The direct formula of plain CAR is that of wcslib."""
    wcs = geometry.make_car(200.0, 30.0, 6.0, 4.0, 0.5)[1]
    assert geometry.is_plain_car(wcs)
    ra, dec = rng.uniform(197.5, 202.5, 300), rng.uniform(28.5, 31.5, 300)
    x, y = wcs.all_world2pix(ra, dec, 0)
    np.testing.assert_allclose(geometry.sky2pix(wcs, ra, dec), [y, x], atol=1e-8)


def test_rotated_car_is_left_to_wcslib():
    """A CAR map whose equator is not that of the sky is no plain CAR, and still goes to the sky and back."""
    wcs = zenithal("CAR")
    assert not geometry.is_plain_car(wcs)
    ra, dec = geometry.pix2sky(wcs, 99.5, 99.5)
    assert (ra, dec) == (pytest.approx(30), pytest.approx(-40))
    np.testing.assert_allclose(geometry.sky2pix(wcs, *geometry.pix2sky(wcs, 3.0, 150.0)), [3.0, 150.0], atol=1e-8)


def test_reference_pixel_far_outside_the_map():
    """A CAR map more than half a turn from its reference point still has its sources on it."""
    shape, wcs = geometry.make_car(200.0, 0.0, 4.0, 4.0, 1.0)
    wcs.wcs.crval, wcs.wcs.crpix = [0.0, 0.0], [wcs.wcs.crpix[0] + 200 * 60, wcs.wcs.crpix[1]]
    y, x = geometry.sky2pix(wcs, 200.0, 0.0, shape)
    assert geometry.inside(shape, y, x) and x == pytest.approx(120)
    assert geometry.pix2sky(wcs, y, x)[0] == pytest.approx(200.0)


def test_full_sky_columns_cover_every_ra():
    """Each RA falls on a pixel of a map of the whole sky, at the seam as well."""
    from pixell import enmap

    shape, wcs = enmap.fullsky_geometry(res=np.radians(1.0))
    y, x = geometry.sky2pix(wcs, np.arange(-180, 180.1, 0.25), 0.0, shape)
    assert geometry.inside(shape, y, x).all()


@pytest.mark.parametrize("projection", ["TAN", "SIN"])
def test_the_far_side_of_the_sky_is_nowhere(projection):
    """Positions behind a TAN or SIN image, and NaN, have NaN pixels, which are not inside."""
    wcs = zenithal(projection)
    y, x = geometry.sky2pix(wcs, [210.0, np.nan], [40.0, -40.0])
    assert np.isnan(y).all() and np.isnan(x).all()
    assert not geometry.inside(wcs.array_shape, y, x).any()


def test_beyond_the_pole_there_is_no_sky():
    """Rows past dec 90 of a CAR map have no position."""
    wcs = geometry.make_car(0.0, 88.0, 10.0, 4.0, 60.0)[1]
    assert np.isnan(geometry.pix2sky(wcs, 8.0, 3.0)[1])


def test_separation_agrees_with_astropy(rng):
    """The separation is astropy's to 1e-6 arcsec, from tiny to antipodal."""
    ra1, dec1 = random_sky(rng, 500)
    ra2, dec2 = random_sky(rng, 500)
    ra2[:100], dec2[:100] = ra1[:100] + 1e-7, dec1[:100]
    ra2[100:110], dec2[100:110] = ra1[100:110] + 180, -dec1[100:110]
    expected = SkyCoord(ra1, dec1, unit="deg").separation(SkyCoord(ra2, dec2, unit="deg")).arcsec
    np.testing.assert_allclose(geometry.separation_arcsec(ra1, dec1, ra2, dec2), expected, atol=1e-6)


def test_a_milliarcsecond_is_not_lost():
    """Separations of 1e-6 arcsec keep three digits."""
    assert geometry.separation_arcsec(0.0, 60.0, 0.0, 60.0 + 1e-6 / 3600) == pytest.approx(1e-6, rel=1e-3)


def test_offsets_are_great_circles(rng):
    """offset_position undoes tangent_offsets to a microarcsecond, anywhere, and the length is the separation."""
    ra0, dec0 = random_sky(rng, 500)
    ra, dec = random_sky(rng, 500)
    east, north = geometry.tangent_offsets(ra, dec, ra0, dec0)
    np.testing.assert_allclose(np.hypot(east, north), geometry.separation_arcsec(ra, dec, ra0, dec0), rtol=1e-12)
    back = geometry.offset_position(ra0, dec0, east, north)
    assert geometry.separation_arcsec(*back, ra, dec).max() < 1e-6


@pytest.mark.parametrize(("ra", "dec"), [(0.0, 0.0), (359.9999, -60.0), (120.0, 89.99), (5.0, -89.99)])
def test_small_offsets_are_arcsec_on_the_sky(ra, dec):
    """An offset of (3, -4) arcsec is 5 arcsec away, east and south, over RA 0 and next to the poles."""
    moved = geometry.offset_position(ra, dec, 3.0, -4.0)
    assert 0 <= moved[0] < 360
    assert geometry.separation_arcsec(ra, dec, *moved) == pytest.approx(5.0, rel=1e-9)
    np.testing.assert_allclose(geometry.tangent_offsets(*moved, ra, dec), [3.0, -4.0], rtol=1e-9)


def test_pixels_of_the_whole_sky_add_up():
    """The pixel areas of a full-sky CAR map add up to 4 pi, half pixels at the poles included."""
    from pixell import enmap

    for variant in ("CC", "fejer1"):
        shape, wcs = enmap.fullsky_geometry(res=np.radians(0.5), variant=variant)
        assert geometry.pixel_area_sr(shape, wcs).sum() * shape[1] == pytest.approx(4 * np.pi, rel=1e-12)
        assert np.all(geometry.pixel_scales(shape, wcs)[1] > 0)


@pytest.mark.parametrize("name", list(make_maps()))
def test_pixel_scales_are_distances_on_the_sky(name):
    """dy and dx of a row are the distances between neighbouring pixels in the middle of the map."""
    wcs = make_maps()[name]
    shape = wcs.array_shape
    dy, dx = geometry.pixel_scales(shape, wcs)
    row, column = shape[0] // 3, (shape[1] - 1) / 2
    across = [geometry.pix2sky(wcs, row, column + d) for d in (-0.5, 0.5)]
    along = [geometry.pix2sky(wcs, row + d, column) for d in (-0.5, 0.5)]
    assert geometry.separation_arcsec(*across[0], *across[1]) / 60 == pytest.approx(dx[row], rel=2e-5)
    assert geometry.separation_arcsec(*along[0], *along[1]) / 60 == pytest.approx(dy[row], rel=1e-6)
    np.testing.assert_allclose(geometry.pixel_area_sr(shape, wcs), dy * dx * geometry.DEG**2 / 3600, rtol=1e-5)


def test_area_counts_good_pixels():
    """The area of half of a map at dec -60 is half of width x (sin - sin)."""
    shape, wcs = geometry.make_car(10.0, -60.0, 4.0, 2.0, 1.0)
    good = np.zeros(shape, bool)
    good[:, ::2] = True
    half = 1 / 120
    strip = np.sin(np.radians(-59 - half)) - np.sin(np.radians(-61 - half))
    assert geometry.area_deg2(shape, wcs, good) == pytest.approx(2.0 * np.degrees(strip), rel=1e-9)


@pytest.mark.parametrize("name", list(make_maps()))
def test_slices_keep_the_sky(name):
    """A cut map has the same sky under the same pixels, and knows its shape; the whole WCS is left alone."""
    wcs = make_maps()[name]
    cut = geometry.slice_wcs(wcs, (slice(10, 60), slice(20, 90)))
    assert cut.array_shape == (50, 70) and wcs.array_shape != (50, 70)
    np.testing.assert_allclose(geometry.pix2sky(cut, 3.5, 7.0), geometry.pix2sky(wcs, 13.5, 27.0), rtol=1e-12)


@pytest.mark.parametrize("name", list(make_maps()))
def test_wcs_survives_as_text(name):
    """A WCS written as text and read back moves no pixel by 1e-7 and knows the shape."""
    wcs = make_maps()[name]
    back = geometry.text_to_wcs(geometry.wcs_to_text(wcs))
    assert back.array_shape == wcs.array_shape
    sky = geometry.pix2sky(wcs, 11.0, 45.0)
    np.testing.assert_allclose(geometry.sky2pix(back, *sky), [11.0, 45.0], atol=1e-7)


def test_text_of_car_needs_no_astropy():
    """The text of a plain CAR map gives the numbers that astropy reads from it, cut or whole, and its text again."""
    text = geometry.wcs_to_text(make_maps()["car_over_zero"])
    ours, whole = geometry.text_to_wcs(text), geometry.header_to_wcs(fits.Header.fromstring(text, sep="\n"))
    window = slice(10, 60), slice(20, 90)
    assert isinstance(ours, geometry.CarWCS) and geometry.is_plain_car(ours)
    for one, other in ((ours, whole), *[[geometry.slice_wcs(wcs, window) for wcs in (ours, whole)]]):
        np.testing.assert_array_equal(
            geometry.pix2sky(one, 3.5, [7.0, 41.25]), geometry.pix2sky(other, 3.5, [7, 41.25])
        )
        assert geometry.wcs_to_text(one) == geometry.wcs_to_text(other) and one.array_shape == other.array_shape
        assert one.has_celestial and one.to_header() == other.to_header()


@pytest.mark.parametrize(
    "change", [("'ICRS'", "'FK5'"), ("LATPOLE =                 90.0", "LATPOLE =                 80.0")]
)
def test_other_text_is_left_to_astropy(change):
    """A text with anything that a plain CAR map of ours does not have is read by astropy."""
    text = geometry.wcs_to_text(make_maps()["car"])
    assert change[0] in text and isinstance(geometry.text_to_wcs(text.replace(*change)), WCS)


def test_make_car_follows_the_convention_of_depth1_maps():
    """CRVAL2 is 0, pixel centres lie on multiples of the resolution, RA grows to the left."""
    shape, wcs = geometry.make_car(6.9, -10.5, 6.0, 4.0, 0.5)
    assert shape == (480, 720) and wcs.array_shape == shape
    assert list(wcs.wcs.crpix) == [361.0, 1501.0] and list(wcs.wcs.crval) == [6.9, 0.0]
    ra, dec = geometry.pix2sky(wcs, [0, 0], [0, 1])
    assert dec[0] == pytest.approx(-12.5) and ra[0] > ra[1]


def test_make_car_stays_on_the_sky():
    """A map that would pass the pole is refused."""
    with pytest.raises(ValueError, match="reaches beyond a pole"):
        geometry.make_car(0.0, 89.0, 4.0, 4.0, 1.0)


def header_of(**cards):
    base = {"NAXIS": 3, "NAXIS1": 20, "NAXIS2": 10, "NAXIS3": 3, "CTYPE1": "RA---CAR", "CTYPE2": "DEC--CAR"}
    base |= {"CRPIX1": 1.0, "CRPIX2": 1.0, "CDELT1": -0.1, "CDELT2": 0.1, "CRVAL1": 5.0, "CRVAL2": 0.0}
    return fits.Header(list((base | cards).items()))


def test_further_axes_of_a_header_are_dropped():
    """A cube with a Stokes axis, or an absurd number of axes, has the sky of its first two."""
    for cards in ({"CTYPE3": "STOKES", "CRVAL3": 1.0, "CRPIX3": 1.0, "CDELT3": 1.0}, {"WCSAXES": 30047541}):
        wcs = geometry.header_to_wcs(header_of(**cards))
        assert wcs.naxis == 2 and wcs.array_shape == (10, 20)
        assert geometry.pix2sky(wcs, 0, 0) == (pytest.approx(5.0), pytest.approx(0.0))


@pytest.mark.parametrize(
    ("cards", "message"),
    [
        ({"CTYPE1": "", "CTYPE2": ""}, "expected longitude, latitude"),
        ({"CTYPE1": "DEC--CAR", "CTYPE2": "RA---CAR"}, "expected longitude, latitude"),
        ({"CTYPE1": "FREQ"}, "Unmatched celestial axes"),
        ({"CDELT1": 0.0}, "singular"),
    ],
)
def test_headers_without_a_sky_are_refused(cards, message):
    """Axes that are not longitude, latitude in this order, or a singular matrix, are an error."""
    with pytest.raises(ValueError, match=message):
        geometry.header_to_wcs(header_of(**cards))
