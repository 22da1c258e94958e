"""Lines on the filter: information kept, flux response, scatter of the SNR, noise level beside bright sources."""

import numpy as np
import scenes
from covariance import Covariance
from rows import Row
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

from sotrplib import geometry, masks, skies, units

_REACH = 16  # pixels from a source to the end of its beam


# ---- information kept --------------------------------------------------------------------------------


def efficiency(size):
    """Information kept by the filter at test points, against the exact N^-1 with the true covariance."""
    side, spacing = {"full": (14.15, 40.0), "small": (3.0, 20.0)}[size]
    rows = []
    for name, spectrum in (("isotropic", scenes.ISOTROPIC), ("striped", scenes.STRIPED)):
        scene = scenes.make_scene(f"efficiency {name}", "f090", (side, side), spectrum=spectrum, depth=scan_depth)
        points = test_points(scene, spacing)
        best = best_fluxes(scene, points)
        rng = skies.rng_for(scenes.SEED, "efficiency", name)
        counts = scenes.realistic_sources(scene, rng)
        bright = scenes.random_sources(scene, [50e3], rng, margin_arcmin=-30)
        for case, sources in (("counts", counts), ("50 Jy", bright)):
            rows.append(Row(f"{name}, {case}", *information_kept(scene, sources, points, best)))
    return rows


def scan_depth(shape, wcs, rng):
    """Depth of a scan with stripes, ragged edges and a few holes."""
    return _scan(shape, wcs, rng, n_holes=max(4, shape[0] // 120))


def _scan(shape, wcs, rng, *, n_holes):
    centre = geometry.pix2sky(wcs, (shape[0] - 1) / 2, (shape[1] - 1) / 2)
    return skies.scan_depth(
        skies.Scan(*centre, shape[1] / 240, shape[0] / 240, 0.1, 0.0), shape, wcs, rng, n_holes=n_holes
    )


def test_points(scene, spacing_arcmin):
    """Pixels (y, x) on a grid, 5 arcmin or more from anything unobserved."""
    y, x = (
        np.rint(p).astype(int) for p in scenes.grid_pixels(scene, spacing_arcmin, np.random.default_rng(0), jitter=0.1)
    )
    distance = distance_transform_edt(np.pad(scene.ivar > 0, 1))[1:-1, 1:-1]
    keep = distance[y, x] > 10
    return y[keep], x[keep]


def best_fluxes(scene, points):
    """Flux of the best possible filter in the scene's noise and its error, at each point."""
    covariance = Covariance(scene)
    sign = np.where(np.arange(len(points[0])) % 2, 1.0, -1.0)
    probes = scenes.paint(scene, scenes.at_pixels(scene, *points, sign))
    weighted, response = covariance.solve(scene.noise), covariance.solve(probes)
    rho, kappa = np.empty(len(sign)), np.empty(len(sign))
    for i, (row, column) in enumerate(zip(*points, strict=True)):
        window = slice(max(row - _REACH, 0), row + _REACH + 1), slice(max(column - _REACH, 0), column + _REACH + 1)
        own = sign[i] * probes[window]
        rho[i], kappa[i] = np.sum(own * weighted[window]), sign[i] * np.sum(own * response[window])
    return rho / kappa, kappa**-0.5


def information_kept(scene, sources, points, best):
    """Mean efficiency over the points, its error and the number of points.

    For the best flux b and any other unbiased linear one f of the same noise, var(f) = var(b) + var(f - b).
    """
    _, kept = scenes.preprocess_and_keep(scene, scene.noise + scenes.paint(scene, sources))
    rho, kappa = kept.apply(scene.noise)
    response = kept.apply(scenes.paint(scene, scenes.at_pixels(scene, *points, 1.0)))[0][points] / kappa[points]
    excess = ((rho[points] / kappa[points] / response - best[0]) / best[1]) ** 2
    mean, error = excess.mean(), excess.std() / np.sqrt(len(excess))
    return 1 / (1 + mean), error / (1 + mean) ** 2, len(excess)


# ---- flux response -----------------------------------------------------------------------------------


def response(size):
    """Flux of faint sources after the whole chain, over the truth: by declination, near edges and holes, by field."""
    return [*_declinations(size), *_edges(size), *_fields(size)]


def _declinations(size):
    sides, spacing = {"full": ((10.0, 12.0), 20.0), "small": ((4.0, 3.0), 20.0)}[size]
    for dec in (0.0, -30.0, -52.0):
        scene = scenes.make_scene(f"response {dec}", "f090", sides, dec_deg=dec)
        y, x = scenes.grid_pixels(scene, spacing, skies.rng_for(scenes.SEED, "response", dec))
        yield Row(f"dec {dec:.0f}", *_mean(recovered(scene, y, x)))


def recovered(scene, y, x, *, snr=2.5, **changes):
    """Flux over truth of faint sources at pixels (y, x), without the noise: that of a chain on the noise alone less."""
    sources = scenes.at_pixels(scene, y, x, snr * scenes.exact_flux_err(scene))
    catalog, fluxes = scenes.as_catalog(sources), []
    for signal in (scene.noise, scene.noise + scenes.paint(scene, sources)):
        sky_map = scenes.preprocess(scene, signal, **changes)
        forced = scenes.force(sky_map, catalog, scenes.fit_pointing(sky_map, catalog))
        fluxes.append(forced["flux_mjy"].to_numpy())
    return (fluxes[1] - fluxes[0]) / sources.flux


def _mean(values):
    values = values[np.isfinite(values)]
    return values.mean(), values.std(ddof=1) / np.sqrt(len(values)), len(values)


def _edges(size):
    side, n_fields = {"full": (8.0, 3), "small": (3.0, 1)}[size]
    parts = []
    for k in range(n_fields):
        scene = scenes.make_scene(f"edges {k}", "f090", (side, side), dec_deg=-30.0, depth=_ragged_depth)
        y, x = near_unobserved(scene, skies.rng_for(scenes.SEED, "edges", k))
        parts.append((recovered(scene, y, x, edge_arcmin=1.0), *distance_to_unobserved(scene, y, x)))
    values, distance, at_hole = (np.concatenate(part) for part in zip(*parts, strict=True))
    for low, high in ((2, 3), (3, 5), (5, 10)):
        yield Row(f"edge {low}-{high} arcmin", *_mean(values[~at_hole & (distance >= low) & (distance < high)]))
    for low, high in ((1, 2), (2, 4)):
        yield Row(f"hole {low}-{high} arcmin", *_mean(values[at_hole & (distance >= low) & (distance < high)]))


def _ragged_depth(shape, wcs, rng):
    """Depth of a scan with many holes, all of it deep enough to be kept."""
    return _scan(shape, wcs, rng, n_holes=int(6e-5 * shape[0] * shape[1]))


def near_unobserved(scene, rng, *, spacing_arcmin=12.0):
    """Random positions (y, x) 1 (holes) or 2 to 10 arcmin from unobserved pixels, the nearer the more of them.

    No two of them are within ``spacing_arcmin``.
    """
    y, x = (rng.uniform(0, n - 1, scene.ivar.size // 20) for n in scene.shape)
    distance, at_hole = distance_to_unobserved(scene, y, x)
    near = np.flatnonzero((distance >= np.where(at_hole, 1, 2)) & (distance < 10))
    near = near[np.argsort(distance[near] * rng.uniform(size=len(near)))]
    return tuple(p[near][_thinned(scene, y[near], x[near], spacing_arcmin)] for p in (y, x))


def _thinned(scene, y, x, spacing_arcmin):
    """Index of positions of which none is within the spacing of an earlier one."""
    dy, dx = (step / units.ARCMIN for step in skies.pixel_steps(scene.shape, scene.wcs))
    pairs = cKDTree(np.stack([y * dy, x * dx], 1)).query_pairs(spacing_arcmin, output_type="ndarray")
    keep = np.ones(len(y), bool)
    for first, second in pairs[np.lexsort(pairs.T[::-1])]:
        keep[second] &= not keep[first]
    return np.flatnonzero(keep)


def distance_to_unobserved(scene, y, x):
    """Distance (arcmin) to the nearest pixel without data, and whether that pixel lies in a hole."""
    observed = scene.ivar > 0
    holes = masks.find_holes(observed)
    to_edge, to_hole = (masks.distance_to_bad_arcmin(bad, scene.wcs, y, x) for bad in (~(observed | holes), holes))
    return np.minimum(to_edge, to_hole), to_hole < to_edge


def _fields(size):
    counts = {"full": {(2, 2): 24, (4, 4): 8, (8, 12): 2, (20, 40): 1}, "small": {(2, 2): 8, (4, 4): 2}}[size]
    for sides, n_fields in counts.items():
        values = []
        for k in range(n_fields):
            name = f"response {sides} {k}"
            scene = scenes.make_scene(name, "f090", sides, dec_deg=-30.0)
            y, x = scenes.grid_pixels(scene, 20.0, skies.rng_for(scenes.SEED, name, "sources"), margin_arcmin=10.0)
            values.append(recovered(scene, y, x))
        yield Row(f"{sides[1]} x {sides[0]} deg", *_mean(np.concatenate(values)))


# ---- scatter of the SNR ------------------------------------------------------------------------------


def scatter(size):
    """Standard deviation of the SNR away from sources, inside and toward edges; kappa where nothing was observed."""
    side, n_fields = {"full": (10.0, 2), "small": (4.0, 1)}[size]
    samples, wrong = [], 0
    for k in range(n_fields):
        scene = scenes.make_scene(f"scatter {k}", "f090", (side, side), dec_deg=-30.0, depth=_ragged_depth)
        sources = scenes.realistic_sources(scene, skies.rng_for(scenes.SEED, "scatter", k))
        sky_map = scenes.preprocess(scene, scene.noise + scenes.paint(scene, sources))
        wrong += np.count_nonzero(((sky_map.kappa != 0) | (sky_map.rho != 0)) & (scene.ivar == 0))
        samples.append(_quiet_snr(sky_map, scene, sources))
    snr, distance = (np.concatenate(part) for part in zip(*samples, strict=True))
    for name, low, high in (("interior", 10, np.inf), ("edge 2-3 arcmin", 2, 3), ("edge 3-5 arcmin", 3, 5)):
        yield Row(name, *_std(snr[(distance >= low) & (distance < high)]))
    yield Row("edge 5-10 arcmin", *_std(snr[(distance >= 5) & (distance < 10)]))
    yield Row("pixels of kappa where unobserved", wrong, 0, len(snr))


def _quiet_snr(sky_map, scene, sources):
    """SNR of the pixels away from sources, and their distance (arcmin) to the nearest unobserved pixel."""
    observed = sky_map.kappa > 0
    quiet = observed & ~_around(scene, sources, scenes.exact_flux_err(scene))
    step = [d / units.ARCMIN for d in skies.pixel_steps(scene.shape, scene.wcs)]
    distance = distance_transform_edt(np.pad(observed, 1), sampling=step)[1:-1, 1:-1]
    return sky_map.rho[quiet] / np.sqrt(sky_map.kappa[quiet]), distance[quiet]


def _around(scene, sources, flux_err):
    """Pixels within 6 arcmin of sources above 1.5 sigma, 15 of those above 20."""
    near = np.zeros(scene.shape, bool)
    for low, radius in ((1.5, 6.0), (20.0, 15.0)):
        chosen = sources.flux > low * flux_err
        near |= masks.disc_mask(scene.shape, scene.wcs, sources.ra_deg[chosen], sources.dec_deg[chosen], radius)
    return near


def _std(snr):
    """Standard deviation, its error and the number of independent values, one in about 15 pixels."""
    independent = len(snr) / 15
    return snr.std(), snr.std() / np.sqrt(2 * independent), int(independent)


# ---- noise level -------------------------------------------------------------------------------------


def noise_level(size):
    """Flux error far from a bright source that nobody knows, over that without it."""
    sides = {"full": [(4.0, 4.0), (14.0, 14.0)], "small": [(3.0, 3.0)]}[size]
    for side in sides:
        scene = scenes.make_scene(f"level {side}", "f090", side, dec_deg=-30.0)
        rng = skies.rng_for(scenes.SEED, "level", side)
        y, x = (n * rng.uniform(0.3, 0.7) for n in scene.shape)
        far = np.hypot(*(grid - p for grid, p in zip(np.indices(scene.shape), (y, x), strict=True))) > 60
        quiet = scenes.preprocess(scene, scene.noise).kappa
        for jansky in (1, 10, 50):
            source = scenes.at_pixels(scene, [y], [x], 1000.0 * jansky)
            loud = scenes.preprocess(scene, scene.noise + scenes.paint(scene, source)).kappa
            ratio = np.sqrt(quiet[far] / loud[far])
            yield Row(
                f"{jansky} Jy in {side[1]:.0f} x {side[0]:.0f} deg", np.median(ratio), ratio.std() / 10, ratio.size
            )
