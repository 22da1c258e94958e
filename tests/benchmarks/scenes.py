"""Skies of exact truth for the benchmark, and the whole chain run on them.

A scene is a patch of sky with an inverse variance and a noise that is drawn from a covariance known exactly:
N = S + sigma C sigma, S the CMB seen through beam and pixels, C a power spectrum and sigma the depth.
"""

import dataclasses
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import yaml

from sotrplib import (
    beams,
    detection,
    geometry,
    maps,
    matched_filter,
    photometry,
    pointing,
    preprocessing,
    revisits,
    skies,
    tables,
    units,
)

ROOT = Path(__file__).parents[2]
BEAM_FOLDER = ROOT.parent / "shared" / "data" / "beams"
SEED = 20251122
ARCMIN = units.ARCMIN
PAD_ARCMIN = 60.0  # noise is drawn on a periodic sky this much larger than the map
FREQ_GHZ = {"f090": 90.0, "f150": 150.0, "f220": 220.0, "f280": 280.0}
FWHM_ARCMIN = {"f090": 1.94, "f150": 1.30, "f220": 0.89, "f280": 0.77}
NOISE_UK_ARCMIN = {"f090": 75.0, "f150": 95.0, "f220": 300.0, "f280": 900.0}
ISOTROPIC = {"knee_ell": 3000.0, "slope": 3.0}
STRIPED = {"knee_ell": 2000.0, "slope": 3.0, "stretch": 4.0, "angle_deg": 20.0}
USUAL = {"knee_ell": 2000.0, "slope": 3.0, "stretch": 2.0, "angle_deg": 20.0}
_ELL = np.arange(0, 62000, 20.0)


@dataclass(frozen=True, eq=False)
class Scene:
    """A patch of sky without sources.

    ``noise`` (ny, nx) in mJy/sr holds the CMB too; ``ivar`` is the inverse variance of its white part, 0 where
    unobserved; ``spectrum(ell_y, ell_x)`` is C, with C = 1 for white noise; ``cmb`` tells whether there is a CMB.
    """

    band: str
    shape: tuple
    wcs: object
    beam: beams.Beam
    ivar: np.ndarray
    spectrum: object
    cmb: bool
    noise: np.ndarray


class Sources(NamedTuple):
    """Point sources: positions in degrees, fluxes in mJy; arrays (n,)."""

    ra_deg: np.ndarray
    dec_deg: np.ndarray
    flux: np.ndarray


class Filter(NamedTuple):
    """The last filter of a chain, and what its flat field multiplied rho and kappa by."""

    ivar: np.ndarray
    pixels: matched_filter.Pixels
    beam_ell: tuple
    noise: list
    options: dict
    flatfield: np.ndarray

    def apply(self, signal):
        """rho and kappa of another map (ny, nx) through the same filter."""
        signal = np.where(self.ivar > 0, signal, 0).astype(np.float32)
        images = matched_filter.filter_map(signal, self.ivar, self.pixels, self.beam_ell, self.noise, **self.options)
        return tuple(image * self.flatfield for image in images[:2])


class Chain(NamedTuple):
    """What the stages of the workflow made of one map."""

    sky_map: maps.SkyMap
    pointing: pointing.PointingModel
    forced: object
    detections: object


@cache
def options():
    """The configuration with all its defaults, a fresh reading of config/config.yaml."""
    return yaml.safe_load((ROOT / "config" / "config.yaml").read_text())


@cache
def beam_of(band):
    """Measured beam profile of a band, or where it is not at hand a Moffat profile of the same width."""
    path = BEAM_FOLDER / f"profile_{band}.txt"
    if path.exists():
        return beams.read_profile(path)
    width = FWHM_ARCMIN[band] / 2 / np.sqrt(2 ** (1 / 3) - 1)
    radius = np.linspace(0, 6, 601)
    return beams.Beam(radius, (1 + (radius / width) ** 2) ** -3.0)


def make_scene(name, band, size_deg, *, dec_deg=0.0, spectrum=USUAL, depth=None, cmb=True):
    """Draw a scene.

    Parameters
    ----------
    name : str
        Decides the random numbers.
    band : str
    size_deg : (height, width)
        In declination and along the parallel, on the sky.
    dec_deg : float
        Of the middle.
    spectrum : mapping
        Keywords of :func:`skies.noise_spectrum`.
    depth : callable, optional
        ``depth(shape, wcs, rng)`` gives the relative inverse variance (ny, nx), default 1 everywhere.
    cmb : bool
    """
    rng = skies.rng_for(SEED, name)
    width = size_deg[1] / np.cos(np.radians(dec_deg))
    shape, wcs = geometry.make_car(30.0, dec_deg, width, size_deg[0], 0.5)
    relative = np.ones(shape, np.float32) if depth is None else depth(shape, wcs, rng).astype(np.float32)
    pixel_arcmin = np.sqrt(np.prod(skies.pixel_steps(shape, wcs))) / units.ARCMIN
    sigma = NOISE_UK_ARCMIN[band] / pixel_arcmin * units.intensity_factor("uK", FREQ_GHZ[band])

    def power(ell_y, ell_x):
        return skies.noise_spectrum(ell_y, ell_x, **spectrum)

    scene = Scene(band, shape, wcs, beam_of(band), relative / np.float32(sigma**2), power, cmb, None)
    return with_noise(scene, rng)


def with_noise(scene, rng):
    """The scene with its noise drawn anew."""
    observed = scene.ivar > 0
    noise = skies.noise_field(scene.shape, scene.wcs, scene.spectrum, rng, pad_arcmin=PAD_ARCMIN)
    noise /= np.sqrt(np.where(observed, scene.ivar, 1))
    if scene.cmb:
        noise += skies.gaussian_field(
            scene.shape, scene.wcs, cmb_power(scene), rng, transfer=sky_transfer(scene), pad_arcmin=PAD_ARCMIN
        )
    return Scene(**{**vars(scene), "noise": np.where(observed, noise, np.float32(0))})


def cmb_power(scene):
    """Power spectrum of the CMB before the beam, in (mJy/sr)^2 sr: a function of ell_y and ell_x."""
    factor = units.intensity_factor("K", FREQ_GHZ[scene.band])
    return lambda ell_y, ell_x: factor**2 * skies.cmb_power(ell_y, ell_x)


def sky_transfer(scene):
    """Beam times pixel window: a function of ell_y and ell_x."""
    return skies.sky_transfer(scene.beam, skies.pixel_steps(scene.shape, scene.wcs))


def exact_flux_err(scene):
    """Error in mJy of the best possible flux, (sum B^2 / N)^-1/2, for the median depth."""
    steps = skies.pixel_steps(scene.shape, scene.wcs)
    grid = skies.multipoles((1024, 1024), steps)
    transfer, area = sky_transfer(scene)(*grid).real, np.prod(steps)
    power = scene.spectrum(*grid) * area / float(np.median(scene.ivar[scene.ivar > 0]))
    if scene.cmb:
        power = power + cmb_power(scene)(*grid) * transfer**2
    density = transfer**2 / power
    kappa = (2 * density.sum() - density[:, [0, -1]].sum()) / (1024**2 * area)
    return float(kappa**-0.5)


def random_sources(scene, flux, rng, *, margin_arcmin=0.0):
    """Sources at random positions over the map and ``margin_arcmin`` around it (negative: not so far out)."""
    margin = margin_arcmin / 0.5
    y, x = (rng.uniform(-margin, n - 1 + margin, len(flux)) for n in scene.shape)
    return Sources(*geometry.pix2sky(scene.wcs, y, x), np.asarray(flux, float))


def grid_pixels(scene, spacing_arcmin, rng, *, margin_arcmin=20.0, jitter=0.25):
    """Pixel positions (y, x) on a grid on the sky, moved at random by up to ``jitter`` of its spacing."""
    dy, dx = (step / units.ARCMIN for step in skies.pixel_steps(scene.shape, scene.wcs))
    axes = []
    for n, step in zip(scene.shape, (dy, dx), strict=True):
        first = margin_arcmin / step
        count = int((n - 1 - 2 * first) / (spacing_arcmin / step)) + 1
        axes.append(first + (np.arange(count) + 0.5) * (n - 1 - 2 * first) / count)
    y, x = (grid.ravel() for grid in np.meshgrid(*axes, indexing="ij"))
    shift = jitter * spacing_arcmin * rng.uniform(-1, 1, (2, len(y)))
    return y + shift[0] / dy, x + shift[1] / dx


def at_pixels(scene, y, x, flux):
    """Sources at pixel positions."""
    return Sources(*geometry.pix2sky(scene.wcs, y, x), np.broadcast_to(np.asarray(flux, float), np.shape(y)))


def pixels_of(scene, sources):
    """Pixel positions (y, x) of sources."""
    return geometry.sky2pix(scene.wcs, sources.ra_deg, sources.dec_deg, scene.shape)


def join(*groups):
    """All sources of several groups."""
    return Sources(*(np.concatenate(parts) for parts in zip(*groups, strict=True)))


def realistic_sources(scene, rng, *, density_deg2=2.0, at_mjy=10.0, slope=1.1, limits=(1.0, 5000.0)):
    """Sources at random, N(> S) = density (S / at)^-slope a square degree, like radio sources at 90 to 150 GHz."""
    area = geometry.area_deg2(scene.shape, scene.wcs, np.ones(scene.shape, bool))
    low, high = limits
    total = density_deg2 * (low / at_mjy) ** -slope
    fraction = rng.uniform(size=rng.poisson(area * total))
    flux = low * (1 - fraction * (1 - (high / low) ** -slope)) ** (-1 / slope)
    return random_sources(scene, flux, rng, margin_arcmin=5.0)


def paint(scene, sources, beam=None):
    """Map (ny, nx) of sources in mJy/sr through the beam, 0 where unobserved."""
    image = skies.paint_point_sources(scene.shape, scene.wcs, *sources, scene.beam if beam is None else beam)
    image[~(scene.ivar > 0)] = 0
    return image


def input_map(scene, signal, *, form="intensity_ivar", weight=None):
    """Input of the chain."""
    labels = {"instrument": "solat", "array": "i1", "band": scene.band}
    info = maps.MapInfo(f"solat_i1_{scene.band}_1763085600", **labels, freq_ghz=FREQ_GHZ[scene.band], t_ref_unix_s=0.0)
    weight = scene.ivar if weight is None else weight
    return maps.InputMap(form, signal.astype(np.float32, copy=False), weight, None, scene.wcs, info)


def as_catalog(sources, *, flux_err=0.0):
    """Sources as the table ``catalog``."""
    names = [f"s{i:06d}" for i in range(len(sources.flux))]
    columns = {"source_id": names, "source_name": names, "ra_deg": sources.ra_deg, "dec_deg": sources.dec_deg}
    columns |= {"flux_mjy": sources.flux, "flux_err_mjy": flux_err, "spectral_index": 0.0, "pos_err_arcsec": 0.0}
    return tables.make("catalog", columns)


def preprocess(scene, signal, beam=None, **changes):
    """Filtered map of a signal seen through the scene, with the default configuration but for ``changes``."""
    beam = scene.beam if beam is None else beam
    return preprocessing.preprocess(input_map(scene, signal), beam, options()["preprocess_map"] | changes)


def preprocess_and_keep(scene, signal, **changes):
    """Filtered map of a signal, and the filter that the chain has converged to."""
    calls = []

    def record(signal, *args, **kwargs):
        result = original(signal, *args, **kwargs)
        calls.append((args, kwargs, result[1].copy()))
        return result

    original = matched_filter.filter_map
    with mock.patch.object(matched_filter, "filter_map", record):
        sky_map = preprocess(scene, signal, **changes)
    args, kwargs, kappa = calls[-1]
    ratio = np.divide(sky_map.kappa, kappa, out=np.zeros_like(kappa), where=kappa > 0)
    return sky_map, Filter(*args, kwargs, ratio)


def inject(scene, sky_map, kept, sources):
    """A filtered map with sources added to it, seen through beam, pixels and the filter of that map."""
    return dataclasses.replace(sky_map, rho=sky_map.rho + kept.apply(paint(scene, sources))[0])


def fit_pointing(sky_map, catalog, **changes):
    """Pointing model of a map, as the workflow fits it."""
    chosen = options()["fit_pointing"] | {"catalog_err_arcsec": 0.1} | changes
    centre = geometry.pix2sky(sky_map.wcs, *((n - 1) / 2 for n in sky_map.rho.shape))
    return pointing.fit(pointing.measure_offsets(sky_map, catalog, chosen), chosen, centre=centre)[0]


def force(sky_map, catalog, model):
    """Forced photometry of a catalogue."""
    return photometry.forced_photometry(sky_map, catalog, model, options()["forced_photometry"])


def find(sky_map, forced, model, **changes):
    """Blind search of a map without its known sources."""
    unknown = sky_map if forced is None else revisits.without_known(sky_map, forced, model)
    return detection.find_peaks(unknown, unknown.rho, options()["find_sources"] | changes, model)


def run_chain(scene, signal, known, *, catalog_err_arcsec=0.1):
    """preprocess, pointing, forced photometry and search of a signal (ny, nx) with the catalogue ``known``."""
    sky_map = preprocess(scene, signal)
    catalog = as_catalog(known)
    model = fit_pointing(sky_map, catalog, catalog_err_arcsec=catalog_err_arcsec)
    forced = force(sky_map, catalog, model)
    return Chain(sky_map, model, forced, find(sky_map, forced, model))


def beam_transform(scene):
    """(ell, B) of the scene's beam, as the filter takes it."""
    return _ELL, beams.beam_transform(scene.beam, _ELL)
