"""Line on the joint search: sources of equal SNR in each of four maps of one observation, found alone and together."""

import dataclasses
import functools
import re

import numpy as np
import pandas as pd
import scenes
from rows import Row
from searching import theory

from sotrplib import coadd, coadd_members, crossmatch, joint, pointing, resampling, selection, skies, tables

SIDES = {"full": (10.0, 20.0), "small": (3.0, 5.0)}
SNRS = {"full": (2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 6.0), "small": (2.5, 3.5, 5.0)}
TUBES = (("i1", "f090"), ("i1", "f150"), ("i3", "f090"), ("i3", "f150"))
SECTIONS = ("search_jointly", "coadd_maps", "find_sources", "forced_photometry", "sift_candidates")
JOINT, ALONE = "joint search of four maps", "any of the four maps alone"
_LOW_SNR = 4.5
_LABELS = {"map_id": "solat_joint_multi_0", "instrument": "solat", "array": "joint", "band": "multi"}
_SPACING_ARCMIN = 12.0


def together(size):
    """Completeness of both searches minus theory, by the true SNR in each map; false alarms and purity."""
    views = [_view(f"together {array} {band}", band, SIDES[size]) for array, band in TUBES]
    scene, rng = views[0][0], skies.rng_for(scenes.SEED, "together")
    y, x = scenes.grid_pixels(scene, _SPACING_ARCMIN, rng)
    snr = rng.permutation(np.resize(np.array(SNRS[size]), len(y)))
    seen = []
    for view, sky_map, kept in views:
        flux = snr * _flux_err(view, sky_map, y, x)
        seen.append(scenes.inject(view, sky_map, kept, scenes.at_pixels(view, y, x, flux)))
    places = scenes.at_pixels(scene, y, x, 0.0)[:2]
    single = np.any([_hit(places, scenes.find(sky_map, None, pointing.PointingModel())) for sky_map in seen], axis=0)
    found, gain = search(seen), _gain([view[1] for view in views])
    both = _hit(places, found)
    threshold = scenes.options()["search_jointly"]["snr_min"]
    for value in SNRS[size]:
        of = snr == value
        yield _row(ALONE, value, single[of], 1 - (1 - theory(value)) ** len(TUBES))
        yield _row(JOINT, value, both[of], theory(gain * value, threshold))
    yield Row("SNR of the joint search over that of one map", gain, 0.0, len(TUBES), "of the best spectral index")
    yield from _purity_rows(views, found, both)


def search(sky_maps, **changes):
    """What the joint search finds in maps, its table ``sifted_jointly``."""
    sections = {name: scenes.options()[name] for name in SECTIONS}
    sections["search_jointly"] = sections["search_jointly"] | changes
    total = _sum(sky_maps, sections["search_jointly"]["spectral_indices"])
    nothing = joint.Sky(tables.empty("catalog"), {"freq_ghz": 90.0, "spectral_index": -0.7}, _no_moving)
    attrs = {"fwhm_arcmin": scenes.FWHM_ARCMIN["f090"], "site": (0.0, 0.0, 0.0)}
    return joint.search_sums(total, _LABELS["map_id"], attrs, nothing, sections)


def draw(folder, judged):
    """Completeness of both searches against the true SNR in each map, with their theory."""
    from matplotlib import pyplot as plt

    rows = [item.row for item in judged if item.line == "together"]
    gain = next(row.value for row in rows if row.quantity.startswith("SNR of the joint"))
    threshold, grid = scenes.options()["search_jointly"]["snr_min"], np.linspace(1.5, 6.5, 200)
    expected = {ALONE: [1 - (1 - theory(s)) ** len(TUBES) for s in grid]}
    expected[JOINT] = [theory(gain * s, threshold) for s in grid]
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    axes.plot(grid, [theory(s) for s in grid], "k:", lw=1, label="one map, theory")
    for name, colour in ((ALONE, "tab:gray"), (JOINT, "tab:blue")):
        points = [(float(re.findall(r"SNR (\S+)$", r.quantity)[0]), r) for r in rows if r.quantity.startswith(name)]
        snr, value = (np.array(part) for part in zip(*((s, r.value) for s, r in points), strict=True))
        axes.plot(grid, expected[name], "-", color=colour, lw=1, label=f"{name}, theory")
        value = value + np.interp(snr, grid, expected[name])
        axes.errorbar(snr, value, [r.error for _, r in points], fmt="o", ms=4, color=colour, label=name)
    axes.set(xlabel="true SNR in each of the four maps", ylabel="completeness")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(folder / "joint_completeness.png", dpi=110)
    plt.close(figure)


def _row(name, value, hit, expected):
    error = np.sqrt(max(hit.mean() * (1 - hit.mean()), 1 / len(hit)) / len(hit))
    return Row(f"{name}, completeness minus theory at SNR {value}", hit.mean() - expected, error, len(hit))


@functools.cache
def _view(name, band, sides):
    """Scene, filtered map and filter of one of the maps; all see the same CMB."""
    empty = scenes.make_scene(name, band, sides, cmb=False)
    scene = dataclasses.replace(empty, cmb=True)
    rng = skies.rng_for(scenes.SEED, "together cmb")
    transfer = scenes.sky_transfer(scene)
    grid = scene.shape, scene.wcs, scenes.cmb_power(scene), rng
    sky = skies.gaussian_field(*grid, transfer=transfer, pad_arcmin=scenes.PAD_ARCMIN)
    scene = dataclasses.replace(scene, noise=scene.noise + sky)
    return scene, *scenes.preprocess_and_keep(scene, scene.noise)


def _flux_err(scene, sky_map, y, x):
    """Error of the flux at pixels, as the filter knows it."""
    return sky_map.kappa[np.rint(y).astype(int), np.rint(x).astype(int)] ** -0.5


def _sum(sky_maps, spectral_indices):
    """Sum of maps that point where they say."""
    headers = []
    for (array, band), sky_map in zip(TUBES, sky_maps, strict=True):
        info = dataclasses.replace(sky_map.info, map_id=f"solat_{array}_{band}_0", array=array)
        half = sky_map.template.values.shape[1] // 2 * float(sky_map.template.step_arcmin[0, 0])
        grid = resampling.Grid(sky_map.rho.shape, sky_map.wcs)
        headers.append(coadd_members.Header(None, info.map_id, "", grid, info, half, scenes.FWHM_ARCMIN[band]))
    total = coadd.start_sum(headers, spectral_indices=spectral_indices)
    columns = ["source_id", "ra_deg", "dec_deg", "flux_mjy", "catalog_flux_mjy", "catalog_flux_err_mjy"]
    model = pointing.PointingModel("constant")
    for header, sky_map in zip(headers, sky_maps, strict=True):
        usable = (sky_map.kappa > 0) & (sky_map.mask == 0)
        total.add(
            header, coadd_members.Member(sky_map, usable, None, model, pd.DataFrame(columns=columns, dtype=float))
        )
    return total


def _gain(sky_maps):
    """SNR of sources of SNR 1 in each map in the best sum, with the noise of that, at median depth."""
    total, rms = _sum(sky_maps, _indices()), []
    for k in range(len(_indices())):
        with_errors = total.sky_map(_LABELS, scenes.options()["coadd_maps"], k)
        good = with_errors.mask == 0
        rms.append(np.median(total.kappa[k][good] / with_errors.kappa[good]) ** 0.5)
    freq = np.array([sky_map.info.freq_ghz for sky_map in sky_maps])
    depth = np.array([np.sqrt(np.median(sky_map.kappa[sky_map.mask == 0])) for sky_map in sky_maps])
    weights = [freq**alpha * depth for alpha in _indices()]
    return float(max(weight.sum() / np.linalg.norm(weight) / r for weight, r in zip(weights, rms, strict=True)))


def _hit(places, found):
    index, _ = crossmatch.nearest(*places, found["ra_deg"], found["dec_deg"], 60.0)
    return index >= 0


def _purity_rows(views, found, hit):
    """False alarms in maps without sources: of each sum over theory, of all sums over one; purity as injected."""
    noise = [view[1] for view in views]
    alarms = [len(search(noise, snr_min=_LOW_SNR, spectral_indices=(alpha,))) for alpha in _indices()]
    total = _sum(noise, _indices())
    sums = [total.sky_map(_LABELS, scenes.options()["coadd_maps"], k) for k in range(len(alarms))]
    expected = sum(selection.expected_false_alarms(one, _LOW_SNR) for one in sums)
    n, error = sum(alarms), np.sqrt(max(sum(alarms), 1)) / expected
    yield Row(f"false alarms of a sum at {_LOW_SNR} sigma over expectation", n / expected, error, n)
    both = len(search(noise, snr_min=_LOW_SNR))
    scatter = np.sqrt(max(both, 1)) / max(np.mean(alarms), 1)
    yield Row("false alarms of all sums over those of one", both / max(np.mean(alarms), 1), scatter, both)
    yield Row("purity: injected sources among what is found", hit.sum() / max(len(found), 1), 1 / len(hit), len(found))


def _indices():
    return tuple(scenes.options()["search_jointly"]["spectral_indices"])


def _no_moving(*where):
    return tables.empty("moving")
