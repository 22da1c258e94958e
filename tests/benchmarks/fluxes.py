"""Lines on forced photometry: isolated sources, blends and groups, crowded maps with very bright sources."""

from typing import NamedTuple

import numpy as np
import scenes
from rows import Row

from sotrplib import geometry, skies

_IN_GROUPS = 4000  # sources in groups of one size
_GROUPS = ("cluster", 3), ("cluster", 10), ("cluster", 30), ("cluster", 100), ("chain", 100), ("chain", 400)
POINTING_ARCSEC = 12.0, -8.0  # offset of every map, measured minus true, east and north


class Measured(NamedTuple):
    """Measured and true fluxes (mJy) of sources, reported error and kappa^-1/2 at their position; arrays (n,)."""

    flux: np.ndarray
    error: np.ndarray
    truth: np.ndarray
    depth: np.ndarray

    @property
    def pull(self):
        """Measured minus true flux over the reported error."""
        return (self.flux - self.truth) / self.error


def shifted(sources):
    """The sources where the telescope's pointing error puts them."""
    ra, dec = geometry.offset_position(sources.ra_deg, sources.dec_deg, *POINTING_ARCSEC)
    return sources._replace(ra_deg=ra, dec_deg=dec)


def measure(scene, sources, known=None):
    """Whole chain on a scene with sources and a pointing error; fluxes of all sources, or of those ``known``."""
    known = sources if known is None else known
    sky_map = scenes.preprocess(scene, scene.noise + scenes.paint(scene, shifted(sources)))
    return force(scene, sky_map, known, scenes.fit_pointing(sky_map, scenes.as_catalog(known)))


def force(scene, sky_map, known, model=None):
    """Fluxes of known sources in a filtered map."""
    forced = scenes.force(sky_map, scenes.as_catalog(known), model)
    index = forced["source_id"].str[1:].astype(int).to_numpy()
    y, x = (
        np.clip(np.rint(p), 0, n - 1).astype(int)
        for p, n in zip(scenes.pixels_of(scene, known), scene.shape, strict=True)
    )
    return Measured(
        forced["flux_mjy"].to_numpy(),
        forced["flux_err_mjy"].to_numpy(),
        known.flux[index],
        sky_map.kappa[y[index], x[index]] ** -0.5,
    )


def join(parts):
    """All sources of several maps that were measured."""
    whole = Measured(*(np.concatenate(values) for values in zip(*parts, strict=True)))
    good = np.isfinite(whole.flux)
    return Measured(*(values[good] for values in whole))


def select(measured, chosen):
    """Those of the sources."""
    return Measured(*(values[chosen] for values in measured))


# ---- isolated sources --------------------------------------------------------------------------------


def forced(size):
    """Bias, scatter and pulls of forced fluxes of isolated sources from zero flux to SNR 500, by band."""
    sides, n_maps = {"full": ((10.0, 20.0), 2), "small": ((4.0, 6.0), 1)}[size]
    for band in ("f090", "f150"):
        parts = []
        for k in range(n_maps):
            scene = scenes.make_scene(f"forced {band} {k}", band, sides, dec_deg=-30.0)
            parts.append(measure(scene, isolated_sources(scene, skies.rng_for(scenes.SEED, "forced", band, k))))
        yield from _flux_rows(band, join(parts), scenes.exact_flux_err(scene))


def isolated_sources(scene, rng, *, spacing_arcmin=18.0):
    """Sources on a loose grid: a quarter of no flux, an eighth of SNR 1 to 5, the rest to SNR 500."""
    y, x = scenes.grid_pixels(scene, spacing_arcmin, rng)
    kind = rng.integers(0, 8, len(y))
    low, high = np.where(kind == 2, 1, 5), np.where(kind == 2, 5, 500)
    snr = np.where(kind < 2, 0, low * (high / low) ** rng.uniform(size=len(y)))
    return scenes.at_pixels(scene, y, x, snr * scenes.exact_flux_err(scene))


def _flux_rows(band, measured, flux_err):
    snr, pull = measured.truth / flux_err, measured.pull
    zero, bright = snr == 0, snr >= 100
    yield Row(f"{band} bias at zero flux, sigma", *mean(pull[zero]))
    ratio = measured.flux[bright] / measured.truth[bright] - 1
    yield Row(f"{band} bias at SNR >= 100, %", *mean(100 * ratio))
    yield Row(f"{band} pull sd", *sd(pull))
    for low, high in ((0, 0), (1, 5), (5, 20), (20, 100), (100, 500)):
        chosen = (snr >= low) & (snr <= high)
        yield Row(f"{band} pull sd, SNR {low}-{high}", *sd(pull[chosen]))
    yield Row(f"{band} scatter over kappa^-1/2", *sd((measured.flux - measured.truth) / measured.depth))


def mean(values):
    """Mean, its error and the number of values."""
    return values.mean(), values.std(ddof=1) / np.sqrt(len(values)), len(values)


def sd(values):
    """Standard deviation, its error and the number of values."""
    spread = values.std(ddof=1)
    kurtosis = np.mean((values - values.mean()) ** 4) / spread**4
    return spread, spread * np.sqrt(max(kurtosis - 1, 0.1) / len(values)) / 2, len(values)


# ---- blends ------------------------------------------------------------------------------------------


def blends(size):
    """Pairs of SNR 20 and 40, and groups of up to hundreds, at known positions; separations in FWHM of the beam.

    They are put into filtered maps through the filter of these maps, far more of them than a sky can hold.
    """
    sides = {"full": (10.0, 20.0), "small": (4.0, 4.0)}[size]
    scene = scenes.make_scene("blends", "f090", sides, dec_deg=-30.0)
    filtered = scenes.preprocess_and_keep(scene, scene.noise)
    for separation in {"full": (0.75, 1.0, 1.5), "small": (0.75,)}[size]:
        sources = pairs(scene, separation, 18.0, skies.rng_for(scenes.SEED, "pairs", separation))
        yield from _pair_rows(f"pairs at {separation} FWHM", _injected(scene, *filtered, sources))
    for shape, members in {"full": _GROUPS, "small": _GROUPS[1:2]}[size]:
        sources = groups(scene, shape, members, skies.rng_for(scenes.SEED, "groups", shape, members))
        measured = _injected(scene, *filtered, sources)
        yield Row(f"{shape} of {members}, bias, sigma", *mean(measured.pull))
        yield Row(f"{shape} of {members}, pull sd", *sd(measured.pull))


def _injected(scene, sky_map, kept, sources):
    return join([force(scene, scenes.inject(scene, sky_map, kept, sources), sources)])


def pairs(scene, separation_fwhm, spacing_arcmin, rng, *, snr=(20.0, 40.0)):
    """Pairs of sources on a loose grid, the second at a random angle from the first; first all first ones."""
    first = scenes.at_pixels(scene, *scenes.grid_pixels(scene, spacing_arcmin, rng), 1.0)
    angle = rng.uniform(0, 2 * np.pi, len(first.flux))
    step = 60 * separation_fwhm * scenes.FWHM_ARCMIN[scene.band]
    moved = geometry.offset_position(first.ra_deg, first.dec_deg, step * np.cos(angle), step * np.sin(angle))
    flux_err = scenes.exact_flux_err(scene)
    return scenes.join(
        *(scenes.Sources(*p, first.flux * s * flux_err) for p, s in zip((first[:2], moved), snr, strict=True))
    )


def _pair_rows(name, measured):
    fainter = measured.truth < measured.truth.mean()
    for part, chosen in (("fainter", fainter), ("brighter", ~fainter)):
        yield Row(f"{name}, bias of the {part}, sigma", *mean(measured.pull[chosen]))
    yield Row(f"{name}, pull sd", *sd(measured.pull))


def groups(scene, shape, members, rng, *, separation_fwhm=0.75, snr=(5.0, 50.0)):
    """Groups of ``members`` sources, neighbours 0.75 to 1 beam FWHM apart, on a loose grid."""
    pattern = {"cluster": _cluster, "chain": _chain}[shape](members, rng)
    pattern = pattern * separation_fwhm * scenes.FWHM_ARCMIN[scene.band]
    extent = np.hypot(*pattern).max()
    y, x = scenes.grid_pixels(scene, 2 * extent + 18, rng, margin_arcmin=extent + 10, jitter=0.05)
    chosen = rng.permutation(len(y))[: max(10, _IN_GROUPS // members)]
    y, x = y[chosen], x[chosen]
    dy, dx = (step / scenes.ARCMIN for step in skies.pixel_steps(scene.shape, scene.wcs))
    angle = rng.uniform(0, 2 * np.pi, (len(y), 1))
    across = pattern[0] * np.cos(angle) - pattern[1] * np.sin(angle)
    along = pattern[0] * np.sin(angle) + pattern[1] * np.cos(angle)
    y, x = (y[:, None] + across / dy).ravel(), (x[:, None] + along / dx).ravel()
    significance = snr[0] * (snr[1] / snr[0]) ** rng.uniform(size=len(y))
    return scenes.at_pixels(scene, y, x, significance * scenes.exact_flux_err(scene))


def _cluster(members, rng):
    """Offsets (2, members) of the points of a hexagonal lattice nearest its origin, 1.15 apart and jittered by 0.07."""
    axis = np.arange(-30, 31)
    i, j = np.meshgrid(axis, axis)
    y, x = 1.15 * np.sqrt(0.75) * j.ravel(), 1.15 * (i + 0.5 * (j % 2)).ravel()
    nearest = np.argsort(np.hypot(y, x), kind="stable")[:members]
    return np.stack([y, x])[:, nearest] + rng.uniform(-0.07, 0.07, (2, members))


def _chain(members, rng):
    """Offsets (2, members) of points 1.15 apart along the windings, 6 apart, of a spiral, jittered by 0.07."""
    angle = [2 * np.pi]
    while len(angle) < members:
        angle.append(angle[-1] + 1.15 / (angle[-1] * 6 / (2 * np.pi)))
    angle = np.array(angle)
    radius = angle * 6 / (2 * np.pi)
    return radius * np.stack([np.sin(angle), np.cos(angle)]) + rng.uniform(-0.07, 0.07, (2, members))


# ---- crowded and very bright -------------------------------------------------------------------------


def crowded(size):
    """Very bright sources in a crowded map: their bias, and pulls of all sources above SNR 6 in the catalogue.

    The catalogue holds what is above SNR 5; the fainter neighbours are unknown to the chain.
    """
    sides = {"full": (10.0, 20.0), "small": (5.0, 5.0)}[size]
    for density in {"full": (3, 10, 30), "small": (10,)}[size]:
        scene = scenes.make_scene(f"crowded {density}", "f090", sides, dec_deg=-30.0)
        flux_err = scenes.exact_flux_err(scene)
        sources = crowd(scene, density, skies.rng_for(scenes.SEED, "crowded", density))
        known = scenes.Sources(*(values[sources.flux > 5 * flux_err] for values in sources))
        measured = join([measure(scene, sources, known)])
        snr = measured.truth / flux_err
        bright = snr >= 1000
        yield Row(
            f"{density} deg^-2, bias at SNR >= 1000, %", *mean(100 * (measured.flux / measured.truth - 1)[bright])
        )
        yield Row(f"{density} deg^-2, pull sd, SNR > 6", *sd(measured.pull[snr > 6]))


def crowd(scene, density_deg2, rng):
    """``density`` sources above SNR 6 a square degree at random, N(> S) ~ S^-1.1 from SNR 1, some of SNR 1000-3000."""
    flux_err = scenes.exact_flux_err(scene)
    y, x = scenes.grid_pixels(scene, 90.0, rng)
    bright = scenes.at_pixels(scene, y, x, flux_err * 1000 * 3 ** rng.uniform(size=len(y)))
    limits = flux_err, 1000 * flux_err
    faint = scenes.realistic_sources(scene, rng, density_deg2=density_deg2, at_mjy=6 * flux_err, limits=limits)
    return scenes.join(bright, faint)
