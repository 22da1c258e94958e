"""Simulated nights: a sky of known sources and odd objects, and depth-1 maps of it in the format of real ones.

The truth is drawn first and does not know the maps; every map is drawn from the seed and its own map_id, so a map
added to the list changes no other. All maps share one sky and one grid; each has its own scan, depth, noise,
pointing error and calibration error. Fluxes are mJy, map values mJy/sr, offsets arcsec, times unix seconds UTC.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from sotrplib import geometry, images, ingest, maps, skies, store, units
from sotrplib import truth as truths

_TRAIL_PIXELS = 13


class SimulationError(ValueError):
    """Options that cannot be simulated; names key, found, expected."""


@dataclass(frozen=True)
class MapErrors:
    """What is wrong with one map: pointing offset (measured minus true, east and north) and calibration factor."""

    ra_offset_arcsec: float
    dec_offset_arcsec: float
    calibration: float


def on_geometry(options):
    """Options whose centre, extent and pixel size are those of ``geometry_map``, if that is given.

    Everything that is simulated must be so from these: the truth and its catalogue as well as the maps.

    Raises
    ------
    maps.MapError
        If the file is missing or no map of the sky.
    """
    if not options["geometry_map"]:
        return options
    wcs = ingest.read_wcs(options["geometry_map"])
    shape = wcs.array_shape
    ra, dec = geometry.pix2sky(wcs, *((n - 1) / 2 for n in shape))
    dy, dx = np.degrees(skies.pixel_steps(shape, wcs))
    place = {"center_ra_deg": float(ra), "center_dec_deg": float(dec), "resolution_arcmin": 60 * dy}
    return options | place | {"width_deg": shape[1] * dx, "height_deg": shape[0] * dy}


def map_grid(options):
    """Shape (ny, nx) and WCS of every simulated map."""
    if options["geometry_map"]:
        wcs = ingest.read_wcs(options["geometry_map"])
        return wcs.array_shape, wcs
    height, width = options["height_deg"], options["width_deg"] / np.cos(np.radians(options["center_dec_deg"]))
    centre = options["center_ra_deg"], options["center_dec_deg"]
    return geometry.make_car(*centre, width, height, options["resolution_arcmin"])


def map_errors(map_id, options, seed):
    """Pointing and calibration errors of a map (:class:`MapErrors`), from the seed and its map_id alone."""
    rng = skies.rng_for(seed, map_id, "errors")
    east, north = options["pointing_rms_arcsec"] * rng.standard_normal(2)
    return MapErrors(float(east), float(north), float(1 + options["calibration_rms"] * rng.standard_normal()))


def map_scan(map_id, options, seed):
    """Geometry of the pass of one map (:class:`skies.Scan`), the same for all bands of an array."""
    instrument, array, _, time = map_id.split("_")
    rng = skies.rng_for(seed, instrument, array, time, "scan")
    tilt, curvature = rng.choice([-1, 1]) * rng.uniform(0.1, 0.3), rng.uniform(-0.1, 0.1)
    half_width = options["width_deg"] / 2 / np.cos(np.radians(options["center_dec_deg"]))
    centre = options["center_ra_deg"], options["center_dec_deg"]
    return skies.Scan(*centre, half_width, options["height_deg"] / 2, float(tilt), float(curvature))


def simulate_map(row, truth, band, beam, options, seed):
    """Simulate one map as a telescope would deliver it, before any filter.

    Parameters
    ----------
    row : mapping
        Row of the map table; its map_id decides the noise and the time.
    truth : DataFrame
        From :func:`truth.simulate_truth`.
    band : beams.BandInfo
        Band centre of the map.
    beam : beams.Beam
        Beam of the map.
    options, seed
        Section ``simulate`` (from :func:`on_geometry`) and seed of the configuration.

    Returns
    -------
    maps.InputMap
        signal = calibration * (CMB + sources) + noise in mJy/sr; weight the inverse variance of the white part of the
        noise; time in seconds after the reference time; unobserved pixels have signal 0, weight 0 and time NaN.
    """
    map_id = row["map_id"]
    shape, wcs = map_grid(options)
    scan, errors = map_scan(map_id, options, seed), map_errors(map_id, options, seed)
    time = _pass_times(scan, options)
    weight = np.where(np.isfinite(time), _simulate_weight(map_id, scan, band, options, seed), np.float32(0))
    sky = _simulate_cmb(band, beam, options, errors, seed) if options["cmb"] else np.zeros(shape, np.float32)
    objects = _visible(truth, row, _clock(scan, time, wcs), band, errors)
    sky += _paint(objects, shape, wcs, beam)
    noise = skies.noise_field(shape, wcs, noise_spectrum(map_id, options, seed), skies.rng_for(seed, map_id, "noise"))
    observed = weight > 0
    noise /= np.sqrt(np.where(observed, weight, 1))
    signal = np.where(observed, errors.calibration * sky + noise, 0).astype(np.float32)
    time = np.where(observed, time, np.float32(np.nan))
    return maps.InputMap("intensity_ivar", signal, weight, time, wcs, _map_info(row, band, scan, time))


def noise_spectrum(map_id, options, seed):
    """Spectrum C(ell_y, ell_x) of the noise of a map times the square root of its weight; 1 is white."""
    tilt = map_scan(map_id, options, seed).tilt
    angle = -np.degrees(np.arctan(tilt * np.cos(np.radians(options["center_dec_deg"]))))
    shape = {"knee_ell": options["noise_knee_ell"], "slope": options["noise_slope"]}
    return lambda ell_y, ell_x: skies.noise_spectrum(
        ell_y, ell_x, **shape, stretch=options["noise_stretch"], angle_deg=angle
    )


def simulate_polarisation(input_map, options, seed):
    """Q and U of a map, shape (2, ny, nx): white noise of twice the variance of T; None if not polarised."""
    if f"{input_map.info.array}_{input_map.info.band}" not in options["polarised"]:
        return None
    rng = skies.rng_for(seed, input_map.info.map_id, "polarisation")
    observed = input_map.weight > 0
    sigma = np.where(observed, np.sqrt(2 / np.where(observed, input_map.weight, 1)), 0)
    return (rng.standard_normal((2, *sigma.shape)) * sigma).astype(np.float32)


def write_depth1(prefix, input_map, *, unit="uK", gain=1.0, polarisation=None):
    """Write a map as ``{prefix}_map.fits``, ``_ivar.fits``, ``_time.fits`` and ``_info.hdf``, as depth-1 maps are.

    Parameters
    ----------
    prefix : path
        Start of the names of the four files.
    input_map : maps.InputMap
        Intensity in mJy/sr.
    unit : str
        Unit in the files (kept in BUNIT).
    gain : float
        What a reader must multiply the map by, as in the column of the map table.
    polarisation : ndarray (2, ny, nx), optional
        Q and U in mJy/sr: the map file then holds [T, Q, U].
    """
    name, power = units.normalize_unit(unit)
    if power != 1:
        raise SimulationError(f"{prefix}: unit {unit!r} of the map; expected an intensity such as K or uK")
    factor = units.intensity_factor(name, input_map.info.freq_ghz) * gain
    signal = input_map.signal if polarisation is None else np.concatenate([input_map.signal[None], polarisation])
    time = np.nan_to_num(input_map.time, nan=0.0)
    arrays = {"map": (signal / factor, name), "ivar": (input_map.weight * factor**2, f"{name}^-2"), "time": (time, "s")}
    for kind, (values, bunit) in arrays.items():
        _write_fits(f"{prefix}_{kind}.fits", values, input_map, bunit)
    store.write_info(f"{prefix}_info.hdf", input_map.info.info)


def _pass_times(scan, options):
    """Seconds after the reference time at which the pixels are seen, float32; NaN where ``time_map`` has none."""
    shape, wcs = map_grid(options)
    path = options["time_map"]
    if not path:
        return skies.scan_time(scan, *geometry.pix2sky(wcs, *np.indices(shape))).astype(np.float32)
    time = ingest.read_time_map(path, wcs, options["geometry_map"] or "the simulated map")
    latest = np.nanmax(time, initial=-np.inf)
    if not 0 < latest < ingest.ABSOLUTE_TIME_S:
        raise SimulationError(
            f"simulate.time_map: {path}: the latest time is {latest:g} s; expected seconds since the reference time of "
            "each map, 0 where unobserved: subtract the reference"
        )
    return time


def _clock(scan, time, wcs):
    """Function of RA and Dec: the time of the nearest pixel; where that is NaN, or off the map, the scan's."""

    def read(ra, dec):
        y, x = geometry.sky2pix(wcs, ra, dec, time.shape)
        on_map = geometry.inside(time.shape, y, x)
        row, column = (np.rint(np.where(on_map, p, 0)).astype(int) for p in (y, x))
        seen = np.where(on_map, time[row, column], np.nan)
        return np.where(np.isfinite(seen), seen, skies.scan_time(scan, ra, dec))

    return read


def _simulate_weight(map_id, scan, band, options, seed):
    """Inverse variance of the white noise, (mJy/sr)^-2."""
    name = map_id.split("_")[2]
    if name not in options["noise_uk_arcmin"]:
        known = ", ".join(options["noise_uk_arcmin"])
        raise SimulationError(f"simulate: noise_uk_arcmin: no band {name!r} of {map_id}, only {known}; add it")
    shape, wcs = map_grid(options)
    holes = {"n_holes": options["n_holes"], "hole_max_arcmin": options["hole_max_arcmin"]}
    depth = skies.scan_depth(scan, shape, wcs, skies.rng_for(seed, map_id, "depth"), **holes)
    pixel_arcmin = np.sqrt(np.prod(skies.pixel_steps(shape, wcs))) / units.ARCMIN
    sigma = options["noise_uk_arcmin"][name] / pixel_arcmin * units.intensity_factor("uK", band.freq_ghz)
    return depth / np.float32(sigma**2)


def _simulate_cmb(band, beam, options, errors, seed):
    """CMB of the common sky in mJy/sr, seen through the beam and shifted by the pointing error."""
    shape, wcs = map_grid(options)
    centre = options["center_ra_deg"], options["center_dec_deg"]
    moved = geometry.offset_position(*centre, errors.ra_offset_arcsec, errors.dec_offset_arcsec)
    shift = np.subtract(geometry.sky2pix(wcs, *moved, shape), geometry.sky2pix(wcs, *centre, shape))
    transfer = skies.sky_transfer(beam, skies.pixel_steps(shape, wcs), shift)
    kelvin = skies.gaussian_field(shape, wcs, skies.cmb_power, skies.rng_for(seed, "cmb"), transfer=transfer)
    return kelvin * np.float32(units.intensity_factor("K", band.freq_ghz))


def _visible(truth, row, clock, band, errors):
    """Measured positions and fluxes of the objects this map sees, each at the time its place is observed."""
    seen = truth["array"].isin(["", row["array"]]) & truth["band"].isin(["", row["band"]])
    objects = truth[seen].reset_index(drop=True)
    start = _reference_time(row)
    time = np.full(len(objects), start)
    for _ in range(3):
        time = start + clock(*truths.positions(objects, time))
    ra, dec = truths.positions(objects, time)
    ra, dec = geometry.offset_position(ra, dec, errors.ra_offset_arcsec, errors.dec_offset_arcsec)
    flux = truths.fluxes(objects, band.freq_ghz, time)
    return pd.DataFrame({"ra_deg": ra, "dec_deg": dec, "flux_mjy": flux, "shape": objects["shape"]})


def _paint(objects, shape, wcs, beam):
    """Map in mJy/sr of the objects of :func:`_visible`: through the beam, or as bare pixels that hold their flux."""
    columns = ["ra_deg", "dec_deg", "flux_mjy"]
    points = objects[objects["shape"] == "point"]
    image = skies.paint_point_sources(shape, wcs, *points[columns].to_numpy().T, beam)
    area = geometry.pixel_area_sr(shape, wcs)
    for thing in objects[objects["shape"] != "point"].itertuples():
        y, x = (round(float(v)) for v in geometry.sky2pix(wcs, thing.ra_deg, thing.dec_deg, shape))
        length = _TRAIL_PIXELS if thing.shape == "trail" else 1
        rows = y - length // 2 + np.arange(length)
        rows = rows[geometry.inside(shape, rows, x)]
        image[rows, x] += thing.flux_mjy / length / area[rows]
    return image


def _reference_time(row):
    """Reference time of a map in unix seconds: as in the map table, else as in its map_id."""
    return float(row.get("time_unix_s") or row["map_id"].rpartition("_")[2])


def _map_info(row, band, scan, time):
    start = _reference_time(row)
    labels = {name: row[name] for name in ("map_id", "instrument", "array", "band")}
    period = np.array([np.nanmin(time), np.nanmax(time)], float)
    info = _info_file(labels, scan, start, start + period)
    duration = float(period[1] - period[0])
    return maps.MapInfo(**labels, freq_ghz=band.freq_ghz, t_ref_unix_s=start, duration_s=duration, info=info)


def _info_file(labels, scan, start, period):
    """Content of the info file: as of SO depth-1 maps, angles in radians, the profile an arc through the centre."""
    dec = scan.dec_deg + np.linspace(-scan.half_height_deg, scan.half_height_deg, 100)
    ra = scan.ra_deg - skies.arc_offset(scan, scan.ra_deg, dec)
    corners = [[dec[0], scan.ra_deg + scan.half_width_deg], [dec[-1], scan.ra_deg - scan.half_width_deg]]
    return {
        "array": f"{labels['array']}_{labels['band']}",
        "box": np.radians(corners),
        "ids": [f"obs_{start:.0f}_{labels['array']}_111"],
        "period": period,
        "pid": 0,
        "profile": np.radians([dec, ra]),
        "t": start,
    }


def _write_fits(path, values, input_map, bunit):
    info = input_map.info
    telescope = {"solat": "SO LAT"}.get(info.instrument, info.instrument.upper())
    cards = {"BUNIT": bunit, "FREQ": info.band, "ARRAY": info.array, "TELESCOP": telescope}
    images.write_image(path, values, input_map.wcs, cards)
