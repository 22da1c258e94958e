"""What it costs to measure all candidates in all maps that cover them: at first, the night after, with one map more.

    python tests/benchmarks/revisiting.py [--maps 100 1000] [--candidates 20]

The maps are one filtered field of 10 x 10 degrees under many names (hard links), every one of which covers all
candidates, as many as a year of a survey has in a field. Each candidate was found in a few maps. The rule runs in a
fresh process as in the workflow; the second time nothing has changed, the third time there is one map more, with a
candidate of its own.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import merges
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from filtered_skies import filtered_noise, filtered_sources, make_sky_map, make_template  # noqa: E402

from sotrplib import geometry, maps, pointing, store, summaries, tables  # noqa: E402

SHAPE, KNEE = (1200, 1200), 0.02
FLUX_ERR, SNR = 5.0, 20.0
START = 1_760_100_000.0
N_FOUND = 3  # maps in which the search has found a candidate


def main(arguments=None):
    """Print one row a number of maps and night."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--maps", type=int, nargs="+", default=[100, 1000], help="numbers of maps")
    parser.add_argument("--candidates", type=int, default=20, help="candidates that each map covers")
    options = parser.parse_args(arguments)
    sys.stdout.write("| maps | candidates | night | wall [s] | CPU [s] | memory [MB] | written [MB] |\n")
    sys.stdout.write("|---" * 7 + "|\n")
    for n_maps in options.maps:
        with tempfile.TemporaryDirectory(prefix="revisiting") as folder:
            places = write_field(Path(folder), options.candidates + 1)
            for night, n in (("first", n_maps), ("nothing new", n_maps), ("one map more", n_maps + 1)):
                link_maps(Path(folder), places, merges.map_ids(n), n_maps)
                cost = merges.run_rule(Path(folder), "confirm_candidates", merges.map_ids(n))
                sys.stdout.write(f"| {n} | {options.candidates} | {night} | {cost} |\n")
                sys.stdout.flush()


def write_field(folder, n_candidates):
    """Files of one map below ``field``, and the places of the candidates in it: two arrays (n,), degrees."""
    rng = np.random.default_rng(1)
    y, x = rng.uniform(60, SHAPE[0] - 60, (2, n_candidates))
    image = filtered_noise(SHAPE, rng, knee=KNEE)
    image += filtered_sources(SHAPE, y, x, np.full(n_candidates, SNR), knee=KNEE)
    sky = make_sky_map(image, make_template(n_rows=SHAPE[0], knee=KNEE), kappa=FLUX_ERR**-2)
    names = {stage: folder / "field" / f"{stage}.h5" for stage in ("preprocessed", "pointing", "forced_photometry")}
    maps.write_sky_map(names["preprocessed"], sky, {"status": "ok", "reason": ""})
    store.write(names["pointing"], attrs={"pointing": pointing.to_dict(pointing.PointingModel())})
    store.write(names["forced_photometry"], frames={"forced": ("forced", tables.empty("forced"))})
    store.write(folder / "field" / "detections.h5", frames={"detections": ("detections", tables.empty("detections"))})
    return geometry.pix2sky(sky.wcs, y, x)


def link_maps(folder, places, ids, n_first):
    """The field under the names of maps, and what the search has found in each; those that are there stay.

    All but the last of the places are found in the first maps, the last one in the map after ``n_first`` others.
    """
    n_old = len(places[0]) - 1
    for k, map_id in enumerate(ids):
        path = folder / f"results/sifted/{map_id}.h5"
        if path.exists():
            continue
        for stage in ("preprocessed", "pointing", "forced_photometry", "detections"):
            (folder / "results" / stage).mkdir(parents=True, exist_ok=True)
            os.link(folder / f"field/{stage}.h5", folder / f"results/{stage}/{map_id}.h5")
        own = k % n_old if k < N_FOUND * n_old else n_old if k == n_first else None
        found = tables.empty("sifted") if own is None else found_at(places[0][own], places[1][own], START + 3600.0 * k)
        attrs = {"map_id": map_id, "status": "ok", "reason": "", "time_unix_s": START + 3600.0 * k}
        about = {
            "area_deg2": 100.0,
            "flux_err_mjy": FLUX_ERR,
            "snr_std": 1.0,
            "fwhm_arcmin": 2.2,
            "info": {"freq_ghz": 90.0},
        }
        said = summaries.of_map(attrs | about, {}, tables.empty("detections"), found)
        moving = tables.empty("moving")
        arrays = {summaries.NEAR_BRIGHT: np.zeros(0, "i4")}
        store.write(
            path, attrs=said | attrs, arrays=arrays, frames={"sifted": ("sifted", found), "moving": ("moving", moving)}
        )


def found_at(ra, dec, time):
    """Table ``sifted`` of one transient."""
    columns = {c.name: "" if c.dtype == "str" else c.dtype == "bool" for c in tables.SCHEMAS["sifted"]}
    columns |= {"origin": "blind", "class": "transient", "ra_deg": ra, "dec_deg": dec, "time_unix_s": time}
    columns |= {"ra_err_arcsec": 3.0, "dec_err_arcsec": 3.0, "snr": SNR, "snr_peak": SNR}
    columns |= {"flux_mjy": SNR * FLUX_ERR, "flux_err_mjy": FLUX_ERR}
    return tables.make("sifted", {name: [value] for name, value in columns.items()})


if __name__ == "__main__":
    main()
