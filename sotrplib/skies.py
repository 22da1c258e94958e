"""Skies and scans drawn from a seed: Gaussian fields of a stated spectrum, point sources, depth and time of a scan.

Each piece is exact enough to serve as the truth of a test: a field is drawn from the very spectrum its caller
gives, and a painted source is the beam at the true distance on the sphere, averaged over every pixel.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from scipy import fft

from sotrplib import beams, geometry, units

DRIFT_S_PER_DEG = 240.0  # the sky turns 15 degrees an hour
_START_S = 60.0  # time of the first pixel of a map: 0 means unobserved in a time map
_ELL_FLOOR = 100.0  # the largest scales are lost in map making: spectra are flat below
_CMB = """2 1000, 30 1050, 100 2200, 160 4400, 220 5750, 290 4000, 350 2300, 410 1700, 470 2150, 537 2570, 610 2150,
675 1770, 750 2200, 810 2530, 900 1900, 1020 1020, 1125 1230, 1220 900, 1310 730, 1440 800, 1550 560, 1670 380,
1775 375, 2000 225, 2250 130, 2500 76, 3000 26, 4000 6.5, 6000 1"""
_CMB_ELL, _CMB_D_UK2 = np.array([knot.split() for knot in _CMB.split(",")], float).T
_NODES = np.sqrt(0.15) * np.array([-1, 0, 1])  # Gauss-Legendre nodes and weights on a pixel of width 1
_WEIGHTS = np.array([5, 8, 5]) / 18
_LOST = 1e-5  # part of the solid angle beyond the radius at which a painted beam ends
_CORE = 1e-4  # a painted beam is averaged over every pixel where its profile is above this
_TABLE_STEP = 0.004  # arcmin, of the tabulated profile


def rng_for(seed, *names):
    """Random generator that depends on ``seed`` and ``names`` alone, not on what was drawn before."""
    digest = hashlib.sha256("/".join(map(str, (seed, *names))).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


def pixel_steps(shape, wcs):
    """Size (dy, dx) in radians of the pixels of the middle row."""
    dy, dx = geometry.pixel_scales(shape, wcs)
    return float(dy[shape[0] // 2]) * units.ARCMIN, float(dx[shape[0] // 2]) * units.ARCMIN


def multipoles(shape, steps_rad):
    """Multipoles ell_y (ny, 1) and ell_x (1, nx // 2 + 1) of a real FFT over pixels of size (dy, dx) in radians.

    Positive ell_x points to increasing columns, whatever the direction of right ascension.
    """
    ell_y = 2 * np.pi * np.fft.fftfreq(shape[0], steps_rad[0])
    ell_x = 2 * np.pi * np.fft.rfftfreq(shape[1], steps_rad[1])
    return ell_y[:, None], ell_x[None, :]


def gaussian_field(shape, wcs, power, rng, *, transfer=None, pad_arcmin=60.0):
    """Gaussian random field of a given power spectrum, on the flat sky of the map's middle row.

    Parameters
    ----------
    shape : (ny, nx)
        Shape of the map.
    wcs : astropy.wcs.WCS
        Its pixels.
    power : callable
        ``power(ell_y, ell_x)`` gives the power in field units squared times steradian; ell_y (ny, 1), ell_x (1, nx').
    rng : numpy.random.Generator
        Source of randomness.
    transfer : callable, optional
        ``transfer(ell_y, ell_x)``, real or complex, applied to the field: a beam, a pixel window, a shift.
    pad_arcmin : float
        The field is drawn this much larger and cut, since a field from an FFT is periodic; with 0 it is exactly
        periodic over ``shape`` (and its FFT has exactly the stated spectrum) if that is a good FFT size.

    Returns
    -------
    ndarray (ny, nx) float32
    """
    steps = pixel_steps(shape, wcs)
    drawn = [
        fft.next_fast_len(n + int(pad_arcmin * units.ARCMIN / d), real=True) for n, d in zip(shape, steps, strict=True)
    ]
    ell_y, ell_x = multipoles(drawn, steps)
    modes = fft.rfft2(rng.standard_normal(drawn))
    modes *= np.sqrt(power(ell_y, ell_x) / (steps[0] * steps[1]))
    if transfer is not None:
        modes *= transfer(ell_y, ell_x)
    return fft.irfft2(modes, s=drawn)[: shape[0], : shape[1]].astype(np.float32)


def noise_field(shape, wcs, spectrum, rng, *, pad_arcmin=60.0):
    """Noise whose ``spectrum(ell_y, ell_x)`` is 1 for white noise of variance 1 a pixel, as in `sotrplib.noise`."""
    area = np.prod(pixel_steps(shape, wcs))
    return gaussian_field(shape, wcs, lambda y, x: spectrum(y, x) * area, rng, pad_arcmin=pad_arcmin)


def noise_spectrum(ell_y, ell_x, *, knee_ell, slope, stretch=1.0, angle_deg=0.0):
    """Spectrum of white noise and 1/f noise that is correlated along the scan: C = 1 + (knee_ell / ell)^slope.

    Here ell^2 = ell_along^2 + (ell_across / stretch)^2: with a stretch above 1 there are stripes along the scan,
    whose direction is that of increasing rows turned by ``angle_deg`` toward increasing columns. C stays at its
    value at ell = 100 below that.
    """
    angle = np.radians(angle_deg)
    along = ell_y * np.cos(angle) + ell_x * np.sin(angle)
    across = ell_x * np.cos(angle) - ell_y * np.sin(angle)
    return 1 + (knee_ell / np.maximum(np.hypot(along, across / stretch), _ELL_FLOOR)) ** slope


def cmb_power(ell_y, ell_x):
    """Power spectrum of the CMB temperature in K^2 sr.

    The lensed LCDM spectrum of Planck 2018 (VI, table 2) read off at its peaks and troughs and interpolated in the
    logarithm: within about a tenth from ell = 2 to 3000, which is enough for a foreground.
    """
    ell = np.maximum(np.hypot(ell_y, ell_x), 2)
    d_uk2 = np.exp(np.interp(np.log(ell), np.log(_CMB_ELL), np.log(_CMB_D_UK2)))
    steep = np.where(ell > _CMB_ELL[-1], (_CMB_ELL[-1] / ell) ** 4, 1.0)
    return 1e-12 * d_uk2 * steep * 2 * np.pi / (ell * (ell + 1))


def sky_transfer(beam, steps_rad, shift_pixels=(0.0, 0.0)):
    """Transfer function of beam, pixel window and a shift by (rows, columns), for :func:`gaussian_field`."""
    ell = np.arange(0, 40000.0, 40.0)
    b_ell = beams.beam_transform(beam, ell)

    def transfer(ell_y, ell_x):
        phase_y, phase_x = ell_y * steps_rad[0], ell_x * steps_rad[1]
        window = np.sinc(phase_y / (2 * np.pi)) * np.sinc(phase_x / (2 * np.pi))
        shift = np.exp(-1j * (phase_y * shift_pixels[0] + phase_x * shift_pixels[1]))
        return np.interp(np.hypot(ell_y, ell_x), ell, b_ell, right=0.0) * window * shift

    return transfer


def paint_point_sources(shape, wcs, ra_deg, dec_deg, flux_mjy, beam):
    """Map of point sources seen through the beam, each pixel the mean over its area.

    A pixel holds flux * <B(distance)> / Omega, with distances on the sphere and the mean by 3 x 3 Gauss-Legendre
    points in the core of the beam (to 1e-5 of the peak for a FWHM of 2 pixels) and one point in the wings. The beam
    is cut where less than 1e-5 of its solid angle remains.

    Parameters
    ----------
    shape : (ny, nx)
        Shape of the map.
    wcs : astropy.wcs.WCS
        Its pixels.
    ra_deg, dec_deg, flux_mjy : ndarray (n,)
        Positions in degrees and fluxes in mJy; sources outside the map leave their wings in it (though not across the
        seam of a map all around the sky), NaN are skipped.
    beam : beams.Beam
        Radial profile.

    Returns
    -------
    ndarray (ny, nx) float32
        In mJy/sr.
    """
    image = np.zeros(shape, np.float32)
    ra_deg, dec_deg, flux_mjy = np.broadcast_arrays(*map(np.atleast_1d, (ra_deg, dec_deg, flux_mjy)))
    table = _tabulate(beam)
    scales = geometry.pixel_scales(shape, wcs)
    y, x = geometry.sky2pix(wcs, ra_deg, dec_deg, shape)
    for i in np.flatnonzero(np.isfinite(y + x + flux_mjy)):
        window = _window(shape, scales, (y[i], x[i]), table.radius[-1])
        if window is not None:
            core = _window(shape, scales, (y[i], x[i]), table.core)
            image[window] += flux_mjy[i] * _stamp(wcs, window, core, (ra_deg[i], dec_deg[i]), table)
    return image


@dataclass(frozen=True)
class _Table:
    """Uniform radii [arcmin], B / Omega [1/sr] there, and the radius of the core, beyond which B is below 1e-4."""

    radius: np.ndarray
    profile: np.ndarray
    core: float


def _tabulate(beam):
    fine = np.linspace(0, float(beam.radius_arcmin[-1]), 20001)
    profile = beams.profile_at(beam, fine)
    missing = 1 - np.cumsum(profile * fine) / np.sum(profile * fine)
    end = fine[min(np.flatnonzero(np.abs(missing) > _LOST)[-1] + 1, len(fine) - 1)]
    radius = np.linspace(0, end, int(end / _TABLE_STEP) + 2)
    core = min(end, fine[np.flatnonzero(np.abs(profile) > _CORE)[-1]])
    return _Table(radius, np.interp(radius, fine, profile) / beams.solid_angle_sr(beam), float(core))


def _window(shape, scales, pixel, reach_arcmin):
    """Slices of the pixels within ``reach_arcmin`` of pixel coordinates (y, x), or None off the map."""
    row = int(np.clip(round(float(pixel[0])), 0, shape[0] - 1))
    bounds = []
    for centre, scale, size in zip(pixel, scales, shape, strict=True):
        half = reach_arcmin / scale[row] + 1
        low, high = int(np.ceil(max(centre - half, 0))), int(np.floor(min(centre + half, size - 1))) + 1
        if low >= high:
            return None
        bounds.append(slice(low, high))
    return tuple(bounds)


def _stamp(wcs, window, core, position, table):
    """Pixels of a window around a source of unit flux: means over the pixels in the core, central values outside."""
    values = _pixel_means(wcs, window, position, table, 1)
    if core is not None:
        inner = tuple(slice(c.start - w.start, c.stop - w.start) for c, w in zip(core, window, strict=True))
        values[inner] = _pixel_means(wcs, core, position, table, 3)
    return values


def _pixel_means(wcs, window, position, table, nodes):
    """Mean of the tabulated profile over each pixel of a window, by ``nodes`` points a side (1 or 3)."""
    offsets, weights = (_NODES, _WEIGHTS) if nodes == 3 else (np.zeros(1), np.ones(1))
    y, x = ((np.arange(part.start, part.stop)[:, None] + offsets).ravel() for part in window)
    distance = geometry.separation_arcsec(*_grid_sky(wcs, y, x), *position) / 60
    values = np.interp(distance, table.radius, table.profile, right=0.0)
    values = values.reshape(len(y) // nodes, nodes, len(x) // nodes, nodes)
    return np.einsum("iajb,a,b->ij", values, weights, weights)


def _grid_sky(wcs, y, x):
    """RA and Dec of the grid of rows y (n,) and columns x (m,), each of a shape that broadcasts to (n, m)."""
    if not geometry.is_plain_car(wcs):
        return geometry.pix2sky(wcs, y[:, None], x[None, :])
    return geometry.pix2sky(wcs, y[0], x)[0][None, :], geometry.pix2sky(wcs, y, x[0])[1][:, None]


@dataclass(frozen=True)
class Scan:
    """A telescope that sweeps in elevation arcs while the sky drifts by along right ascension.

    Attributes
    ----------
    ra_deg, dec_deg : float
        Centre of the map.
    half_width_deg, half_height_deg : float
        Half its extent, in right ascension and declination.
    tilt, curvature : float
        The sky is seen at right ascension offset tilt * d + curvature * d^2 at the same time, d the declination
        offset in degrees.
    """

    ra_deg: float
    dec_deg: float
    half_width_deg: float
    half_height_deg: float
    tilt: float
    curvature: float


def arc_offset(scan, ra_deg, dec_deg):
    """Offset in degrees of right ascension from the arc through the centre of the map."""
    d = np.asarray(dec_deg) - scan.dec_deg
    return (np.asarray(ra_deg) - scan.ra_deg + 180) % 360 - 180 - scan.tilt * d - scan.curvature * d**2


def scan_time(scan, ra_deg, dec_deg):
    """Time in seconds after the start of the pass at which a position is seen; later toward larger right ascension."""
    bend = abs(scan.tilt) * scan.half_height_deg + abs(scan.curvature) * scan.half_height_deg**2
    return _START_S + DRIFT_S_PER_DEG * (arc_offset(scan, ra_deg, dec_deg) + scan.half_width_deg + bend)


def scan_depth(scan, shape, wcs, rng, *, n_holes=0, hole_max_arcmin=15.0):
    """Relative inverse variance of a pass: stripes along the arcs, deep turnarounds, ragged edges, round holes.

    Parameters
    ----------
    scan : Scan
        Geometry of the pass.
    shape, wcs
        Pixels of the map.
    rng : numpy.random.Generator
        Source of randomness.
    n_holes : int
        Holes, with radii from 0.5 arcmin to ``hole_max_arcmin``, as many in each octave.

    Returns
    -------
    ndarray (ny, nx) float32
        Median 1 where observed, exactly 0 elsewhere.
    """
    ra, dec = _grid_sky(wcs, np.arange(shape[0]), np.arange(shape[1]))
    arc, height = arc_offset(scan, ra, dec), dec - scan.dec_deg
    stripes = np.exp(_wander(arc / scan.half_width_deg, rng))
    turnaround = 1 / np.sqrt(1.1 - np.clip(height / scan.half_height_deg, -1, 1) ** 2)
    margin = _edge_distance(scan, arc, height, rng)
    margin[_in_holes(scan, ra, dec, rng, n_holes, hole_max_arcmin)] = 0
    depth = np.where(margin > 0, stripes * turnaround * np.clip(margin / 0.15, 0.1, 1), 0)
    return (depth / np.median(depth[depth > 0])).astype(np.float32)


def _wander(phase, rng):
    """Smooth random function of a phase from -1 to 1, standard deviation about 0.4, with broad and narrow stripes."""
    waves = np.array([1, 2, 3, 5, 8, 30])
    amplitudes = np.array([0.25, 0.25, 0.2, 0.2, 0.1, 0.05]) * rng.normal(1, 0.3, len(waves))
    starts = rng.uniform(0, 2 * np.pi, len(waves))
    return sum(a * np.cos(np.pi * w * phase + s) for a, w, s in zip(amplitudes, waves, starts, strict=True))


def _edge_distance(scan, arc, height, rng):
    """Distance in degrees to the nearest edge of the pass; the edges differ from row to row and column to column."""
    ny, nx = arc.shape
    rows = [rng.exponential(0.06, (ny, 1)) for _ in range(2)]
    columns = [rng.exponential(0.015, (1, nx)) for _ in range(2)]
    side, top = 0.96 * scan.half_width_deg, 0.97 * scan.half_height_deg
    edges = [side + arc - rows[0], side - arc - rows[1], top + height - columns[0], top - height - columns[1]]
    return np.minimum.reduce(edges)


def _in_holes(scan, ra, dec, rng, n_holes, hole_max_arcmin):
    """Pixels inside randomly placed round holes."""
    inside = np.zeros(np.broadcast_shapes(ra.shape, dec.shape), bool)
    for _ in range(n_holes):
        radius = 0.5 * (hole_max_arcmin / 0.5) ** rng.uniform()
        centre_ra = scan.ra_deg + scan.half_width_deg * rng.uniform(-0.9, 0.9)
        centre_dec = scan.dec_deg + scan.half_height_deg * rng.uniform(-0.9, 0.9)
        inside |= geometry.separation_arcsec(ra, dec, centre_ra, centre_dec) < 60 * radius
    return inside
