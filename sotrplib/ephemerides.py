"""Moving objects in maps: planets, asteroids and objects of ephemeris tables, each when its pixel was observed.

What is known of them, and how well, is said in :mod:`sotrplib.bodies` and :mod:`sotrplib.orbits`.
"""

import functools

import numpy as np

from sotrplib import bodies, geometry
from sotrplib.bodies import KINDS

_GRID_PIXELS = 32
_MOST_PAIRS = 4_000_000  # of bodies and places, whose distances are looked at at a time


def moving_objects(time_unix_s, site, options, *, box=None, kinds=KINDS):
    """Positions of all moving objects at given times.

    Parameters
    ----------
    time_unix_s : float or array (nt,)
        UTC, unix seconds.
    site : (latitude_deg, longitude_deg, height_m)
        Observatory, geodetic (WGS84), longitude to the east.
    options : mapping
        Section ``ephemerides`` of the configuration.
    box : mapping, optional
        Only rows in ``ra_min_deg, ra_max_deg, dec_min_deg, dec_max_deg`` (ra_min > ra_max crosses 0).
    kinds : sequence of str, default all
        Which of planet (with Moon and Sun), asteroid and table.

    Returns
    -------
    pandas.DataFrame
        Table ``moving``, one row an object and time that a file covers. ``pos_err_arcsec`` is one sigma:
        0.2" from kernels, that of ``bodies.PLANETS`` without them, ``orbits.two_body_error_arcsec`` for
        elements, the error of interpolation for tables. ``radius_arcmin`` is the physical disc.

    Raises
    ------
    EphemerisError
        If a file is missing or not usable, or a name of ``designations`` is unknown.
    """
    ephemeris = bodies.load(options, kinds)
    times = np.atleast_1d(np.asarray(time_unix_s, float))
    bodies.warn_refused(ephemeris, times)
    rows, when = (grid.ravel() for grid in np.indices((len(ephemeris.bodies), len(times))))
    frame = bodies.predict(ephemeris, *bodies.select(ephemeris, rows, times[when]), site)
    return frame if box is None else frame[_in_box(frame, box)].reset_index(drop=True)


def positions_in_map(options, wcs, clock, site, *, margin_arcmin=0.0, kinds=KINDS):
    """Moving objects in a map, each at the time at which its pixel was observed.

    Parameters
    ----------
    options : mapping
        Section ``ephemerides`` of the configuration.
    wcs : astropy.wcs.WCS
    clock : PixelClock
        Shape of the map, and when each of its pixels was observed.
    site : (latitude_deg, longitude_deg, height_m)
    margin_arcmin : float, default 0
        Also objects whose disc comes this close to the map from outside (at 0: touches it).
    kinds : sequence of str, default all
        Which of planet (with Moon and Sun), asteroid and table.

    Returns
    -------
    pandas.DataFrame
        Table ``moving`` as of :func:`moving_objects`, one row an object. Where the map was not observed at
        an object's place it has a row too.
    """
    shape = clock.shape
    ephemeris = bodies.load(options, kinds)
    bodies.warn_refused(ephemeris, np.array([clock.middle]))
    rows = _near_map(ephemeris, wcs, clock, site, margin_arcmin)

    def position_at(time):
        return bodies.to_radec(bodies.directions(ephemeris, rows, bodies.within_span(ephemeris, rows, time), site)[0])

    def to_pixel(ra, dec):
        return geometry.sky2pix(wcs, ra, dec, shape)

    _, _, time = locate_in_map(position_at, to_pixel, clock, np.full(len(rows), clock.middle))
    frame = bodies.predict(ephemeris, *bodies.select(ephemeris, rows, time, each_time=False), site)
    touching = _outside_arcmin(wcs, shape, frame) <= margin_arcmin + frame["radius_arcmin"].to_numpy()
    return frame[touching].reset_index(drop=True)


def locate_in_map(position_at, to_pixel, time_at, start_unix_s, *, tolerance_s=0.5, n_max=10):
    """Where and when moving objects were observed: iterates position, pixel, time of the pixel, position.

    Parameters
    ----------
    position_at : function
        time_unix_s (n,) to (ra_deg, dec_deg) of n objects, each at its time.
    to_pixel : function
        (ra_deg, dec_deg) to (y, x).
    time_at : function
        (y, x) to time_unix_s (n,).
    start_unix_s : array (n,)
        First guess.
    tolerance_s : float
        Iteration ends when no time changes by more.
    n_max : int
        Most rounds; where the time jumps from pixel to pixel the last one stands.

    Returns
    -------
    ra_deg, dec_deg, time_unix_s : array (n,)
    """
    time = np.asarray(start_unix_s, float)
    for _ in range(n_max):
        found = time_at(*to_pixel(*position_at(time)))
        done = np.all(np.abs(found - time) <= tolerance_s)
        time = found
        if done:
            break
    return *position_at(time), time


class PixelClock:
    """Time of observation at pixel coordinates, ``clock(y, x)``; everywhere finite.

    Parameters
    ----------
    time_image : array (ny, nx) or None
        Seconds since ``t_ref_unix_s``, NaN where unknown; there the time of the nearest observed pixel (of a grid)
        counts. None: all at ``t_ref_unix_s``.
    t_ref_unix_s : float
    shape : (ny, nx), optional
        Needed without ``time_image``.

    Attributes
    ----------
    shape : (ny, nx)
    first, middle, last : float
        Unix seconds of the earliest, the median and the latest pixel of a grid.
    """

    def __init__(self, time_image, t_ref_unix_s, shape=None):
        self.shape = np.shape(time_image) if shape is None else tuple(shape)
        self.first = self.middle = self.last = self._t_ref = float(t_ref_unix_s)
        self._image, self._grid = time_image, None
        self._step = max(1, min(_GRID_PIXELS // 2, min(self.shape) // 8))
        if time_image is not None:
            self._set_grid(np.asarray(time_image[self._step // 2 :: self._step, self._step // 2 :: self._step], float))

    def __call__(self, y, x):
        if self._grid is None:
            return np.full(np.shape(y), self._t_ref)
        y, x = (np.nan_to_num(values, nan=0.0) for values in (y, x))
        row, column = (np.clip(np.rint(v), 0, n - 1).astype(int) for v, n in zip((y, x), self.shape, strict=True))
        exact = np.where(geometry.inside(self.shape, y, x), self._image[row, column].astype(float), np.nan)
        if not np.isfinite(exact).all():
            last_row, last_column = np.array(self._grid.shape) - 1
            near = np.minimum(row // self._step, last_row), np.minimum(column // self._step, last_column)
            exact = np.where(np.isfinite(exact), exact, self._filled[near])
        return self._t_ref + exact

    def _set_grid(self, grid):
        known = grid[np.isfinite(grid)]
        if not known.size:
            return
        self._grid = grid
        low, middle, high = known.min(), np.median(known), known.max()
        self.first, self.middle, self.last = (self._t_ref + value for value in (low, middle, high))

    @functools.cached_property
    def _filled(self):
        """The grid with the time of the nearest known place everywhere: needed only for objects off the data."""
        from scipy.ndimage import distance_transform_edt

        unknown = ~np.isfinite(self._grid)
        nearest = distance_transform_edt(unknown, return_distances=False, return_indices=True)
        return self._grid[tuple(nearest)]


def _near_map(ephemeris, wcs, clock, site, margin_arcmin):
    """Rows of the bodies that may touch the map while it was observed; a few too many."""
    rows = np.arange(len(ephemeris.bodies))
    times = (np.full(len(rows), time) for time in (clock.first, clock.middle, clock.last))
    units = [bodies.directions(ephemeris, rows, bodies.within_span(ephemeris, rows, time), site)[0] for time in times]
    path = sum(np.linalg.norm(units[i + 1] - units[i], axis=1) for i in (0, 1))
    points, spacing = _grid_of(clock.shape, wcs)
    reach, place = spacing + path + np.radians(margin_arcmin / 60) + 0.01, np.nan_to_num(units[1])
    if not len(points):
        return rows[:0]
    middle = points.mean(axis=0)
    around = np.linalg.norm(points - middle, axis=1).max(initial=0.0)
    near = np.flatnonzero(np.linalg.norm(place - middle, axis=1) <= around + reach)
    parts = np.array_split(near, 1 + near.size * len(points) // _MOST_PAIRS)
    highest = np.concatenate([(place[part] @ points.T).max(axis=1, initial=-1.0) for part in parts])  # cosine
    return rows[near[np.sqrt(np.maximum(2 - 2 * highest, 0)) <= reach[near]]]


def _grid_of(shape, wcs):
    """Unit vectors of a grid of pixels with the map's outline, and the widest step between neighbours."""
    y, x = (np.unique(np.append(np.arange(0, n, _GRID_PIXELS), n - 1)) for n in shape)
    ra, dec = geometry.pix2sky(wcs, *np.meshgrid(y, x, indexing="ij"))
    points = geometry.unit_vectors(ra.ravel(), dec.ravel()).reshape(len(y), len(x), 3)
    steps = [np.linalg.norm(np.diff(points, axis=axis), axis=-1).ravel() for axis in (0, 1)]
    points = points.reshape(-1, 3)
    return points[np.isfinite(points[:, 0])], np.nanmax(np.concatenate(steps), initial=0.0)


def _outside_arcmin(wcs, shape, frame):
    """Distance of positions from the map; 0 inside it, NaN where they cannot be projected."""
    y, x = geometry.sky2pix(wcs, frame["ra_deg"].to_numpy(), frame["dec_deg"].to_numpy(), shape)
    nearest = [np.clip(values, -0.5, n - 0.5) for values, n in zip((y, x), shape, strict=True)]
    edge = geometry.pix2sky(wcs, *nearest)
    away = geometry.separation_arcsec(frame["ra_deg"], frame["dec_deg"], *edge) / 60
    return np.where(geometry.inside(shape, y, x), 0.0, away)


def _in_box(frame, box):
    ra_min, ra_max, dec_min, dec_max = (box[f"{name}_deg"] for name in ("ra_min", "ra_max", "dec_min", "dec_max"))
    width = 360.0 if abs(ra_max - ra_min) >= 360 else (ra_max - ra_min) % 360
    ra, dec = frame["ra_deg"].to_numpy(), frame["dec_deg"].to_numpy()
    return ((ra - ra_min) % 360 <= width) & (dec >= dec_min) & (dec <= dec_max)
