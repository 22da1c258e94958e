"""Where planets and small bodies are, from local files and formulae alone: nothing is fetched.

Positions in space are barycentric, equatorial (ICRS axes), in km, at Julian dates TDB (TT is used: they differ
by 2 ms at most, 60 m of the Earth's way). Three origins: JPL SPK kernels (Chebyshev segments, types 2 and 3),
series of ERFA for the Earth, the Moon and the planets, and two-body propagation of orbital elements.
"""

import logging
import os
import re
import struct
import warnings
from dataclasses import dataclass
from functools import lru_cache

import erfa
import numpy as np
import pandas as pd

AU_KM = 149597870.7
UNIX_JD = 2440587.5  # Julian date of unix time 0
SUN, MOON, EARTH = 10, 301, 399
SMALL_BODY, ASTEROID = 1_000_000, 2_000_000  # first NAIF number of small bodies, of asteroids
_OBLIQUITY = np.radians(84381.448 / 3600)  # of the ecliptic of J2000 that orbital elements refer to (IAU 1976)
_SPAN_MARGIN_DAYS = 1.0
_ERROR_AT_EPOCH_ARCSEC = 0.3
_ERROR_GROWTH_ARCSEC = 5.3e-4  # a day squared, at 2 au from the observer or more
_ELEMENT_COLUMNS = {
    "designation": "name",
    "magnitude_H": "h",
    "epoch_packed": "epoch",
    "mean_anomaly_degrees": "anomaly",
    "argument_of_perihelion_degrees": "perihelion",
    "longitude_of_ascending_node_degrees": "node",
    "inclination_degrees": "inclination",
    "eccentricity": "eccentricity",
    "mean_daily_motion_degrees": "motion",
    "semimajor_axis_au": "axis_au",
}
_log = logging.getLogger(__name__)


class EphemerisError(ValueError):
    """An ephemeris file that cannot be used; the message names it, what was found and the cure."""


@dataclass(frozen=True, eq=False)
class Elements:
    """Osculating heliocentric elements of n bodies.

    ``frame`` has columns name, h (absolute magnitude), epoch_jd (TT), anomaly and motion (radians, radians a
    day), eccentricity; ``perihelion_km`` and ``side_km`` (n, 3) are the semi-axes of the ellipse as
    equatorial vectors.
    """

    frame: pd.DataFrame
    perihelion_km: np.ndarray
    side_km: np.ndarray


def packed_epoch_jd(text):
    """Julian date of a packed date of the Minor Planet Center.

    Parameters
    ----------
    text : str
        Century letter (I = 18, J = 19, K = 20), two digits of the year, month and day (1-9, then A = 10, ...),
        optional digits of the fraction of the day: ``K25BL`` is 2025-11-21.0.

    Returns
    -------
    float

    Raises
    ------
    EphemerisError
        If the text is no such date.
    """
    if not re.fullmatch(r"[I-L]\d\d[1-9A-C][1-9A-V]\d*", str(text)):
        raise EphemerisError(f"packed epoch {text!r}: expected five characters such as 'K25BL' (2025-11-21)")
    year = 100 * int(text[0], 36) + int(text[1:3])
    midnight = pd.Timestamp(year, int(text[3], 36), int(text[4], 36)).to_julian_date()
    return midnight + float(f"0.{text[5:] or 0}")


def read_elements(path):
    """Orbital elements from a CSV of the Minor Planet Center's columns, see :class:`Elements`.

    Bodies on open orbits or with missing numbers are left out with a warning.

    Raises
    ------
    EphemerisError
        If the file or a column is missing.
    """
    return _read_elements(*stamp(path))


def elements_from_frame(frame):
    """:class:`Elements` from columns name, h, epoch_jd and, in degrees, days and au, the six of the orbit.

    Parameters
    ----------
    frame : pandas.DataFrame
        Columns name, h, epoch_jd, anomaly, perihelion, node, inclination, eccentricity, motion (degrees a
        day), axis_au.
    """
    perihelion, node, tilt = (np.radians(frame[name].to_numpy()) for name in ("perihelion", "node", "inclination"))
    along = _orbit_axis(perihelion, node, tilt)
    across = _orbit_axis(perihelion + np.pi / 2, node, tilt)
    axis = AU_KM * frame["axis_au"].to_numpy()
    minor = axis * np.sqrt(1 - frame["eccentricity"].to_numpy() ** 2)
    kept = frame[["name", "h", "epoch_jd", "eccentricity"]].assign(
        anomaly=np.radians(frame["anomaly"]), motion=np.radians(frame["motion"])
    )
    return Elements(kept.reset_index(drop=True), axis[:, None] * along, minor[:, None] * across)


def two_body_km(elements, index, jd):
    """Heliocentric positions on unperturbed ellipses.

    Parameters
    ----------
    elements : Elements
    index : array (m,) of int
        Bodies.
    jd : array (m,)
        Time of each, Julian date TT.

    Returns
    -------
    array (m, 3)
        Equatorial, km.
    """
    part = elements.frame.iloc[index]
    e = part["eccentricity"].to_numpy()
    anomaly = part["anomaly"].to_numpy() + part["motion"].to_numpy() * (jd - part["epoch_jd"].to_numpy())
    eccentric = solve_kepler(anomaly, e)
    along, across = np.cos(eccentric) - e, np.sin(eccentric)
    return along[:, None] * elements.perihelion_km[index] + across[:, None] * elements.side_km[index]


def two_body_error_arcsec(days, distance_km):
    """Error of a two-body prediction, growing with the square of the time from epoch.

    Neglected perturbations act as an acceleration. The law, 0.3" + 5.3e-4" t^2 (t in days) at 2 au or more
    and in proportion larger nearer by, is the 68th percentile of the separation from JPL's integrations of
    16 large asteroids: 4.6" at 90 days, 71" at one year, 283" at two (their medians: 2", 30", 160"). Of 1,282
    bright asteroids integrated with all planets, 98 % and more lie within four times it up to a year from
    epoch, 95 % at two years.

    Parameters
    ----------
    days : array
        Time since epoch, either sign.
    distance_km : array
        From the observer.

    Returns
    -------
    array
        One sigma, arcsec.
    """
    nearer = np.maximum(1.0, 2 * AU_KM / np.asarray(distance_km))
    return _ERROR_AT_EPOCH_ARCSEC + _ERROR_GROWTH_ARCSEC * np.asarray(days) ** 2 * nearer


def solve_kepler(mean_anomaly, eccentricity):
    """Eccentric anomaly E of E - e sin E = M for 0 <= e < 1, in radians, to 1e-13 (Newton from Danby's start)."""
    mean = np.remainder(np.asarray(mean_anomaly, float) + np.pi, 2 * np.pi) - np.pi
    e = np.asarray(eccentricity, float)
    anomaly = mean + 0.85 * e * np.sign(np.sin(mean))
    for _ in range(60):
        step = (anomaly - e * np.sin(anomaly) - mean) / (1 - e * np.cos(anomaly))
        anomaly = anomaly - step
        if np.all(np.abs(step) < 1e-13):
            break
    return anomaly


class Kernels:
    """Segments of SPK kernels by body; of several that cover a time the last one read counts.

    Parameters
    ----------
    paths : sequence of path

    Raises
    ------
    EphemerisError
        If a file is missing or no SPK kernel, or a small body cannot be computed from it.
    """

    def __init__(self, paths=()):
        self._segments = {}
        for path in paths:
            for segment in _segments(*stamp(path)):
                self._segments.setdefault(segment.target, []).insert(0, (path, segment))
        for target in self.small_bodies():
            self._check(target)

    def small_bodies(self):
        """NAIF numbers of the comets and asteroids, sorted."""
        return sorted(target for target in self._segments if target >= SMALL_BODY)

    def spans_jd(self, target):
        """Spans (first, last) of Julian dates, a day inside, in which a body can be computed."""
        if target in (0, SUN):
            return [(-np.inf, np.inf)]
        merged = []
        for first, last in sorted(self._segment_span(segment) for _, segment in self._segments.get(target, [])):
            if merged and first <= merged[-1][1]:
                first, last = merged[-1][0], max(last, merged.pop()[1])
            merged.append((first, last))
        day = _SPAN_MARGIN_DAYS
        return [(first + day, last - day) for first, last in merged if last - first > 2 * day]

    def position_km(self, target, jd):
        """Barycentric position (m, 3) at times (m,); NaN where no segment covers it.

        The Sun and the Earth are taken from ERFA's series there (100 km).
        """
        position = np.zeros((len(jd), 3)) if target == 0 else np.full((len(jd), 3), np.nan)
        for _, segment in self._segments.get(target, []):
            wanted = np.isnan(position[:, 0]) & (jd >= segment.start_jd) & (jd <= segment.end_jd)
            if wanted.any():
                relative = segment.compute(jd[wanted])[:3].T
                position[wanted] = relative + self.position_km(segment.center, jd[wanted])
        rest = np.isnan(position[:, 0])
        if target in (SUN, EARTH) and rest.any():
            position[rest] = series_km(target, jd[rest])
        return position

    def _segment_span(self, segment):
        centre = self.spans_jd(segment.center) or [(np.inf, -np.inf)]
        return max(segment.start_jd, centre[0][0]), min(segment.end_jd, centre[-1][1])

    def _check(self, target):
        for path, segment in self._segments[target]:
            if segment.center not in (0, SUN) and segment.center not in self._segments:
                raise EphemerisError(
                    f"{path}: body {target} is given relative to body {segment.center}, which no kernel has; "
                    "add the kernel that has it to ephemerides.kernels"
                )


def series_km(target, jd):
    """Barycentric positions by ERFA's series, with no file.

    Parameters
    ----------
    target : int
        NAIF number: 10 Sun, 301 Moon, 399 Earth, or 1 to 8 for a planet (its barycentre).
    jd : array (m,)
        Julian dates TT.

    Returns
    -------
    array (m, 3)
        km. Against DE440 in 2017-2030: Sun and Earth 110 km (epv00); the Moon 6" (moon98, 95 % of times) and
        the planets 1" to 60" (plan94), see ``PLANETS`` in :mod:`sotrplib.bodies`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", erfa.ErfaWarning)  # before 1900 or after 2100
        return AU_KM * _series_au(target, jd)


def _series_au(target, jd):
    heliocentric, barycentric = erfa.epv00(jd, 0.0)
    earth, sun = barycentric["p"], barycentric["p"] - heliocentric["p"]
    if target in (SUN, EARTH):
        return sun if target == SUN else earth
    if target == MOON:
        return earth + erfa.moon98(jd, 0.0)["p"]
    return sun + erfa.plan94(jd, 0.0, target)["p"]


def stamp(path):
    """Path with its size and time of change: the key under which a file that was read is remembered."""
    if not os.path.isfile(path):
        raise EphemerisError(f"{path}: no such ephemeris file; correct the section ephemerides of the configuration")
    status = os.stat(path)
    return str(path), status.st_size, status.st_mtime_ns


@lru_cache(maxsize=32)
def _segments(path, size, _changed):
    from jplephem.spk import SPK

    try:
        kernel = SPK.open(path)
    except (ValueError, struct.error) as error:
        raise EphemerisError(f"{path}: not an SPK kernel ({error}); expected a JPL .bsp file") from error
    if size < 8 * (kernel.daf.free - 1):
        raise EphemerisError(f"{path}: has {size} of {8 * (kernel.daf.free - 1)} bytes; copy the kernel again")
    segments = kernel.segments
    usable = [segment for segment in segments if segment.data_type in (2, 3) and segment.frame == 1]
    unusable = [segment for segment in segments if segment not in usable and segment.target >= SMALL_BODY]
    if unusable:
        worst = unusable[0]
        raise EphemerisError(
            f"{path}: body {worst.target} is stored as SPK type {worst.data_type} in frame {worst.frame}; expected "
            "type 2 or 3 in frame 1 (J2000): convert the kernel, or give the body as an ephemeris table"
        )
    return usable


@lru_cache(maxsize=8)
def _read_elements(path, _size, _changed):
    table = pd.read_csv(path, dtype={"designation": str, "epoch_packed": str})
    missing = [name for name in _ELEMENT_COLUMNS if name not in table.columns]
    if missing:
        raise EphemerisError(
            f"{path}: has no columns {missing}, only {list(table.columns)}; expected orbital elements in the "
            "Minor Planet Center's columns"
        )
    frame = table[list(_ELEMENT_COLUMNS)].rename(columns=_ELEMENT_COLUMNS)
    closed = frame.drop(columns="h").notna().all(axis=1) & (frame["eccentricity"] < 1) & (frame["eccentricity"] >= 0)
    if not closed.all():
        names = frame["name"][~closed].head(5).tolist()
        _log.warning("%s: left out %d bodies without a closed orbit: %s ...", path, (~closed).sum(), names)
    frame = frame[closed]
    return elements_from_frame(frame.assign(epoch_jd=frame["epoch"].map(packed_epoch_jd)))


def _orbit_axis(angle, node, tilt):
    """Equatorial unit vectors (n, 3) in the plane of the orbit, at an angle from its ascending node."""
    x = np.cos(angle) * np.cos(node) - np.sin(angle) * np.cos(tilt) * np.sin(node)
    y = np.cos(angle) * np.sin(node) + np.sin(angle) * np.cos(tilt) * np.cos(node)
    z = np.sin(angle) * np.sin(tilt)
    cosine, sine = np.cos(_OBLIQUITY), np.sin(_OBLIQUITY)
    return np.stack([x, cosine * y - sine * z, sine * y + cosine * z], axis=-1)
