"""Maps for the cost of a day: simulated once, kept under results/day, in the format of depth-1 maps of the SO LAT.

A map of area 1 is a pass over 850 square degrees, 13 million observed pixels of 0.5 arcmin, inside a CAR map of 29
million pixels, most of the rest of which nothing was observed in; [T, Q, U], inverse variance and time: 0.58 GB.
"""

import functools
import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scenes
from astropy.io import fits

from sotrplib import beams, configuration, geometry, mapindex, simulate, truth

SEED = 1
START = 1_763_085_600
ARRAYS = ("i1", "i3", "i4", "i5", "i6", "c1")
BANDS = (("f090", "f150"), ("f220", "f280"))
NOISE_UK_ARCMIN = {"f090": 75.0, "f150": 95.0, "f220": 250.0, "f280": 700.0}
CENTRE_DEG = 0.6, -20.0
PASS_DEG = 39.5, 25.0  # extent in RA and Dec of a pass of area 1; its ragged edges are inside
BOX_DEG = 72.0, 28.0  # and of the map around it
SOURCES_PER_DEG2 = 1.2
_DIGITS = 12


class Sky(NamedTuple):
    """What is simulated: the area in units of 850 square degrees, the number of maps, and whether there is anything."""

    area: float = 1.0
    n_maps: int = 4
    empty: bool = False


def make(folder, sky):
    """Folder of a simulated day below ``folder``: ``maps.csv``, ``catalog.csv``, ``ephemeris.csv`` and the maps.

    What is there already is kept: the name of the folder is a digest of all that decides its content.
    """
    options = simulate_options(sky)
    name = hashlib.blake2b(json.dumps([options, SEED, PASS_DEG, BOX_DEG]).encode(), digest_size=4).hexdigest()
    folder = Path(folder, f"sky_{name}")
    folder.mkdir(parents=True, exist_ok=True)
    options |= {"geometry_map": str(_geometry_map(folder / "geometry.fits", options, sky.area))}
    objects = None if sky.empty else truth.read_objects(scenes.ROOT / options["objects"])
    known = truth.simulate_truth(options, SEED, objects)
    truth.write_catalog(folder / "catalog.csv", known, options, SEED)
    truth.write_ephemeris(folder / "ephemeris.csv", known, options)
    rows = [_row(folder, *label) for label in labels(sky.n_maps)]
    for row in rows:
        if not Path(row["info_path"]).exists():
            _simulate(row, known, options)
    mapindex.write_map_table(folder / f"maps_{sky.n_maps}.csv", rows)
    return folder


def labels(n_maps):
    """(array, band, time) of the maps of a day: the six tubes in two bands, in the two others; then the next day."""
    of_a_day = [(array, band, k) for pair in BANDS for k, array in enumerate(ARRAYS) for band in pair]
    return [
        (array, band, START + 60 * k + 86_400 * (i // len(of_a_day)))
        for i in range(n_maps)
        for array, band, k in [of_a_day[i % len(of_a_day)]]
    ]


def simulate_options(sky):
    """Section ``simulate`` of the configuration for a sky."""
    own = configuration.read_yaml(scenes.ROOT / "config/config.yaml")["simulate"]
    side = np.sqrt(sky.area)
    ra, dec = CENTRE_DEG
    n_sources = round(SOURCES_PER_DEG2 * 850 * sky.area)
    return own | {
        "center_ra_deg": ra,
        "center_dec_deg": dec,
        "width_deg": round(float(PASS_DEG[0] * side * np.cos(np.radians(dec))), _DIGITS),
        "height_deg": round(float(PASS_DEG[1] * side), _DIGITS),
        "noise_uk_arcmin": NOISE_UK_ARCMIN,
        "polarised": [f"{array}_{band}" for pair in BANDS for band in pair for array in ARRAYS],
        "n_sources": 0 if sky.empty else n_sources,
        "start_unix_s": float(START),
        "n_holes": 0 if sky.empty else max(1, round(40 * sky.area)),
        "cmb": not sky.empty,
    }


def _geometry_map(path, options, area):
    """FITS file whose pixels are those of the CAR map that holds the pass."""
    if not path.exists():
        width, height = (extent * np.sqrt(area) for extent in BOX_DEG)
        centre = options["center_ra_deg"], options["center_dec_deg"]
        shape, wcs = geometry.make_car(*centre, width, height, options["resolution_arcmin"])
        fits.PrimaryHDU(np.zeros(shape, "u1"), wcs.to_header()).writeto(path)
    return path


def _row(folder, array, band, time):
    map_id = f"solat_{array}_{band}_{time}"
    paths = {key: str(folder / f"{map_id}_{kind}") for key, kind in _FILES.items()}
    row = {"map_id": map_id, "instrument": "solat", "array": array, "band": band, "form": "intensity_ivar"}
    return dict.fromkeys(mapindex.COLUMNS, "") | row | paths | {"unit": "K"}


_FILES = {"map_path": "map.fits", "weight_path": "ivar.fits", "time_path": "time.fits", "info_path": "info.hdf"}


@functools.cache
def _instruments():
    return beams.load_instruments(scenes.ROOT / "config/instruments.yaml")


def _simulate(row, known, options):
    """Write the files of one map; the info file is the last of them."""
    band = beams.band_info(_instruments(), row["instrument"], row["array"], row["band"], {})
    simulated = simulate.simulate_map(row, known, band, beams.band_beam(band), options, SEED)
    polarisation = simulate.simulate_polarisation(simulated, options, SEED)
    prefix = row["map_path"].removesuffix("_map.fits")
    simulate.write_depth1(prefix, simulated, unit=row["unit"], polarisation=polarisation)


def main():
    """Simulate a sky of stated area and number of maps below results/day, in a process of its own."""
    import sys

    area, n_maps, empty = json.loads(sys.argv[1])
    sys.stdout.write(str(make(scenes.ROOT / "results/day", Sky(area, n_maps, empty))) + "\n")


if __name__ == "__main__":
    main()
