"""Lines on the blind search: positions, completeness and false alarms against theory, duplicates, close pairs."""

import dataclasses
from typing import NamedTuple

import numpy as np
import scenes
from fluxes import mean, sd, shifted
from rows import Row
from scipy.special import ndtr

from sotrplib import crossmatch, geometry, pointing, positions, skies
from sotrplib import template as templates

_SNR_BINS = ((7, 10), (10, 20), (20, 50), (50, 200))
_NO_POINTING = pointing.PointingModel()


# ---- positions ---------------------------------------------------------------------------------------


def places(size):
    """Positions of blind detections above SNR 7, without pointing error and after the pointing model."""
    sides, n_maps, spacing = {"full": ((10.0, 20.0), 3, 30.0), "small": ((4.0, 6.0), 1, 18.0)}[size]
    for band in ("f090", "f150"):
        parts = [_offsets(f"places {band} {k}", band, sides, spacing) for k in range(n_maps)]
        for name, offsets in zip((band, f"{band} with pointing model"), zip(*parts, strict=True), strict=True):
            yield from _place_rows(name, Offsets(*(np.concatenate(p, -1) for p in zip(*offsets, strict=True))))


class Offsets(NamedTuple):
    """True SNR (n,), and offsets from the truth over the Cramer-Rao bound and over the reported errors (2, n)."""

    snr: np.ndarray
    ratio: np.ndarray
    pull: np.ndarray


def _offsets(name, band, sides, spacing_arcmin):
    """Offsets of all detections of a map without pointing error, and of the unknown ones of one with it."""
    scene = scenes.make_scene(name, band, sides, dec_deg=-30.0)
    rng = skies.rng_for(scenes.SEED, name, "sources")
    y, x = scenes.grid_pixels(scene, spacing_arcmin, rng)
    snr = 7 * (200 / 7) ** rng.uniform(size=len(y))
    sources = scenes.at_pixels(scene, y, x, snr * scenes.exact_flux_err(scene))
    sky_map = scenes.preprocess(scene, scene.noise + scenes.paint(scene, sources))
    plain = _match(scene, sources, scenes.find(sky_map, None, _NO_POINTING), _NO_POINTING, sky_map.template)
    known = (snr > 20) & (rng.uniform(size=len(snr)) < 0.5)
    chain = _chain_with_offset(scene, sources, known, rng)
    unknown = scenes.Sources(*(values[~known] for values in sources))
    return plain, _match(scene, unknown, chain.detections, chain.pointing, chain.sky_map.template)


def _chain_with_offset(scene, sources, known, rng):
    """Whole chain on a map with a pointing error; the catalogue's positions are good to 1.5 arcsec."""
    catalogued = scenes.Sources(*(values[known] for values in sources))
    error = 1.5 * rng.standard_normal((2, known.sum()))
    ra, dec = geometry.offset_position(catalogued.ra_deg, catalogued.dec_deg, *error)
    signal = scene.noise + scenes.paint(scene, shifted(sources))
    return scenes.run_chain(scene, signal, catalogued._replace(ra_deg=ra, dec_deg=dec), catalog_err_arcsec=1.5)


def _match(scene, sources, found, model, template):
    """Offsets of the detections nearest the sources; the bound is that of Cramer and Rao with the pointing's error."""
    i, _ = crossmatch.nearest(sources.ra_deg, sources.dec_deg, found["ra_deg"], found["dec_deg"], 90.0)
    here, there = np.flatnonzero(i >= 0), i[i >= 0]
    ra, dec = (values[here] for values in sources[:2])
    offset = np.stack(geometry.tangent_offsets(*(found[c].to_numpy()[there] for c in ("ra_deg", "dec_deg")), ra, dec))
    error = found[["ra_err_arcsec", "dec_err_arcsec"]].to_numpy()[there].T
    snr = sources.flux[here] / scenes.exact_flux_err(scene)
    bound = np.hypot(_cramer_rao(scene, ra, dec, snr, template), pointing.evaluate(model, ra, dec)[2:])
    return Offsets(snr, offset / bound, offset / error)


def _place_rows(name, offsets):
    for low, high in _SNR_BINS:
        chosen = (offsets.snr >= low) & (offsets.snr < high)
        yield Row(f"{name}, rms over Cramer-Rao, SNR {low}-{high}", *_rms(offsets.ratio[:, chosen].ravel()))
    yield Row(f"{name}, rms over Cramer-Rao", *_rms(offsets.ratio.ravel()))
    yield Row(f"{name}, pull sd", *sd(offsets.pull.ravel()))


def _cramer_rao(scene, ra, dec, snr, template):
    """Smallest possible errors (2, n) along RA and Dec in arcsec."""
    y, x = geometry.sky2pix(scene.wcs, ra, dec, scene.shape)
    inverse = np.linalg.inv(templates.pixel_curvature(template, y)) / (snr**2)[:, None, None]
    return np.stack(positions.sky_errors(scene.wcs, y, x, (inverse[:, 0, 0], inverse[:, 0, 1], inverse[:, 1, 1])))


def _rms(values):
    squares = values**2
    rms = np.sqrt(squares.mean())
    return rms, squares.std() / np.sqrt(len(values)) / (2 * rms), len(values)


# ---- completeness and false alarms -------------------------------------------------------------------


def completeness(size):
    """Fraction of sources found in noise, against theory for the best possible error; false alarms at 4.5 sigma."""
    sides = {"full": (20.0, 40.0), "small": (6.0, 8.0)}[size]
    snrs = {"full": (4, 4.5, 5, 5.5, 6, 7, 8), "small": (4.5, 6)}[size]
    for band in ("f090", "f150"):
        scene = scenes.make_scene(f"completeness {band}", band, sides)
        sky_map, kept = scenes.preprocess_and_keep(scene, scene.noise)
        if band == "f090":
            yield from _completeness_rows(scene, sky_map, kept, snrs)
        yield Row(f"{band} false alarms at 4.5 sigma over expectation", *false_alarms(sky_map))


def _completeness_rows(scene, sky_map, kept, snrs):
    rng = skies.rng_for(scenes.SEED, "completeness")
    y, x = scenes.grid_pixels(scene, 12.0, rng)
    snr = rng.permutation(np.resize(np.array(snrs, float), len(y)))
    area = geometry.pixel_area_sr(scene.shape, scene.wcs)
    flux_err = scenes.exact_flux_err(scene) * np.sqrt(area / area[scene.shape[0] // 2])
    sources = scenes.at_pixels(scene, y, x, snr * flux_err[np.rint(y).astype(int)])
    found = scenes.find(scenes.inject(scene, sky_map, kept, sources), None, _NO_POINTING)
    index, _ = crossmatch.nearest(sources.ra_deg, sources.dec_deg, found["ra_deg"], found["dec_deg"], 120.0)
    for value in snrs:
        got = index[snr == value] >= 0
        error = np.sqrt(max(got.mean() * (1 - got.mean()), 1 / len(got)) / len(got))
        yield Row(f"completeness minus theory at SNR {value}", got.mean() - theory(value), error, len(got))


def theory(snr, threshold=5.0):
    """Completeness of a search for maxima above a threshold: the integral of phi(z) p(snr + z) over z.

    A source read as s below the threshold is still found, where the noise lifts a maximum nearby, with
    p = exp(-(threshold^2 - s^2) / 2).
    """
    z = np.linspace(-8, 8, 16001)
    s = snr + z
    below = np.exp(-np.maximum(threshold**2 - s**2, 0) / 2) * ((s > 0) & (s < threshold))
    return float(np.sum(np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) * below) * (z[1] - z[0]) + ndtr(snr - threshold))


def false_alarms(sky_map, threshold=4.5):
    """Peaks of the noise and of its negative above a threshold, over the number expected of a Gaussian field."""
    negative = dataclasses.replace(sky_map, rho=-sky_map.rho)
    count = sum(len(scenes.find(m, None, _NO_POINTING, snr_min=threshold)) for m in (sky_map, negative))
    rows = np.arange(len(sky_map.rho))
    density = np.sqrt(np.linalg.det(templates.pixel_curvature(sky_map.template, rows)))
    density *= threshold * np.exp(-(threshold**2) / 2) / (2 * np.pi) ** 1.5
    expected = 2 * float(density @ np.count_nonzero(sky_map.mask == 0, axis=1))
    return count / expected, np.sqrt(max(count, 1)) / expected, count


# ---- duplicates and close pairs ----------------------------------------------------------------------


def separation(size):
    """One detection a source, however bright; two where two sources can be told apart."""
    sides = {"full": (10.0, 20.0), "small": (4.0, 6.0)}[size]
    scene = scenes.make_scene("separation", "f090", sides, dec_deg=-30.0)
    rng = skies.rng_for(scenes.SEED, "separation")
    y, x = scenes.grid_pixels(scene, 18.0, rng)
    sources = scenes.at_pixels(scene, y, x, scenes.exact_flux_err(scene) * 6 * (2000 / 6) ** rng.uniform(size=len(y)))
    sky_map = scenes.preprocess(scene, scene.noise + scenes.paint(scene, sources))
    found = scenes.find(sky_map, None, _NO_POINTING)
    near = crossmatch.match(sources.ra_deg, sources.dec_deg, found["ra_deg"], found["dec_deg"], 360.0)[0]
    count = np.bincount(near, minlength=len(y))
    yield Row("detections within 6 arcmin of a source, beyond one", int(np.maximum(count - 1, 0).sum()), 0.0, len(y))
    yield from _close_pairs(size, scene)


def _close_pairs(size, scene):
    filtered = scenes.preprocess_and_keep(scene, scene.noise)
    width = float(templates.fwhm_arcmin(filtered[0].template, scene.shape[0] // 2))
    cases = (((40, 40), 1.0), ((20, 40), 1.0), ((40, 40), 0.9), ((100, 100), 0.75), ((40, 40), 0.6))
    for snr, fwhm in cases if size == "full" else cases[:1]:
        sources = close_pairs(scene, fwhm * width, snr, skies.rng_for(scenes.SEED, "close", snr, fwhm))
        found = scenes.find(scenes.inject(scene, *filtered, sources), None, _NO_POINTING)
        radius = 30 * fwhm * width
        index, _ = crossmatch.nearest(sources.ra_deg, sources.dec_deg, found["ra_deg"], found["dec_deg"], radius)
        both = (index >= 0).reshape(2, -1).all(axis=0) & np.not_equal(*index.reshape(2, -1))
        yield Row(f"pairs of SNR {snr[0]} and {snr[1]} at {fwhm} FWHM separated", *mean(both.astype(float)))


def close_pairs(scene, separation_arcmin, snr, rng):
    """Pairs on a loose grid: first all first ones, then the others in the same order."""
    first = scenes.at_pixels(scene, *scenes.grid_pixels(scene, 18.0, rng), scenes.exact_flux_err(scene))
    angle = rng.uniform(0, 2 * np.pi, len(first.flux))
    step = 60 * separation_arcmin * np.stack([np.cos(angle), np.sin(angle)])
    second = scenes.Sources(*geometry.offset_position(first.ra_deg, first.dec_deg, *step), first.flux * snr[1])
    return scenes.join(first._replace(flux=first.flux * snr[0]), second)
