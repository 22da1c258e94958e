"""Lines on epochs of one sky: the search of their differences, and stacks of sources too faint for any of them."""

import dataclasses
import functools
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import scenes
from fluxes import mean, sd
from rows import Row
from searching import theory

from sotrplib import (
    coadd_members,
    crossmatch,
    difference,
    maps,
    pointing,
    revisits,
    selection,
    skies,
    stacking,
    store,
    tables,
)

SIDES = {"full": (8.0, 12.0), "small": (3.0, 5.0)}
COUNT = {"full": 12, "small": 6}
N_DIFFERENCE = 5  # epochs of the difference search, the first being searched
SNRS = {"full": (3.5, 4.0, 4.5, 5.0, 5.5, 6.0, 8.0, 12.0), "small": (4.0, 6.0, 12.0)}
SECTIONS = ("search_difference", "coadd_maps", "find_sources", "forced_photometry", "sift_candidates")
_KNOWN_MJY = 60.0
_LOW_SNR = 4.5
_BRIGHT_SNR = 8.0  # all of these are found, so that their fluxes are not chosen
_FAINT_SNR = 1.0
_DAY_S = 86_400
_REFERENCE = {"freq_ghz": scenes.FREQ_GHZ["f090"], "spectral_index": 0.0}


# ---- difference search -------------------------------------------------------------------------------


def differences(size):
    """New sources in one of five epochs: completeness over theory for the depth of both, fluxes, purity; false alarms.

    What is constant, known sources from 60 mJy, unknown ones below and the CMB, is in all epochs.
    """
    epochs = _epochs(size)[:N_DIFFERENCE]
    scene, rng = epochs[0][0], skies.rng_for(scenes.SEED, "differences")
    steady = scenes.realistic_sources(scene, rng)
    catalog = scenes.as_catalog(scenes.Sources(*(v[steady.flux > _KNOWN_MJY] for v in steady)))
    y, x = scenes.grid_pixels(scene, 15.0, rng)
    snr = rng.permutation(np.resize(np.array(SNRS[size]), len(y)))
    seen = [scenes.inject(*epoch, steady) for epoch in epochs]
    new = scenes.at_pixels(scene, y, x, snr * _difference_err(seen, y, x))
    with tempfile.TemporaryDirectory() as folder:
        rest = [_write(Path(folder), k, sky_map, catalog) for k, sky_map in enumerate(seen)]
        quiet, _, attrs = _search(rest, catalog, snr_min=_LOW_SNR)
        rest[0] = _write(Path(folder), 0, scenes.inject(*_with(epochs[0], seen[0]), new), catalog)
        found, *_ = _search(rest, catalog)
    yield from _difference_rows(size, new, snr, found)
    expected = selection.expected_false_alarms(seen[0], _LOW_SNR)
    alarms, error = len(quiet), np.sqrt(max(len(quiet), 1)) / expected
    yield Row(f"false alarms at {_LOW_SNR} sigma over expectation", alarms / expected, error, alarms)
    yield Row("scatter of the SNR of the difference", attrs["snr_std"], 0.0, seen[0].rho.size)


def _with(epoch, sky_map):
    return epoch[0], sky_map, epoch[2]


def _difference_err(seen, y, x):
    """Error of a flux in the first map minus the mean of the others, as their filters know it."""
    kappa = np.array([sky_map.kappa[np.rint(y).astype(int), np.rint(x).astype(int)] for sky_map in seen])
    return (1 / kappa[0] + 1 / kappa[1:].sum(axis=0)) ** 0.5


def _search(headers, catalog, **changes):
    sections = {name: scenes.options()[name] for name in SECTIONS}
    sections["search_difference"] = sections["search_difference"] | changes
    return difference.search(headers[0], headers[1:], (catalog, _REFERENCE), sections)


def _difference_rows(size, new, snr, found):
    found = found[found["origin"] == "blind"]
    index, _ = crossmatch.nearest(new.ra_deg, new.dec_deg, found["ra_deg"], found["dec_deg"], 90.0)
    for value in SNRS[size]:
        hit = index[snr == value] >= 0
        error = np.sqrt(max(hit.mean() * (1 - hit.mean()), 1 / len(hit)) / len(hit))
        yield Row(f"completeness minus theory at SNR {value}", hit.mean() - theory(value), error, len(hit))
    bright = (snr >= _BRIGHT_SNR) & (index >= 0)
    rows = found.iloc[index[bright]]
    pull = (rows["flux_mjy"].to_numpy() - new.flux[bright]) / rows["flux_err_mjy"].to_numpy()
    yield Row("flux pull mean", *mean(pull))
    yield Row("flux pull sd", *sd(pull))
    flux_ratio = rows["flux_mjy"].to_numpy() / new.flux[bright]
    yield Row("flux over the truth", *mean(flux_ratio))
    yield Row(
        "purity: new sources among what is found", (index >= 0).sum() / max(len(found), 1), 0.5 / len(snr), len(found)
    )


# ---- stacks ------------------------------------------------------------------------------------------


def stacks(size):
    """Fluxes of sources of 1 sigma in each epoch, and of empty places, with all epochs stacked."""
    epochs = _epochs(size)
    scene, rng = epochs[0][0], skies.rng_for(scenes.SEED, "stacks")
    y, x = scenes.grid_pixels(scene, 24.0, rng)  # so that hardly one stands in the stamp of another
    n = len(y) // 2
    order = rng.permutation(len(y))
    flux_err = float(np.median(epochs[0][1].kappa)) ** -0.5
    faint = scenes.at_pixels(scene, y[order[:n]], x[order[:n]], _FAINT_SNR * flux_err)
    empty = scenes.at_pixels(scene, y[order[n:]], x[order[n:]], 0.0)
    nothing = scenes.as_catalog(scenes.Sources(*np.zeros((3, 0))))
    with tempfile.TemporaryDirectory() as folder:
        files = [_write(Path(folder), k, scenes.inject(*epoch, faint), nothing).files for k, epoch in enumerate(epochs)]
        table, total = _stack(files, scenes.join(faint, empty))
    pull = (table["flux_mjy"] - np.append(faint.flux, empty.flux)) / table["flux_err_mjy"]
    for name, part in (("faint sources", pull[:n]), ("empty places", pull[n:])):
        yield Row(f"{name}, flux pull mean", *mean(part.to_numpy()))
    yield Row("flux pull sd", *sd(pull.to_numpy()))
    yield Row("flux of all faint sources over the truth", *_weighted_ratio(table[:n], faint.flux))
    pull = (total["flux_mjy"] - faint.flux.sum() / len(table)) / total["flux_err_mjy"]
    yield Row("stack of all places, pull", pull, 1.0, len(table))
    gain = float(np.median(flux_err / table["flux_err_mjy"])) / len(epochs) ** 0.5
    yield Row("depth gained over that of independent noise", gain, 0.0, len(epochs))


def _stack(files, places):
    """Rows of the table ``stacks``: of the places in their order, and of all."""
    options, names = scenes.options(), [f"p{k:05d}" for k in range(len(places.flux))]
    coarse = options["stack_sources"] | {"stamp_step_arcmin": 1.0}
    columns = {"name": names, "ra_deg": places.ra_deg, "dec_deg": places.dec_deg}
    positions = pd.DataFrame(columns | {"time_min_unix_s": -np.inf, "time_max_unix_s": np.inf})
    rows = [{"map_id": _map_id(k), "array": "i1", "band": "f090", "time_unix_s": k * _DAY_S} for k in range(len(files))]
    by_map = {row["map_id"]: revisits.MapFiles(*of[:3]) for row, of in zip(rows, files, strict=True)}
    found, *_ = stacking.stack(by_map, pd.DataFrame(rows), positions, coarse, options["forced_photometry"])
    found = found.set_index("name")
    return found.loc[names], found.loc[stacking.EVERY]


def _weighted_ratio(table, flux):
    """Mean flux over truth by weight, its error and number."""
    weight = table["flux_err_mjy"].to_numpy() ** -2.0
    ratio = np.average(table["flux_mjy"], weights=weight) / np.average(flux, weights=weight)
    return ratio, weight.sum() ** -0.5 / np.average(flux, weights=weight), len(flux)


# ---- epochs ------------------------------------------------------------------------------------------


@functools.cache
def _epochs(size):
    """Scene, filtered map and filter of each epoch; all see the same CMB."""
    rng = skies.rng_for(scenes.SEED, "epochs cmb")
    made, sky = [], None
    for k in range(COUNT[size]):
        empty = scenes.make_scene(f"epochs {k}", "f090", SIDES[size], cmb=False)
        scene = dataclasses.replace(empty, cmb=True)
        if sky is None:
            transfer = scenes.sky_transfer(scene)
            grid = scene.shape, scene.wcs, scenes.cmb_power(scene), rng
            sky = skies.gaussian_field(*grid, transfer=transfer, pad_arcmin=scenes.PAD_ARCMIN)
        scene = dataclasses.replace(scene, noise=scene.noise + sky)
        made.append((scene, *scenes.preprocess_and_keep(scene, scene.noise)))
    return made


def _map_id(k):
    return f"solat_i1_f090_{1_763_000_000 + _DAY_S * k}"


def _write(folder, k, sky_map, catalog):
    """Files of one epoch, which points where it says, as a :class:`coadd_members.Header`."""
    map_id, model = _map_id(k), pointing.PointingModel("constant", n_used=5)
    info = dataclasses.replace(sky_map.info, map_id=map_id)
    files = coadd_members.MemberFiles(
        *(folder / f"{stage}_{k}.h5" for stage in ("map", "pointing", "forced", "sifted"))
    )
    attrs = {"map_id": map_id, "status": "ok", "reason": ""}
    own = {"fwhm_arcmin": scenes.FWHM_ARCMIN["f090"], "site": (0.0, 0.0, 0.0)}
    maps.write_sky_map(files.preprocessed, dataclasses.replace(sky_map, info=info), attrs | own)
    store.write(files.pointing, attrs=attrs | {"pointing": pointing.to_dict(model)})
    forced = scenes.force(sky_map, catalog, model)
    store.write(files.forced, attrs=attrs, frames={"forced": ("forced", forced)})
    frames = {name: (name, tables.empty(name)) for name in ("sifted", "moving")}
    store.write(files.sifted, attrs=attrs, frames=frames)
    return coadd_members.read_header(files)
