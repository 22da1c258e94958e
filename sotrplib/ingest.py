"""Reading maps: every supported form becomes one.

A map enters as FITS images in one of the forms of :data:`mapindex.FORMS` and leaves :func:`read_map` as a
:class:`maps.InputMap` in fixed units with everything unusable set to unobserved (weight 0).
"""

import logging
import math
from typing import NamedTuple

import numpy as np

from sotrplib import boxes, forms, geometry, images, store
from sotrplib.maps import EmptyMapError, InputMap, MapError, MapInfo, box_window
from sotrplib.template import Template

log = logging.getLogger(__name__)

ABSOLUTE_TIME_S = 1e8  # larger times are unix times, not times since the reference
_BLOCK_ROWS = 128  # rows converted at a time, few enough to stay in the cache
_SURVEY_ROWS = 256  # of a map too large for memory that are looked at at a time
_WORTH_CUTTING = 0.9  # maps are cut to what is observed if less than this part of the pixels is left
_WCS_TOLERANCE = 0.01  # pixels between the WCS of a map and of its weight
_MOST_PIXELS = 2**31  # of a map as read; the sky has 0.93e9 of half an arcminute


class Survey(NamedTuple):
    """What a map holds, found without holding it: see :func:`survey`.

    ``window`` is the rows and columns of the files (two slices) that hold the map, ``wcs`` that of all of the files,
    ``weights`` the weights of observed pixels on a regular grid (n,), ``n_sanitised`` the number of bad pixels.
    """

    window: tuple
    wcs: object
    weights: np.ndarray
    n_sanitised: int


def unwatched(path):
    """In place of a function that gives a watch of a file: none."""


def read_map(row, band, *, box=None, margin_arcmin=60.0, window=None, watch=unwatched):
    """Read one map of the map table.

    Parameters
    ----------
    row : mapping
        One row, keys of :data:`mapindex.COLUMNS`.
    band : beams.BandInfo
        For the frequency at which kelvin are converted, and the solid angle for units per beam.
    box : mapping, optional
        ``ra_min_deg, ra_max_deg, dec_min_deg, dec_max_deg``; only this part of the files is read.
    margin_arcmin : float
        Added to the box on all sides.
    window : (slice, slice), optional
        Exactly these rows and columns of the files, in place of a box.
    watch : function
        Of a path; gives the :class:`digests.Watch` that is shown what is read of that file, or None.

    Returns
    -------
    InputMap
        ``intensity_ivar`` stays so, with the gain applied; the other forms become ``filtered``. Pixels whose value
        or weight is not finite, or whose weight is negative, are unobserved and counted in
        ``info.info["n_sanitised"]``.

    Raises
    ------
    MapError
        If a file is missing, no FITS image, truncated, of another shape or sky than the map, without a known unit or
        a celestial projection in RA and Dec, or if no pixel is observed or every observed pixel is 0.

    Notes
    -----
    Where most of the files is unobserved sky beside the map, only the rows and columns of the map are read.

    Of [T, Q, U] and other stacks the first plane is used. ``flux_snr``: kappa = (snr / flux)^2, rho = flux * kappa.
    Where both are 0 kappa cannot be known: a pixel whose 8 neighbours are all observed takes their mean kappa (a flux
    that is 0 by chance), others are unobserved. Where they differ in sign, or only one is 0, the pixel is unobserved.
    """
    files = _read_headers(row, band)
    path, wcs = row["map_path"], files.wcs
    if window is None:
        window = box_window(path, wcs, box, margin_arcmin)
        _check_size(path, geometry.window_shape(window))
        window, weight = _read_weight(row["weight_path"], window, watch)
    else:
        weight = _read_image(row["weight_path"], window, watch)
    signal, cut = _read_image(path, window, watch), geometry.slice_wcs(wcs, window)
    signal, weight, n_bad = forms.convert(signal, weight, files.factors, row["form"])
    _check_observed(_named(row, box), weight.size, int(np.count_nonzero(weight)), signal.any())
    info, time_zero = _map_info(row, band, files.header, files.time_header, n_bad)
    time = None
    if row.get("time_path"):
        time = _times(_read_image(row["time_path"], window, watch), info.t_ref_unix_s, time_zero)
    form = "intensity_ivar" if row["form"] == "intensity_ivar" else "filtered"
    template = read_template(path, window) if form == "filtered" else None
    return InputMap(form, signal, weight, time, cut, info, template)


def find_window(row, *, box=None, margin_arcmin=60.0):
    """Rows and columns (two slices) of a map's files that :func:`read_map` looks at, from the header."""
    path = row["map_path"]
    return box_window(path, _equatorial_wcs(path, images.read_image_header(path)), box, margin_arcmin)


def survey(row, band, window, *, grid=1, watch=unwatched):
    """Look through the files of a map, some rows at a time.

    Parameters
    ----------
    row, band, watch
        As for :func:`read_map`; the same errors are raised.
    window : (slice, slice)
        Rows and columns of the files to look at.
    grid : int
        Pixels from one to the next of which the weight is kept.

    Returns
    -------
    Survey
    """
    files, found = _read_headers(row, band), []
    _check_size(row["map_path"], geometry.window_shape(window))
    for first in range(window[0].start, window[0].stop, _SURVEY_ROWS):
        rows = slice(first, min(first + _SURVEY_ROWS, window[0].stop))
        found.append(_survey_rows(row, files, (rows, window[1]), grid, watch))
    n_observed, n_bad, any_signal = (sum(part[name] for part in found) for name in ("observed", "bad", "signal"))
    _check_observed(_named(row), math.prod(geometry.window_shape(window)), n_observed, any_signal)
    used_rows = np.concatenate([part["rows"] for part in found])
    used_columns = np.logical_or.reduce([part["columns"] for part in found])
    window = _used_window(window, used_rows, used_columns) or window
    return Survey(window, files.wcs, np.concatenate([part["weights"] for part in found]), n_bad)


def _survey_rows(row, files, window, grid, watch):
    """What a :class:`Survey` needs of some rows of a map; the signal is read only where there is any weight."""
    weight = _read_image(row["weight_path"], window, watch)
    used = _is_used(weight)
    found = {"rows": used.any(axis=1), "columns": used.any(axis=0), "observed": 0, "bad": 0, "signal": False}
    if not used.any():
        return found | {"weights": np.zeros(0, "f4")}
    signal, weight, n_bad = forms.convert(
        _read_image(row["map_path"], window, watch), weight, files.factors, row["form"]
    )
    kept = weight[-window[0].start % grid :: grid, ::grid]
    found |= {"observed": int(np.count_nonzero(weight)), "bad": n_bad, "signal": bool(signal.any())}
    return found | {"weights": kept[kept > 0]}


class _Headers(NamedTuple):
    """Headers of the files of a map: signal and time, the WCS, and the factors of signal and weight."""

    header: object
    time_header: object
    wcs: object
    factors: tuple


def _read_headers(row, band):
    path = row["map_path"]
    header = images.read_image_header(path)
    wcs = _equatorial_wcs(path, header)
    weight_header = _companion_header(row["weight_path"], path, wcs)
    time_header = _companion_header(row["time_path"], path, wcs) if row.get("time_path") else {}
    return _Headers(header, time_header, wcs, forms.factors(row, band, header, weight_header))


def read_wcs(path):
    """WCS of the first image in a FITS file, its shape in ``array_shape``; errors as of :func:`read_map`."""
    return _equatorial_wcs(path, images.read_image_header(path))


def read_outline(path):
    """Box on the sky around a FITS map (:func:`boxes.outline`), from its header."""
    wcs = read_wcs(path)
    return boxes.outline(wcs.array_shape, wcs)


def read_time_map(path, wcs, map_path):
    """Times of a FITS file on the pixels of a map (``map_path``, for messages), as they are; NaN where it holds 0."""
    _companion_header(path, map_path, wcs)
    return _times(images.read_image(path, tuple(slice(0, n) for n in wcs.array_shape)), 0.0, 0.0)


def read_template(path, window):
    """Template in the file of a filtered map, for the rows of ``window``; None if there is none."""
    try:
        template = images.read_template(path)
    except images.UNREADABLE as error:
        raise MapError(str(error)) from error
    if template is None:
        return None
    return Template(template.values, template.row_edges - window[0].start, template.step_arcmin)


def _equatorial_wcs(path, header):
    try:
        wcs = geometry.header_to_wcs(header)
    except images.UNREADABLE as error:
        raise MapError(f"{path}: has no usable WCS ({' '.join(str(error).split())}); correct the header") from error
    frame = wcs.wcs.radesys or "ICRS"
    if wcs.wcs.lngtyp != "RA" or frame not in ("ICRS", "FK5"):
        raise MapError(f"{path}: is in {wcs.wcs.lngtyp} {frame}; expected RA, Dec in ICRS or FK5: reproject the map")
    if not np.all(np.greater(geometry.pixel_scales(wcs.array_shape, wcs), 0)):
        raise MapError(
            f"{path}: has rows beyond the pole or off the sky; expected pixels on the sky: correct the header"
        )
    return wcs


def _check_size(path, shape):
    """Refuse to read more than any map of the sky holds."""
    if math.prod(shape) > _MOST_PIXELS:
        raise MapError(
            f"{path}: {shape[0]} x {shape[1]} pixels to be read; expected at most {_MOST_PIXELS}: correct the header "
            "or cut a box (maps.box)"
        )


def _companion_header(path, map_path, wcs):
    """Header of a weight or time file that must cover the same pixels as the map."""
    header = images.read_image_header(path)
    shape = header["NAXIS2"], header["NAXIS1"]
    if shape != wcs.array_shape:
        raise MapError(f"{path}: shape {shape}; expected {wcs.array_shape} as in {map_path}: give the file of this map")
    if "CTYPE1" in header:
        corners = np.array([[0, 0], [shape[0] - 1, shape[1] - 1]]).T
        other = geometry.pix2sky(_equatorial_wcs(path, header), *corners)
        shift = np.abs(np.array(geometry.sky2pix(wcs, *other)) - corners)
        if np.nanmax(shift, initial=0) > _WCS_TOLERANCE:
            raise MapError(
                f"{path}: lies {np.nanmax(shift):.3g} pixels off {map_path}; expected the same WCS: "
                "give the file of this map"
            )
    return header


def _read_image(path, window, watch):
    return images.read_image(path, window, watch(path))


def _read_weight(path, window, watch):
    """Weights in a window, or in those rows and columns of it that have any if these are much fewer; and where."""
    weight = _read_image(path, window, watch)
    used = _is_used(weight)
    moved = _used_window(window, used.any(axis=1), used.any(axis=0))
    if moved is None:
        return window, weight
    part = tuple(slice(m.start - w.start, m.stop - w.start) for m, w in zip(moved, window, strict=True))
    return moved, np.ascontiguousarray(weight[part])


def _is_used(weight):
    used = weight != 0
    if weight.dtype.kind == "f":
        used &= np.isfinite(weight)
    return used


def _used_window(window, rows, columns):
    """The part of a window around its used rows and columns (bool), None if that is most of it or nothing."""
    if not rows.any():
        return None
    ends = [np.flatnonzero(used)[[0, -1]] for used in (rows, columns)]
    part = tuple(slice(w.start + int(e[0]), w.start + int(e[1]) + 1) for w, e in zip(window, ends, strict=True))
    sizes = [math.prod(geometry.window_shape(cut)) for cut in (part, window)]
    return part if sizes[0] <= _WORTH_CUTTING * sizes[1] else None


def _named(row, box=None):
    return f"{row['map_path']} with {row['weight_path']}" + (" inside the box" if box else "")


def _check_observed(where, n_pixels, n_observed, any_signal):
    if n_observed == 0:
        raise EmptyMapError(
            f"{where}: none of {n_pixels} pixels is observed; expected some finite values with positive weight: "
            "leave the map out"
        )
    if not any_signal:
        raise EmptyMapError(f"{where}: all {n_observed} observed pixels are 0; expected a signal: leave the map out")


def _map_info(row, band, header, time_header, n_bad):
    """MapInfo, and the zero of the time map in unix seconds."""
    info = _read_info(row)
    trefs = [_number(h.get("TREF"), row["map_path"], "TREF") for h in (time_header, header)]
    stated = [row.get("time_unix_s") or None, info.get("t"), *trefs, row["map_id"].rpartition("_")[2]]
    stated = [_number(value, row["map_id"], "reference time") for value in stated]
    t_ref = next(value for value in stated if value is not None)
    time_zero = next(value for value in (trefs[0], stated[1], trefs[1], t_ref) if value is not None)
    period = np.ravel(info.get("period", []))
    duration = float(period[1] - period[0]) if period.size == 2 else None
    labels = {name: row[name] for name in ("map_id", "instrument", "array", "band")}
    notes = {**info, "n_sanitised": n_bad}
    return MapInfo(**labels, freq_ghz=band.freq_ghz, t_ref_unix_s=t_ref, duration_s=duration, info=notes), time_zero


def _number(value, where, what):
    """``value`` as a float, None if it is None."""
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = np.nan
    if not np.isfinite(number):
        raise MapError(f"{where}: {what} is {value!r}; expected unix seconds")
    return number


def _read_info(row):
    """Content of the info file as plain values; empty without one."""
    if not row.get("info_path"):
        return {}
    try:
        values = store.read_info(row["info_path"])
    except store.StoreError as error:
        raise MapError(f"{row['map_id']}: {error}; or leave info_path empty in the map table") from error
    info = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values.items()}
    label = str(info.get("array", ""))
    if "_" in label and label.lower() != f"{row['array']}_{row['band']}":
        log.warning("%s: array is %s, the map table says %s_%s", row["info_path"], label, row["array"], row["band"])
    return info


def _times(times, t_ref, time_zero):
    """Times as read in seconds since ``t_ref``, NaN where the file holds 0 (unhit) or no finite number."""
    absolute = np.any((times > ABSOLUTE_TIME_S) & (times < np.inf))
    shift = -t_ref if absolute else time_zero - t_ref
    result = np.empty(times.shape, np.float32)
    for start in range(0, len(times), _BLOCK_ROWS):
        part = times[start : start + _BLOCK_ROWS]
        moved = part + np.float64(shift) if shift else part
        result[start : start + _BLOCK_ROWS] = np.where((part != 0) & np.isfinite(part), moved, np.nan)
    return result
