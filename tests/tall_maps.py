"""Maps of many rows in their files, with sources of known place and flux, for the tests of strips."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from astropy.io import fits

from sotrplib import assembly, beams, configuration, geometry, mapindex, maps, skies, strips, tables

SCHEMA = configuration.read_yaml(Path(__file__).parents[1] / "config/schemas/config.schema.yaml")
CONFIG = configuration.resolve({}, SCHEMA)
PREPROCESS = CONFIG["preprocess_map"] | {"noise_zone_deg": 2.0, "band_rows": 120, "noise_taper_arcmin": 10.0}
MAP_ID = "solat_i1_f090_1763085600"
BEAM = beams.gaussian(2.05)
BAND = beams.BandInfo(90.0, 2.05, solid_angle_sr=beams.solid_angle_sr(BEAM))
SIGMA = 2e7  # mJy/sr a pixel: the flux error is about 3 mJy
MARGIN = 86  # rows: the pad of the bands and half a template
UNITS = {"map": "mJy/sr", "ivar": "(mJy/sr)^-2", "time": "s", "rho": "mJy^-1", "kappa": "mJy^-2"}
EPHEMERIDES = {"planets": False, "kernels": []}
SITE = (-22.96, -67.79, 5147.0)


class TallMap(NamedTuple):
    """Row of the map table, WCS, and the sources: pixels (n,) and fluxes in mJy (n,)."""

    row: dict
    wcs: object
    y: np.ndarray
    x: np.ndarray
    flux: np.ndarray

    def filter(self, path, strip_mpix, *, cut=None, row=(), **options):
        """Filter it into a file and read that back; ``row`` and ``options`` are changed of the usual ones."""
        source = make_source(self.row | dict(row), **options)
        filtered = assembly.filter_map(source, cut or assembly.Cut(), strip_mpix, path)
        filtered.write(path, {"status": "ok", "reason": ""})
        return maps.read_sky_map(path)


def make_source(row, **options):
    """What :func:`assembly.filter_map` takes of a row of the map table."""
    return assembly.Source(row, BAND, BEAM, PREPROCESS | options, EPHEMERIDES, SITE)


def make_row(folder):
    """Row of the map table of the files that :func:`write_images` has written."""
    labels = {"map_id": MAP_ID, "instrument": "solat", "array": "i1", "band": "f090", "form": "intensity_ivar"}
    files = {"map_path": "map", "weight_path": "ivar", "time_path": "time"}
    row = dict.fromkeys(mapindex.COLUMNS, "") | labels
    return row | {key: str(folder / f"{name}.fits") for key, name in files.items()}


def write_images(folder, wcs, images):
    """Write images by name (map in mJy/sr, ivar, time; or rho, kappa) as FITS files."""
    for name, values in images.items():
        header = wcs.to_header()
        header["BUNIT"] = UNITS[name]
        fits.writeto(folder / f"{name}.fits", np.asarray(values, "f4"), header, overwrite=True)


def make_catalog(wcs, y, x, flux):
    """Table ``catalog`` of sources at pixels of a map."""
    ra, dec = geometry.pix2sky(wcs, y, x)
    names = [f"s{k}" for k in range(len(ra))]
    columns = {"source_id": names, "source_name": names, "ra_deg": ra, "dec_deg": dec, "flux_mjy": flux}
    return tables.make("catalog", columns | {"flux_err_mjy": np.nan, "spectral_index": np.nan, "pos_err_arcsec": 1.5})


def cores(shape, strip_mpix):
    """Rows of the cores of the strips that a map is filtered in."""
    return [strip.core for strip in strips.plan(shape, strip_mpix, MARGIN, least_rows=240)]


def scatter_sources(rng, shape, flux, seams, seam_flux, *, spacing_pix=40):
    """One source in each cell of a grid, fluxes ``flux`` in turn, and some of ``seam_flux`` on and beside each seam."""
    axes = [np.arange(spacing_pix // 2, n - spacing_pix // 2, spacing_pix) for n in shape]
    y, x = (grid.ravel() + rng.uniform(-5, 5, grid.size) for grid in np.meshgrid(*axes, indexing="ij"))
    away = np.min([np.abs(y - seam) for seam in seams], axis=0) > spacing_pix / 2
    offsets = np.array([-0.5, -0.5 - 1e-9, -0.5 + 1e-9, -1.0, 0.0, -4.0, 3.0])
    columns = np.linspace(30, shape[1] - 30, len(offsets))
    y = np.concatenate([y[away], *(seam + offsets for seam in seams)])
    x = np.concatenate([x[away], *(columns for _ in seams)])
    cells = np.resize(flux, np.count_nonzero(away))
    return y, x, np.append(cells, np.resize(seam_flux, len(y) - len(cells))).astype(float)


def write_tall_map(folder, rng, shape, sources, *, observed=None, depth=1.0):
    """A map around RA 0 of correlated noise and sources (y, x, flux), with weight and time, as FITS files in a folder.

    ``depth`` (broadcast to the map) is the noise over that of SIGMA; ``observed`` (ny, nx) bool.
    """
    wcs = geometry.make_car(0.0, -20.0, shape[1] / 120, shape[0] / 120, 0.5)[1]
    noise = skies.noise_field(shape, wcs, lambda y, x: skies.noise_spectrum(y, x, knee_ell=2000, slope=3.0), rng)
    y, x, flux = (np.asarray(values, float) for values in sources)
    error = np.broadcast_to(SIGMA * np.asarray(depth, "f4"), shape)
    signal = noise * error + skies.paint_point_sources(shape, wcs, *geometry.pix2sky(wcs, y, x), flux, BEAM)
    time = np.broadcast_to(10 + np.arange(shape[0])[:, None] / 10, shape)
    images = {"map": signal, "ivar": error**-2.0, "time": time}
    seen = np.ones(shape, bool) if observed is None else observed
    write_images(folder, wcs, {name: np.where(seen, values, 0) for name, values in images.items()})
    return TallMap(make_row(folder), wcs, y, x, flux)
