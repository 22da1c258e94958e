"""Which planets, asteroids and other objects the files of a configuration know, and where they are seen.

Directions are astrometric ICRS as seen from the observatory: corrected for light time and parallax, not for
aberration, which maps calibrated on catalogued sources do not show. The rotation of the Earth is that of
UT1 = UTC (0.9 s at most, 0.2" for the Moon); the bending of light by the Sun is left out (below 0.1" beyond
5 degrees from it).

An object that several files know is taken from the first of: kernels or series for planets, ephemeris tables,
kernels of asteroids, orbital elements.
"""

import logging
import re
import warnings
from dataclasses import dataclass
from functools import lru_cache

import erfa
import numpy as np
import pandas as pd

from sotrplib import geometry, orbits, tables
from sotrplib.interpolation import Cubic, cubic_spline
from sotrplib.orbits import EphemerisError
from sotrplib.units import ARCSEC

KINDS = ("planet", "table", "asteroid")
DEFAULTS = {
    "planets": True,
    "kernels": [],
    "elements": "",
    "elements_max_h": 12.0,
    "elements_max_days": 730.0,
    "tables": [],
    "designations": [],
}
# name: NAIF numbers, best first; radius [km]; one-sigma error of ERFA's series [arcsec]
PLANETS = {
    "Mercury": ((199, 1), 2440, 0.6),
    "Venus": ((299, 2), 6052, 2.0),
    "Mars": ((499, 4), 3396, 10.0),
    "Jupiter": ((599, 5), 71492, 20.0),
    "Saturn": ((699, 6), 60268, 30.0),
    "Uranus": ((799, 7), 25559, 7.0),
    "Neptune": ((899, 8), 24764, 4.0),
    "Moon": ((301,), 1737, 5.0),
    "Sun": ((10,), 695700, 0.2),
}
# Kernels hold numbers only: names of the asteroids of JPL's sb441-n16, others are named by the elements.
ASTEROIDS = (
    *("(1) Ceres", "(2) Pallas", "(3) Juno", "(4) Vesta", "(7) Iris", "(10) Hygiea", "(15) Eunomia", "(16) Psyche"),
    *("(31) Euphrosyne", "(52) Europa", "(65) Cybele", "(87) Sylvia", "(88) Thisbe", "(107) Camilla"),
    *("(511) Davida", "(704) Interamnia"),
)
_BODY_COLUMNS = ["name", "kind", "radius_km", "error_arcsec", "start_unix_s", "end_unix_s", "source", "item"]
_NUMBERED = re.compile(r"\((\d+)\)\s*(.*)")
_TABLE_COLUMNS = ["name", "time_unix_s", "ra_deg", "dec_deg"]
_TABLE_ERROR_ARCSEC = 0.1
_N_SPLINE = 4  # rows that a cubic needs
_GAP_STEPS = 4  # times the median step: a gap that is not interpolated over
_KERNEL_ERROR_ARCSEC = 0.2
_RATE_STEP_S = 150.0
_DAY_S = 86400.0
_LIGHT_KM_DAY = 299792.458 * _DAY_S
_TT_MINUS_TAI_DAYS = 32.184 / _DAY_S
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Track:
    """A stretch of an ephemeris table without gaps; ``spline`` gives unit vectors at unix seconds."""

    name: str
    start_unix_s: float
    end_unix_s: float
    error_arcsec: float
    spline: Cubic


@dataclass(frozen=True, eq=False)
class Ephemeris:
    """What the files of one configuration know.

    ``bodies`` has one row a body and origin, best origin first: name, key (equal for equal objects), kind,
    radius_km, error_arcsec, start_unix_s, end_unix_s, source (kernel, series, elements or table) and item, its
    number there.
    """

    bodies: pd.DataFrame
    kernels: orbits.Kernels
    elements: orbits.Elements | None
    tracks: tuple


def load(options, kinds=KINDS):
    """Open the files of section ``ephemerides`` of the configuration, see :class:`Ephemeris`."""
    options = {**DEFAULTS, **options}
    if not set(kinds) <= set(KINDS):
        raise ValueError(f"kinds {kinds}: expected some of {KINDS}")
    kernels = orbits.Kernels(options["kernels"])
    elements, tracks, rows = None, (), []
    if "planet" in kinds and options["planets"]:
        rows += _planet_rows(kernels)
    if "table" in kinds:
        tracks = tuple(track for path in options["tables"] for track in read_table(path))
        rows += _table_rows(tracks)
    if "asteroid" in kinds:
        elements = orbits.read_elements(options["elements"]) if options["elements"] else None
        rows += _asteroid_rows(kernels, elements, options)
    bodies = pd.DataFrame(rows, columns=_BODY_COLUMNS)
    return Ephemeris(bodies.assign(key=_keys(bodies["name"], _designations(elements))), kernels, elements, tracks)


def _planet_rows(kernels):
    rows = []
    for name, (targets, radius, series_error) in PLANETS.items():
        rows += [row for target in targets for row in _kernel_rows(kernels, target, name, "planet", radius)]
        rows.append((name, "planet", radius, series_error, -np.inf, np.inf, "series", targets[-1]))
    return rows


def _kernel_rows(kernels, target, name, kind, radius_km):
    return [
        (name, kind, radius_km, _KERNEL_ERROR_ARCSEC, *_unix(span), "kernel", target)
        for span in kernels.spans_jd(target)
    ]


def _table_rows(tracks):
    return [
        (track.name, "table", 0.0, track.error_arcsec, track.start_unix_s, track.end_unix_s, "table", item)
        for item, track in enumerate(tracks)
    ]


def _asteroid_rows(kernels, elements, options):
    """Small bodies that the options choose, of kernels first, then of elements."""
    designations = _designations(elements)
    rows = []
    for target in kernels.small_bodies():
        name = designations.get(target % orbits.SMALL_BODY, f"({target % orbits.SMALL_BODY})")
        name = name if target >= orbits.ASTEROID else f"NAIF {target}"
        rows += _kernel_rows(kernels, target, name, "asteroid", 0.0)
    if elements is not None:
        rows += _element_rows(elements, options)
    return _choose(rows, designations, options["designations"])


def _element_rows(elements, options):
    """Bodies of the elements, only bright ones unless the options name the bodies."""
    frame = elements.frame
    bright = (frame["h"] <= options["elements_max_h"]) | bool(options["designations"])
    epoch, reach = _unix(frame["epoch_jd"]), options["elements_max_days"] * _DAY_S
    return [
        (frame["name"][i], "asteroid", 0.0, 0.0, epoch[i] - reach, epoch[i] + reach, "elements", i)
        for i in np.flatnonzero(bright)
    ]


def _choose(rows, designations, wanted):
    if not wanted:
        return rows
    keys, chosen = _keys([row[0] for row in rows], designations), _keys(wanted, designations)
    unknown = [name for name, key in zip(wanted, chosen, strict=True) if key not in keys]
    if unknown:
        raise EphemerisError(
            f"ephemerides.designations: {unknown} are in none of the kernels and elements, which have {len(rows)} "
            "small bodies; correct the names (as 'Ceres', '(1) Ceres' or '1') or add the file that has them"
        )
    return [row for row, key in zip(rows, keys, strict=True) if key in chosen]


def _designations(elements):
    """Number to name as ``(1) Ceres`` of the known asteroids."""
    texts = [*ASTEROIDS, *([] if elements is None else elements.frame["name"])]
    return {int(match[1]): text for text in texts if (match := _NUMBERED.match(text))}


def _keys(names, designations):
    """Keys that are equal for equal objects: the number of an asteroid, else the name in lower case."""
    numbers = {_NUMBERED.match(text)[2].lower(): str(number) for number, text in designations.items()}
    return [_key(str(name).strip(), numbers) for name in names]


def _key(name, numbers):
    numbered = _NUMBERED.match(name)
    number = numbered[1] if numbered else name
    return str(int(number)) if number.isdecimal() else numbers.get(name.lower(), name.lower())


def read_table(path):
    """Tracks of an ephemeris table.

    Parameters
    ----------
    path : path
        CSV, or Parquet by the ending of its name. Columns name (or designation), time_unix_s (or julian_day,
        UT), ra_deg, dec_deg (astrometric ICRS, as seen from the observatory), and optionally pos_err_arcsec.

    Returns
    -------
    tuple of Track
        Cubic interpolation, not across gaps of more than four times the median step. The error is that of
        the interpolation through every second row at the others (an upper limit), and pos_err_arcsec. Steps
        must resolve the daily parallax: a table with one row a day does not show it.

    Raises
    ------
    EphemerisError
        If the file, a column, or four rows in a row of an object are missing.
    """
    return _read_table(*orbits.stamp(path))


@lru_cache(maxsize=32)
def _read_table(path, _size, _changed):
    frame = pd.read_parquet(path) if path.endswith((".parquet", ".pq")) else pd.read_csv(path)
    found = list(frame.columns)
    frame = frame.rename(columns={"designation": "name"} if "name" not in found else {})
    if "time_unix_s" not in frame.columns and "julian_day" in frame.columns:
        frame["time_unix_s"] = (frame["julian_day"] - orbits.UNIX_JD) * 86400
    missing = [name for name in _TABLE_COLUMNS if name not in frame.columns]
    if missing:
        raise EphemerisError(
            f"{path}: has no columns {missing}, only {found}; expected name (or designation), time_unix_s (or "
            "julian_day), ra_deg, dec_deg"
        )
    frame = frame.dropna(subset=_TABLE_COLUMNS).drop_duplicates(["name", "time_unix_s"])
    frame = frame.sort_values(["name", "time_unix_s"], kind="stable")
    return tuple(track for name, rows in frame.groupby("name") for track in _tracks(path, str(name), rows))


def stretches(time_unix_s):
    """Stretches of an ephemeris without gaps, long enough to interpolate.

    Parameters
    ----------
    time_unix_s : array (n,)
        Ascending.

    Returns
    -------
    list of slice
        Of at least four rows; a gap is longer than four times the median step.
    """
    step = np.diff(time_unix_s)
    gaps = np.flatnonzero(step > _GAP_STEPS * np.median(step)) + 1 if len(step) else []
    starts, ends = [0, *gaps], [*gaps, len(time_unix_s)]
    return [slice(i, j) for i, j in zip(starts, ends, strict=True) if j - i >= _N_SPLINE]


def _tracks(path, name, rows):
    found = stretches(rows["time_unix_s"].to_numpy())
    if not found:
        raise EphemerisError(f"{path}: {name} has {len(rows)} rows; expected at least {_N_SPLINE} without a gap")
    return [_track(name, rows.iloc[stretch]) for stretch in found]


def _track(name, rows):
    time, place = rows["time_unix_s"].to_numpy(float), geometry.unit_vectors(rows["ra_deg"], rows["dec_deg"])
    coarse = cubic_spline(time[::2], place[::2])
    between = slice(1, len(time) - 1, 2)
    error = np.linalg.norm(coarse(time[between]) - place[between], axis=1).max() / ARCSEC
    given = rows["pos_err_arcsec"].median() if "pos_err_arcsec" in rows else 0.0
    error = float(np.hypot(max(error, _TABLE_ERROR_ARCSEC), given))
    return Track(name, time[0], time[-1], error, cubic_spline(time, place))


def select(ephemeris, rows, unix, *, each_time=True):
    """Of rows of ``ephemeris.bodies`` at their times, those that a file covers, from its best origin.

    Parameters
    ----------
    ephemeris : Ephemeris
    rows : array (m,) of int
        Ascending.
    unix : array (m,)
        Unix seconds.
    each_time : bool, default True
        Keep one row an object and time, else one an object.

    Returns
    -------
    rows, unix : arrays
        Sorted by object and time.
    """
    inside = unix == within_span(ephemeris, rows, unix)
    rows, unix = rows[inside], unix[inside]
    objects = pd.factorize(ephemeris.bodies["key"])[0][rows]
    repeated = pd.DataFrame({"object": objects, "time": unix if each_time else 0.0}).duplicated().to_numpy()
    kept = np.flatnonzero(~repeated)
    kept = kept[np.lexsort((unix[kept], objects[kept]))]
    return rows[kept], unix[kept]


def within_span(ephemeris, rows, unix):
    """Times moved into the span that is known of each row."""
    first, last = (ephemeris.bodies[name].to_numpy()[rows] for name in ("start_unix_s", "end_unix_s"))
    return np.clip(unix, first, last)


def warn_refused(ephemeris, times):
    """Log a warning where elements are refused at all of the times (nt,): their epoch is too far away."""
    listed = ephemeris.bodies[ephemeris.bodies["source"] == "elements"]
    first, last = (listed[[name]].to_numpy() for name in ("start_unix_s", "end_unix_s"))
    refused = listed[~np.any((times >= first) & (times <= last), axis=1)]
    if len(refused):
        _log.warning(
            f"elements of {len(refused)} of {len(listed)} bodies not used ({refused['name'].iloc[0]}, ...): their "
            "epoch is more than ephemerides.elements_max_days from the observation; get elements of a nearer epoch"
        )


def predict(ephemeris, rows, unix, site):
    """Table ``moving`` of rows of ``ephemeris.bodies``, each at its time, as of ``ephemerides.moving_objects``."""
    unit, distance = directions(ephemeris, rows, unix, site)
    before, after = (directions(ephemeris, rows, unix + step, site)[0] for step in (-_RATE_STEP_S, _RATE_STEP_S))
    rate = (after - before) / (2 * _RATE_STEP_S / 3600) / ARCSEC
    ra, dec = to_radec(unit)
    sin_ra, cos_ra, sin_dec, cos_dec = (f(np.radians(v)) for v in (ra, dec) for f in (np.sin, np.cos))
    bodies = ephemeris.bodies.iloc[rows]
    columns = {
        "name": bodies["name"],
        "time_unix_s": unix,
        "ra_deg": ra,
        "dec_deg": dec,
        "ra_rate_arcsec_h": rate[:, 1] * cos_ra - rate[:, 0] * sin_ra,
        "dec_rate_arcsec_h": rate[:, 2] * cos_dec - (rate[:, 0] * cos_ra + rate[:, 1] * sin_ra) * sin_dec,
        "pos_err_arcsec": _errors(ephemeris, rows, unix, distance),
        "radius_arcmin": np.nan_to_num(np.degrees(np.arcsin(bodies["radius_km"].to_numpy() / distance)) * 60),
        "kind": bodies["kind"],
    }
    return tables.make("moving", columns)


def _errors(ephemeris, rows, unix, distance):
    bodies = ephemeris.bodies.iloc[rows]
    errors = bodies["error_arcsec"].to_numpy(float).copy()
    old = (bodies["source"] == "elements").to_numpy()
    if old.any():
        epoch = ephemeris.elements.frame["epoch_jd"].to_numpy()[bodies["item"].to_numpy()[old]]
        errors[old] = orbits.two_body_error_arcsec((unix[old] - _unix(epoch)) / _DAY_S, distance[old])
    return errors


def directions(ephemeris, rows, unix, site):
    """Unit vectors (m, 3) towards rows of the bodies at their times, and distances (m,) in km (NaN for tables)."""
    source, item = (ephemeris.bodies[name].to_numpy()[rows] for name in ("source", "item"))
    unit, distance = np.full((len(rows), 3), np.nan), np.full(len(rows), np.nan)
    tabled = source == "table"
    for number in np.unique(item[tabled]):
        same = tabled & (item == number)
        unit[same] = ephemeris.tracks[number].spline(unix[same])
        unit[same] /= np.linalg.norm(unit[same], axis=1, keepdims=True)
    if not tabled.all():
        vectors = _astrometric(ephemeris, source[~tabled], item[~tabled], unix[~tabled], site)
        distance[~tabled] = np.linalg.norm(vectors, axis=1)
        unit[~tabled] = vectors / distance[~tabled, None]
    return unit, distance


def _astrometric(ephemeris, source, item, unix, site):
    """Vectors (m, 3) in km from the observer to the bodies when the light left them."""
    times, which = np.unique(unix, return_inverse=True)
    jd = _tt_jd(times)
    observer = (ephemeris.kernels.position_km(orbits.EARTH, jd) + _site_km(times, site))[which]
    jd, delay = jd[which], 0.0
    for _ in range(3):
        vectors = _barycentric_km(ephemeris, source, item, jd - delay) - observer
        delay = np.linalg.norm(vectors, axis=1) / _LIGHT_KM_DAY
    return vectors


def _barycentric_km(ephemeris, source, item, jd):
    position = np.full((len(jd), 3), np.nan)
    for name, function in (("kernel", ephemeris.kernels.position_km), ("series", orbits.series_km)):
        for number in np.unique(item[source == name]):
            same = (source == name) & (item == number)
            position[same] = function(number, jd[same])
    orbit = source == "elements"
    if orbit.any():
        sun = ephemeris.kernels.position_km(orbits.SUN, jd[orbit])
        position[orbit] = sun + orbits.two_body_km(ephemeris.elements, item[orbit], jd[orbit])
    return position


def _site_km(unix, site):
    """Geocentric position (m, 3) of the observatory on the axes of the sky."""
    latitude, longitude, height = site
    place = erfa.gd2gc(1, np.radians(longitude), np.radians(latitude), height) / 1000
    terrestrial = erfa.c2t00b(_tt_jd(unix), 0.0, orbits.UNIX_JD, unix / _DAY_S, 0.0, 0.0)
    return np.einsum("mij,i->mj", terrestrial, place)


def _tt_jd(unix):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", erfa.ErfaWarning)  # leap seconds of the far future are not known
        whole, part = erfa.utctai(orbits.UNIX_JD, np.asarray(unix) / _DAY_S)
    return whole + (part + _TT_MINUS_TAI_DAYS)


def _unix(jd):
    return (np.asarray(jd) - orbits.UNIX_JD) * _DAY_S


def to_radec(unit):
    """RA (0 to 360) and Dec in degrees of vectors (m, 3)."""
    ra = geometry.wrap_ra(np.degrees(np.arctan2(unit[:, 1], unit[:, 0])))
    return ra, np.degrees(np.arctan2(unit[:, 2], np.hypot(unit[:, 0], unit[:, 1])))
