"""Maps as read (:mod:`ingest`), and the filtered map that all later stages share.

A filtered map is a :class:`SkyMap`, (rho, kappa, time, mask) with its template, and lives in one HDF5 file.
"""

import dataclasses
import os
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from sotrplib import boxes, geometry, store
from sotrplib import template as templates
from sotrplib.template import Template

_kept = []  # while :func:`keep_last` holds: a dict of the map that was read last, by its path and time stamp
_BLOCK_ROWS = 128  # rows converted at a time, few enough to stay in the cache
_IMAGES = {
    "rho": {"unit": "1/mJy"},
    "kappa": {"unit": "1/mJy2"},
    "mask": {"description": "bits of tables.MASK_BITS"},
    "time": {"unit": "s", "description": "since t_ref_unix_s of info"},
}


class MapError(ValueError):
    """A map that cannot be used; the message names file, found, expected and cure."""


class EmptyMapError(MapError):
    """A map, or a part of one, of which nothing is observed."""


@dataclass(frozen=True)
class MapInfo:
    """What a map is.

    ``t_ref_unix_s`` is the zero of the map's times, ``duration_s`` the length of the pass (None if not known),
    ``info`` the content of its info file and what was noted on reading (``n_sanitised``).
    """

    map_id: str
    instrument: str
    array: str
    band: str
    freq_ghz: float
    t_ref_unix_s: float
    duration_s: float | None = None
    info: dict = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class InputMap:
    """A map as read.

    Attributes
    ----------
    form : {"intensity_ivar", "filtered"}
    signal : array (ny, nx) float32
        mJy/sr, or rho in 1/mJy for a filtered map; 0 where unobserved.
    weight : array (ny, nx) float32
        Inverse variance in (mJy/sr)^-2, or kappa in mJy^-2; 0 where unobserved.
    time : array (ny, nx) float32 or None
        Seconds since ``info.t_ref_unix_s``; NaN where not known.
    wcs : astropy.wcs.WCS
    info : MapInfo
    template : template.Template or None
        Shape of a point source in a filtered map, if its file names it.
    """

    form: str
    signal: np.ndarray
    weight: np.ndarray
    time: np.ndarray | None
    wcs: object
    info: MapInfo
    template: Template | None = None


@dataclass(frozen=True, eq=False)
class SkyMap:
    """A filtered map: rho [1/mJy], kappa [mJy^-2], time, mask, each (ny, nx), and what is needed to read it.

    ``time`` is in seconds since ``info.t_ref_unix_s`` (NaN where not known), or None; ``mask`` holds the bits of
    :data:`tables.MASK_BITS`; rho = kappa = 0 where unobserved.
    """

    rho: np.ndarray
    kappa: np.ndarray
    time: np.ndarray | None
    mask: np.ndarray
    wcs: object
    info: MapInfo
    template: Template


def flux(skymap):
    """Flux rho / kappa in mJy, shape (ny, nx); NaN where unobserved."""
    return _by_rows(lambda rho, kappa: rho / kappa, skymap)


def flux_err(skymap):
    """One-sigma error of the flux, kappa^-1/2, in mJy; NaN where unobserved."""
    return _by_rows(lambda rho, kappa: 1 / np.sqrt(kappa), skymap)


def snr(skymap):
    """Signal to noise ratio rho / kappa^1/2; NaN where unobserved."""
    return _by_rows(lambda rho, kappa: rho / np.sqrt(kappa), skymap)


def _by_rows(function, skymap):
    """A function of rho and kappa, float32, NaN where kappa is not positive; some rows at a time, for the cache."""
    result = np.empty(skymap.rho.shape, np.float32)
    for start in range(0, len(result), _BLOCK_ROWS):
        rows = slice(start, start + _BLOCK_ROWS)
        with np.errstate(invalid="ignore", divide="ignore"):
            result[rows] = function(skymap.rho[rows], skymap.kappa[rows])
        result[rows][~(skymap.kappa[rows] > 0)] = np.nan
    return result


def write_sky_map(path, skymap, attrs=None, *, more_arrays=None, frames=None):
    """Write a filtered map to HDF5.

    ``attrs`` are further attributes of the root (status, provenance, ...), ``more_arrays`` and ``frames`` further
    images and tables, as for :func:`store.write`.
    """
    images = {"rho": skymap.rho, "kappa": skymap.kappa, "mask": skymap.mask}
    arrays = {f"maps/{name}": (values, _IMAGES[name]) for name, values in images.items()}
    arrays |= _template_arrays(skymap.template)
    if skymap.time is not None:
        arrays["maps/time"] = (skymap.time, _IMAGES["time"])
    own = _own_attrs(skymap.info, skymap.wcs, skymap.rho.shape)
    store.write(path, attrs={**own, **(attrs or {})}, arrays=arrays | (more_arrays or {}), frames=frames)
    if _kept:
        images |= {} if skymap.time is None else {"time": skymap.time}
        _keep(path, {name: np.ascontiguousarray(image) for name, image in images.items()})


@contextmanager
def keep_last():
    """Keep the map that was written or read last, whole, in memory: who reads it gets the same one, not to be changed.

    A context manager, for a process that does all stages of a map.
    """
    _kept.append({})
    try:
        yield
    finally:
        _kept.clear()


class SkyMapDraft:
    """The file of a filtered map that is written some rows at a time; a context as :class:`store.Draft`.

    Parameters
    ----------
    path : path
        Final name.
    wcs : astropy.wcs.WCS
        Of the map, with its shape in ``array_shape``.
    has_time : bool
        Whether the times of the pixels are known.
    """

    def __init__(self, path, wcs, *, has_time):
        types = {"rho": "f4", "kappa": "f4", "mask": "u1"} | ({"time": "f4"} if has_time else {})
        images = {f"maps/{name}": (wcs.array_shape, dtype, _IMAGES[name]) for name, dtype in types.items()}
        self._wcs, self._names, self._draft = wcs, list(types), store.Draft(path, images)

    def put(self, first_row, images):
        """Write rows of all images (a mapping with rho, kappa, mask and, where known, time) from a row on."""
        for name in self._names:
            self._draft.put(f"maps/{name}", first_row, images[name])

    def finish(self, info, template, attrs, *, more_arrays=None, frames=None):
        """Write all else of a filtered map, as :func:`write_sky_map` would, and give the file its name."""
        arrays = _template_arrays(template) | (more_arrays or {})
        own = _own_attrs(info, self._wcs, self._wcs.array_shape)
        self._draft.finish(attrs=own | attrs, arrays=arrays, frames=frames)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._draft.__exit__(*error)


def _own_attrs(info, wcs, shape):
    return {"map_id": info.map_id, "wcs": geometry.wcs_to_text(wcs, shape), "info": dataclasses.asdict(info)}


def _template_arrays(template):
    edges = {"description": "first row of each band of rows, and the end"}
    return {
        "template/values": (template.values, {"description": "[band, row, column], 1 at the centre"}),
        "template/row_edges": (template.row_edges, edges),
        "template/step_arcmin": (template.step_arcmin, {"unit": "arcmin", "description": "pixel size (dy, dx)"}),
    }


def read_sky_map(path, window=None, *, template=None, with_time=True):
    """Read a filtered map, or the part of it in ``window`` (rows, columns: two slices with start and stop).

    ``template`` is that of the whole map where it was read before: its tables serve all windows. Without ``with_time``
    the time of the pixels may be left out.

    Raises
    ------
    MapError
        If the file records a failed map.
    """
    if window is not None or not _kept:
        return _read_sky_map(path, window, template, with_time)
    key = _key_of(path)
    if key not in _kept[0]:
        _keep(path)
    return _kept[0][key]


def _keep(path, images=None):
    """Keep the map of a file, of which the images may be at hand."""
    _kept[0] = {_key_of(path): _without_writing(_read_sky_map(path, None, None, True, images))}


def _key_of(path):
    return str(path), os.stat(path).st_mtime_ns


def _without_writing(skymap):
    for image in (skymap.rho, skymap.kappa, skymap.time, skymap.mask):
        if image is not None:
            image.setflags(write=False)
    return skymap


def _read_sky_map(path, window, template, with_time, images=None):
    attrs = _read_usable(path)
    whole = geometry.text_to_wcs(attrs["wcs"])
    window = window or tuple(slice(0, n) for n in whole.array_shape)
    has_time = with_time and "maps/time" in store.list_contents(path)
    names = ("rho", "kappa", "mask", *(["time"] if has_time else []))
    images = images or {name: store.read_array(path, f"maps/{name}", window) for name in names}
    template, first = template or read_template(path), window[0].start or 0
    return SkyMap(
        rho=images["rho"],
        kappa=images["kappa"],
        time=images.get("time"),
        mask=images["mask"],
        wcs=geometry.slice_wcs(whole, window),
        info=MapInfo(**attrs["info"]),
        template=templates.select_bands(template, range(len(template.values)), template.row_edges - first),
    )


def read_header(path):
    """WCS, with the shape of the map, and :class:`MapInfo` of a filtered map.

    Raises
    ------
    MapError
        If the file records a failed map.
    """
    attrs = _read_usable(path)
    return geometry.text_to_wcs(attrs["wcs"]), MapInfo(**attrs["info"])


def read_times(path, most_mpix=np.inf):
    """Time, WCS and :class:`MapInfo` of a filtered map, without its other images; the time may be None.

    The time of a map of more than ``most_mpix`` million pixels is a :class:`store.Image`. Raises MapError as
    :func:`read_header`.
    """
    wcs, info = read_header(path)
    if "maps/time" not in store.list_contents(path):
        return None, wcs, info
    large = np.prod(wcs.array_shape, dtype=float) > most_mpix * 1e6
    return (store.Image if large else store.read_array)(path, "maps/time"), wcs, info


def _read_usable(path):
    """Attributes of a filtered map that did not fail."""
    attrs = store.read_attrs(path)
    if attrs.get("status") == "failed":
        raise MapError(f"{path}: records a failed map ({attrs.get('reason')}); there is nothing to read")
    return attrs


def cut_sky_map(skymap, box, margin_arcmin):
    """The part of a filtered map that :func:`ingest.read_map` would have read of it.

    Raises
    ------
    MapError
        If nothing of the map is in the box.
    """
    return cut_window(skymap, box_window(skymap.info.map_id, skymap.wcs, box, margin_arcmin))


def cut_window(skymap, window):
    """The part of a filtered map in a window (two slices)."""
    template, time = skymap.template, None if skymap.time is None else skymap.time[window]
    arrays = {name: getattr(skymap, name)[window] for name in ("rho", "kappa", "mask")}
    edges = np.asarray(template.row_edges) - window[0].start
    part = Template(template.values, edges, template.step_arcmin)
    return dataclasses.replace(skymap, **arrays, time=time, wcs=geometry.slice_wcs(skymap.wcs, window), template=part)


def read_template(path):
    """Template of a filtered map, without the map."""
    return Template(*(store.read_array(path, f"template/{name}") for name in ("values", "row_edges", "step_arcmin")))


def box_window(path, wcs, box, margin_arcmin):
    """Rows and columns (two slices) of a box with its margin, all of the map without one; MapError off the map."""
    if box is None:
        return tuple(slice(0, n) for n in wcs.array_shape)
    try:
        return boxes.find_slices(wcs.array_shape, wcs, box, margin_arcmin)
    except ValueError as error:
        raise MapError(f"{path}: {error}") from error
