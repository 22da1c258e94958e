"""A map of many rows in its FITS files, with sources of known place and flux, for the tests of strips."""

from typing import NamedTuple

import numpy as np
from astropy.io import fits
from test_preprocessing import OPTIONS

from sotrplib import assembly, beams, geometry, mapindex, skies, tables

MAP_ID = "solat_i1_f090_1763085600"
BEAM = beams.gaussian(2.05)
BAND = beams.BandInfo(90.0, 2.05, solid_angle_sr=beams.solid_angle_sr(BEAM))
PREPROCESS = OPTIONS | {"noise_zone_deg": 2.0, "band_rows": 120, "noise_taper_arcmin": 10.0}
SIGMA = 2e7  # mJy/sr a pixel: the flux error is about 3 mJy
EPHEMERIDES = {"planets": False, "kernels": []}
SITE = (-22.96, -67.79, 5147.0)


class TallMap(NamedTuple):
    """Row of the map table, WCS, and the sources: pixels (n,) and fluxes in mJy (n,)."""

    row: dict
    wcs: object
    y: np.ndarray
    x: np.ndarray
    flux: np.ndarray

    def catalog(self, chosen=slice(None)):
        """Table ``catalog`` of the chosen sources."""
        ra, dec = geometry.pix2sky(self.wcs, self.y[chosen], self.x[chosen])
        names = np.array([f"s{k}" for k in range(len(self.y))])[chosen]
        unknown = {"flux_err_mjy": np.nan, "spectral_index": np.nan, "pos_err_arcsec": 1.5}
        columns = {"source_id": names, "source_name": names, "ra_deg": ra, "dec_deg": dec}
        return tables.make("catalog", columns | {"flux_mjy": self.flux[chosen]} | unknown)

    def source(self, **options):
        """What :func:`assembly.filter_map` takes of it."""
        return assembly.Source(self.row, BAND, BEAM, PREPROCESS | options, EPHEMERIDES, SITE)


def make_wcs(shape, dec_deg=-20.0, ra_deg=0.0):
    return geometry.make_car(ra_deg, dec_deg, shape[1] / 120, shape[0] / 120, 0.5)[1]


def write_tall_map(folder, rng, shape, y, x, flux, *, observed=None, depth=1.0, dec_deg=-20.0):
    """A map of correlated noise and sources at pixels (y, x), with weight and time, as FITS files in a folder.

    ``depth`` (broadcast to the map) is the noise over that of SIGMA; ``observed`` (ny, nx) bool.
    """
    wcs = make_wcs(shape, dec_deg)
    unit = skies.noise_field(shape, wcs, lambda ly, lx: skies.noise_spectrum(ly, lx, knee_ell=2000, slope=3.0), rng)
    signal = unit * SIGMA * depth + skies.paint_point_sources(shape, wcs, *geometry.pix2sky(wcs, y, x), flux, BEAM)
    ivar = np.broadcast_to(1 / (SIGMA * np.asarray(depth, "f4")) ** 2, shape)
    time = np.broadcast_to(10 + np.arange(shape[0])[:, None] / 10, shape)
    images = {"map": (signal, "mJy/sr"), "ivar": (ivar, "(mJy/sr)^-2"), "time": (time, "s")}
    for name, (values, bunit) in images.items():
        values = values if observed is None else np.where(observed, values, 0)
        header = wcs.to_header()
        header["BUNIT"] = bunit
        fits.writeto(folder / f"{name}.fits", np.asarray(values, "f4"), header, overwrite=True)
    paths = {"map_path": "map", "weight_path": "ivar", "time_path": "time"}
    labels = {"map_id": MAP_ID, "instrument": "solat", "array": "i1", "band": "f090", "form": "intensity_ivar"}
    row = dict.fromkeys(mapindex.COLUMNS, "") | labels
    row |= {key: str(folder / f"{name}.fits") for key, name in paths.items()}
    return TallMap(row, wcs, np.asarray(y, float), np.asarray(x, float), np.asarray(flux, float))
