"""Maps put on other grids, against the sources and the noise that were put into them."""

import dataclasses

import numpy as np
import pytest
from members import cut, make_map

from sotrplib import geometry, maps, reading, resampling, subtraction
from sotrplib import template as templates
from sotrplib.resampling import Grid

SHAPE = (192, 256)


def grid_of(sky_map):
    return Grid(sky_map.rho.shape, sky_map.wcs)


def observed(sky_map):
    return sky_map.kappa > 0


def positions(shape=SHAPE, step=32):
    """Positions (y, x) on a loose grid, at all parts of a pixel."""
    y, x = np.stack(np.meshgrid(*(np.arange(step, n - step / 2, step) for n in shape), indexing="ij")).reshape(2, -1)
    return y + 0.37 * np.arange(y.size) % 1, x + 0.61 * np.arange(x.size) % 1


def sources_on(sky_map, flux_mjy):
    y, x = positions(sky_map.rho.shape)
    ra, dec = geometry.pix2sky(sky_map.wcs, y, x)
    return ra, dec, np.full(y.size, flux_mjy)


def read(sky_map, ra, dec):
    """s over the root of kappa, the flux of a source alone, and kappa at sky positions."""
    y, x = geometry.sky2pix(sky_map.wcs, ra, dec, sky_map.rho.shape)
    s, kappa = reading.read_at(sky_map.rho, sky_map.kappa, y, x, sky_map.template)
    return s / np.sqrt(kappa), kappa


def as_map(layer, grid, template):
    """Layer as a map on the whole grid."""
    images = {name: np.zeros(grid.shape, "f4") for name in ("rho", "kappa")}
    for name, image in images.items():
        image[layer.rows, layer.columns] = getattr(layer, name)
    info = maps.MapInfo("test_a1_f090_1", "test", "a1", "f090", 90.0, 0.0)
    mask = np.zeros(grid.shape, "u1")
    return maps.SkyMap(**images, time=None, mask=mask, wcs=grid.wcs, info=info, template=template)


@pytest.mark.parametrize("ra0", [10.0, 0.0])
def test_pieces_come_back_to_their_pixels(rng, ra0):
    """Two overlapping pieces of a map span its grid, across RA 0 too, and lie on it pixel for pixel."""
    whole = make_map(rng, ([], [], []), ra0_deg=ra0)
    pieces = [cut(whole, (0, 150), (0, 180)), cut(whole, (40, 192), (100, 256))]
    grid = resampling.union_grid([grid_of(piece) for piece in pieces])
    assert grid.shape == SHAPE
    np.testing.assert_allclose(geometry.pix2sky(grid.wcs, 5, 250), geometry.pix2sky(whole.wcs, 5, 250))
    for piece, window in zip(pieces, (np.s_[0:150, 0:180], np.s_[40:192, 100:256]), strict=True):
        layer = resampling.resample(piece, grid, observed(piece))
        found = as_map(layer, grid, piece.template)
        np.testing.assert_array_equal(found.rho[window], whole.rho[window])
        assert np.count_nonzero(found.kappa) == piece.kappa.size


def test_a_map_over_the_seam_of_a_full_circle_is_split(rng):
    """On a grid of the whole circle whose seam is at RA 180 a map around it lands at both ends, pixel for pixel."""
    sky = make_map(rng, ([], [], []), ra0_deg=180.0)
    shape, wcs = geometry.make_car(0.0, 0.0, 360.0, 2.0, 0.5)
    grid = Grid(shape, wcs)
    layer = resampling.resample(sky, grid, observed(sky))
    found = as_map(layer, grid, sky.template)
    assert np.count_nonzero(found.kappa) == sky.kappa.size
    ra, dec = geometry.pix2sky(sky.wcs, np.array([10, 80, 190]), np.array([3, 127, 250]))
    y, x = (np.rint(p).astype(int) for p in geometry.sky2pix(wcs, ra, dec, shape))
    np.testing.assert_array_equal(found.rho[y, x], sky.rho[[10, 80, 190], [3, 127, 250]])


@pytest.mark.parametrize("offset", [(7.3, -11.9), (0.0, 15.0), (-95.0, 40.0)])
def test_moved_map_has_the_true_fluxes_at_the_true_places(rng, offset):
    """A map off by a constant angle, moved back: fluxes to 0.1 %, kappa to 0.1 %, SNR of unit variance."""
    true = sources_on(make_map(rng, ([], [], [])), 5000.0)
    seen = make_map(rng, true, offset=offset, noise=0.0)
    layer = resampling.resample(seen, grid_of(seen), observed(seen), lambda ra, dec: offset)
    moved = as_map(layer, grid_of(seen), seen.template)
    s, kappa = read(moved, *true[:2])
    np.testing.assert_allclose(s, read(seen, *geometry.offset_position(*true[:2], *offset))[0], rtol=1e-3)
    np.testing.assert_allclose(kappa, 0.04, rtol=1e-3)
    noise = make_map(rng, ([], [], []))
    moved = resampling.resample(noise, grid_of(seen), observed(noise), lambda ra, dec: offset)
    s = (moved.rho / np.sqrt(np.where(moved.kappa > 0, moved.kappa, np.nan)))[20:-20, 20:-20]
    assert np.nanstd(s) == pytest.approx(np.std(noise.rho[20:-20, 20:-20] * 5), rel=0.01)


@pytest.mark.parametrize(("step", "loss"), [(0.5, 1e-3), (0.75, 3e-3)])
def test_another_pixel_size_keeps_flux_and_error(rng, step, loss):
    """On pixels of another size and phase fluxes and kappa of sources (0.3 % at 0.75 arcmin) stay as they are."""
    true = sources_on(make_map(rng, ([], [], [])), 5000.0)
    seen = make_map(rng, true, noise=0.0)
    shape, wcs = geometry.make_car(10.013, 0.007, 1.9, 1.4, step)
    layer = resampling.resample(seen, Grid(shape, wcs), observed(seen))
    template = templates.Template(*_on_steps(seen.template, step, shape[0]))
    moved = as_map(layer, Grid(shape, wcs), template)
    y, x = geometry.sky2pix(wcs, *true[:2], shape)
    inner = (y > 12) & (y < shape[0] - 12) & (x > 12) & (x < shape[1] - 12)
    s, kappa = (values[inner] for values in read(moved, *true[:2]))
    np.testing.assert_allclose(s, read(seen, *true[:2])[0][inner], rtol=loss)
    np.testing.assert_allclose(kappa, 0.04, rtol=2 * loss)
    assert inner.sum() > 15


def _on_steps(template, step, n_rows):
    half = int(templates.half_size(template) * template.step_arcmin[0, 0] / step)
    axis = np.arange(-half, half + 1) * step
    values = templates.evaluate(template, axis[:, None], axis, 0.0)
    return values[None].astype("f4"), np.array([0, n_rows]), np.full((1, 2), step)


def test_rows_and_pixels_agree(rng, monkeypatch):
    """Row by row and pixel by pixel a moved map is the same, to 1e-4 of its noise."""
    sky = make_map(rng, ([10.0], [0.0], [300.0]))
    usable = observed(sky)
    rho, kappa = sky.rho.copy(), sky.kappa.copy()
    rho[60:70, 90:99], kappa[60:70, 90:99] = 0, 0
    sky = dataclasses.replace(sky, rho=rho, kappa=kappa)

    def move(ra, dec):
        return 12.0, -23.0

    rows = resampling.resample(sky, grid_of(sky), usable, move)
    monkeypatch.setattr(resampling, "_row_shifts", lambda *_: None)
    pixels = resampling.resample(sky, grid_of(sky), usable, move)
    np.testing.assert_array_equal(rows.kappa > 0, pixels.kappa > 0)
    np.testing.assert_allclose(rows.rho, pixels.rho, atol=1e-4 * 0.2)
    np.testing.assert_allclose(rows.kappa, pixels.kappa, rtol=1e-4)
    np.testing.assert_array_equal(rows.time, pixels.time)
    assert np.count_nonzero(rows.kappa == 0) > 90


def test_unusable_pixels_help_their_neighbours_alone(rng):
    """A pixel that may not be used is unobserved on the grid, and those beside it are as they were."""
    sky = make_map(rng, ([], [], []))
    usable = observed(sky)
    usable[50:60, 50:60] = False
    layer = resampling.resample(sky, grid_of(sky), usable, lambda ra, dec: (9.0, 9.0))
    free = resampling.resample(sky, grid_of(sky), observed(sky), lambda ra, dec: (9.0, 9.0))
    assert np.count_nonzero((layer.kappa == 0) & (free.kappa > 0)) == 100
    np.testing.assert_array_equal(layer.rho, np.where(layer.kappa > 0, free.rho, 0))


def test_maps_apart_have_no_layer(rng):
    """A map on the other side of the sky has nothing in common with the grid."""
    sky, other = make_map(rng, ([], [], [])), make_map(rng, ([], [], []), ra0_deg=200.0)
    assert resampling.resample(other, grid_of(sky), observed(other)) is None


def test_tangential_map_lands_where_it_is(rng):
    """A map in gnomonic projection gives the fluxes of its sources on a CAR grid, to 0.3 %."""
    from astropy.wcs import WCS

    true = sources_on(make_map(rng, ([], [], [])), 5000.0)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [10.0, 0.0]
    wcs.wcs.cdelt, wcs.wcs.crpix = [-0.5 / 60, 0.5 / 60], [128.3, 96.2]
    wcs.wcs.set()
    wcs.array_shape = SHAPE
    blank = make_map(rng, ([], [], []), noise=0.0)
    y, x = geometry.sky2pix(wcs, *true[:2], SHAPE)
    rho = subtraction.model_rho(SHAPE, y, x, true[2], blank.kappa, blank.template)
    seen = dataclasses.replace(blank, rho=rho, wcs=wcs)
    layer = resampling.resample(seen, grid_of(blank), observed(seen))
    moved = as_map(layer, grid_of(blank), blank.template)
    np.testing.assert_allclose(read(moved, *true[:2])[0], read(seen, *true[:2])[0], rtol=3e-3)
