"""Line on the whole chain: transients that appear between two simulated nights, run through the workflow itself."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import scenes
from rows import Row

from sotrplib import crossmatch, mapindex, skies, store, truth

CHANNELS = {"full": (("i1", "f090"), ("i3", "f090"), ("i1", "f150")), "small": (("i1", "f090"), ("i3", "f090"))}
SIZES = {"full": (10.0, 6.0), "small": (3.0, 2.0)}  # degrees along RA and Dec
SNRS = {"full": (3.0, 4.0, 5.0, 6.0, 8.0, 12.0, 20.0), "small": (4.0, 8.0, 20.0)}
_START, _DAY_S = 1_760_100_000, 86_400
_SPACING_ARCMIN = 16.0
_CATALOG = "results/catalogs/catalog.h5"
_RADIUS_ARCSEC = 60.0
_NEW = ("transient", "new_source", "flare")


def survey(size):
    """Part found and part confirmed by true SNR, and the purity of both, of all arrays and bands together."""
    objects, snr = _objects(size)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        _run(folder, size, objects, _CATALOG)
        catalog = folder / _CATALOG
        candidates, maps = (store.read_table(catalog, name) for name in ("candidates", "maps"))
        injected = truth.read_truth(folder / "results/simulated/truth.h5").set_index("name").loc[objects["name"]]
    yield from _rows(size, injected, snr, candidates)
    failed = int((maps["status"] != "ok").sum())
    yield Row("maps that failed", failed, 0.0, len(maps))


def _rows(size, injected, snr, candidates):
    new = candidates[candidates["class"].isin(_NEW)].reset_index(drop=True)
    place = (injected["ra_deg"], injected["dec_deg"])
    index, _ = crossmatch.nearest(*place, new["ra_deg"], new["dec_deg"], _RADIUS_ARCSEC)
    confirmed = np.append(new["confirmed"].to_numpy(bool), False)[index]
    for value in SNRS[size]:
        of = snr == value
        yield _part(f"found at SNR {value:g} in one map", index[of] >= 0)
        yield _part(f"confirmed at SNR {value:g} in one map", confirmed[of])
    true = np.zeros(len(new), bool)
    true[index[index >= 0]] = True
    sure = new["confirmed"].to_numpy(bool)
    faint = new["combined_snr"].to_numpy() < 6
    yield _part("purity of candidates", true)
    yield _part("purity of confirmed candidates", true[sure])
    yield _part("purity of confirmed candidates below a joint SNR of 6", true[sure & faint])
    named = (new["class"] == "transient").to_numpy()
    yield _part("confirmed ones that are called transient", named[true & sure])


def _part(name, hit):
    """Part of trues in a boolean array, with a binomial error that one more or less would make at least."""
    n, mean = len(hit), float(np.mean(hit)) if len(hit) else np.nan
    return Row(name, mean, np.sqrt(max(mean * (1 - mean), 1 / max(n, 1)) / max(n, 1)) if n else np.nan, n)


def _objects(size):
    """Transients that appear between the nights, on a grid that known sources keep clear of, and their SNR in a map."""
    rng, (width, height) = skies.rng_for(scenes.SEED, "survey"), SIZES[size]
    axes = [(np.arange(n) - (n - 1) / 2) * _SPACING_ARCMIN for n in _counts(width, height)]
    x, y = (grid.ravel() + rng.uniform(-3, 3, grid.size) for grid in np.meshgrid(*axes))
    snr = rng.permutation(np.resize(np.array(SNRS[size]), len(x)))
    columns = {"name": [f"new{k:04d}" for k in range(len(x))], "class": "transient"}
    columns |= {"ra_offset_arcmin": x, "dec_offset_arcmin": y, "peak_mjy": snr * _flux_err(), "spectral_index": 0.0}
    columns |= {"peak_h": 23.5, "rise_h": 0.5, "decay_h": 1e5}
    return pd.DataFrame(columns), snr


def _counts(width, height):
    """Columns and rows of the grid, off the edges, which differ between arrays."""
    return int((60 * width - 90) / _SPACING_ARCMIN), int((60 * height - 40) / _SPACING_ARCMIN)


def _flux_err():
    """Error of a flux at 90 GHz in mJy of a map of median depth."""
    scene = scenes.make_scene("survey", "f090", (2.0, 2.0))
    return scenes.exact_flux_err(scene)


def _run(folder, size, objects, target):
    """The workflow with its default configuration on simulated maps with these objects, as far as a file."""
    (width, height), channels = SIZES[size], CHANNELS[size]
    objects.to_csv(folder / "objects.csv", index=False)
    names = [
        f"solat_{array}_{band}_{_START + _DAY_S * night + 600 * k}"
        for night in range(2)
        for k, (array, band) in enumerate(channels)
    ]
    mapindex.write_map_table(folder / "maps.csv", [_map(name) for name in names])
    simulate = {"objects": "objects.csv", "width_deg": width, "height_deg": height, "center_ra_deg": 0.0}
    simulate |= {"center_dec_deg": 0.0, "n_sources": int(8 * width * height), "polarised": [], "start_unix_s": _START}
    config = {"maps": {"table": "maps.csv"}, "simulate": simulate, "report": {"recovery": "none"}}
    (folder / "config.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "snakemake", "--snakefile", scenes.ROOT / "Snakefile", "--quiet", "all"]
    command += ["--configfile", "config.json", "--cores", "2", "--", target]
    environment = os.environ | {"PYTHONPATH": str(scenes.ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the workflow failed in {folder}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")


def _map(name):
    labels = dict(zip(("instrument", "array", "band"), name.split("_"), strict=False))
    kinds = {"map_path": "map.fits", "weight_path": "ivar.fits", "time_path": "time.fits", "info_path": "info.hdf"}
    paths = {key: f"results/simulated/{name}_{kind}" for key, kind in kinds.items()}
    return dict.fromkeys(mapindex.COLUMNS, "") | {"map_id": name, "form": "intensity_ivar"} | labels | paths
