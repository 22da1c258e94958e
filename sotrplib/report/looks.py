"""One look at a filtered map and what the stages made of it: its noise, its image, its checks."""

from dataclasses import dataclass

import numpy as np

from sotrplib import geometry, maps, pointing, store, tables
from sotrplib.report import checks, words

EDGES = np.arange(-8.0, 8.01, 0.25)  # of the histogram of the SNR
_BLOCK = 1 << 16  # values counted at a time, few enough to stay in the cache


@dataclass(frozen=True, eq=False)
class Look:
    """A map, its pointing and forced photometry, and what of its pixels several checks need.

    ``snr`` and ``residual`` (ny, nx) are with and without its sources, ``good`` its usable pixels, ``noise`` (n,) the
    residual there; ``offsets`` is of :func:`checks.pointing_offsets`, ``attrs`` and ``contents`` are those of its file.
    """

    sky_map: maps.SkyMap
    model: pointing.PointingModel
    offsets: tuple
    forced: object
    snr: np.ndarray
    residual: np.ndarray
    good: np.ndarray
    noise: np.ndarray
    attrs: dict
    contents: dict


def take_look(map_path, pointing_path, forced_path, sifted_path, *, most_mpix=np.inf):
    """Read a map and what the stages made of it (Look); of one of more million pixels the rows in its middle alone."""
    window = middle_of(map_path, most_mpix)
    sky_map = maps.read_sky_map(map_path, window, with_time=False)
    fitted = store.read_attrs(pointing_path)
    model = pointing.from_dict(fitted["pointing"]) if "pointing" in fitted else pointing.PointingModel()
    forced, sifted = store.read_table(forced_path, "forced"), store.read_table(sifted_path, "sifted")
    if window:
        forced, sifted = _inside(sky_map, forced), _inside(sky_map, sifted)
    snr = maps.snr(sky_map)
    residual = checks.residual_snr(sky_map, snr, model, forced, sifted)
    good = (sky_map.mask == 0) & (sky_map.kappa > 0)
    return Look(
        sky_map=sky_map,
        model=model,
        offsets=checks.pointing_offsets(store.read_table(pointing_path, "pointing_sources"), model),
        forced=forced,
        snr=snr,
        residual=residual,
        good=good,
        noise=residual[good],
        attrs=store.read_attrs(map_path),
        contents=store.list_contents(map_path),
    )


def middle_of(map_path, most_mpix):
    """Window of the rows in the middle of a map that hold so many million pixels; None if that is all of it."""
    ny, nx = store.list_contents(map_path)["maps/mask"]
    n_rows = max(1, int(min(most_mpix * 1e6 / nx, ny)))
    first = (ny - n_rows) // 2
    return None if n_rows == ny else (slice(first, first + n_rows), slice(0, nx))


def _inside(sky_map, table):
    """Rows of a table whose sources lie on the pixels of a map."""
    y, x = geometry.sky2pix(sky_map.wcs, *table[["ra_deg", "dec_deg"]].to_numpy(float).T, sky_map.rho.shape)
    return table[geometry.inside(sky_map.rho.shape, y, x)].reset_index(drop=True)


class UsableRows:
    """Usable pixels of a filtered map (ny, nx), read from its file some rows at a time."""

    def __init__(self, map_path):
        self._mask = store.Image(map_path, "maps/mask")
        self.shape = self._mask.shape

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows):
        return self._mask[rows, slice(0, self.shape[1])] == 0


def measure(look, beam):
    """What the page says of the instrument from a map, numbers by name; ``beam`` is its :func:`checks.beam_profile`."""
    ratio, ratio_err, n_ratio = checks.flux_ratio(checks.sure_fluxes(look.forced))
    n_negative, n_expected = checks.count_negative(look.sky_map, look.residual)
    _, after, used = look.offsets
    return {
        "flux_ratio": ratio, "flux_ratio_err": ratio_err, "n_flux_ratio": n_ratio,
        "n_negative": n_negative, "n_negative_expected": n_expected,
        "pointing_rms_arcsec": float(np.sqrt(np.mean(after[:, used] ** 2))) if used.any() else np.nan,
        "beam_width": beam["width"] if beam else np.nan,
    }  # fmt: skip


def say_masked(sky_map):
    """Area under each mask in words."""
    present = int(np.bitwise_or.reduce(sky_map.mask, axis=None)) if sky_map.mask.size else 0
    bits = {name: bit for name, bit in tables.MASK_BITS.items() if name != "UNOBSERVED" and bit & present}
    areas = {
        name.lower(): geometry.area_deg2(sky_map.mask.shape, sky_map.wcs, sky_map.mask & bit)
        for name, bit in bits.items()
    }
    return ", ".join(f"{name} {words.format_number(area)} deg²" for name, area in areas.items() if area > 0)


def median_error(look):
    """Median flux error (mJy) of the usable pixels, as the map's file says it or as its pixels do; NaN without any."""
    told = look.attrs.get("flux_err_mjy")
    if told is not None or not len(look.noise):
        return np.nan if told is None else told
    return float(np.median(look.sky_map.kappa[look.good]) ** -0.5)


def count_in_bins(values):
    """Number of finite values (n,) in each of the bins of the histogram, whose end bins hold all that lies beyond."""
    n_bins, per_step = len(EDGES) - 1, np.float32(1 / (EDGES[1] - EDGES[0]))
    counts = np.zeros(n_bins, int)
    for start in range(0, len(values), _BLOCK):
        bins = (values[start : start + _BLOCK] - np.float32(EDGES[0])) * per_step
        bins = np.clip(bins[np.isfinite(bins)], 0, n_bins - 1)  # not negative: to a whole number is down
        counts += np.bincount(bins.astype("u1"), minlength=n_bins)
    return counts


def flux_rows(sky_map):
    """Function of rows (slice) that gives their flux in mJy, NaN where unobserved."""

    def rows(some):
        rho, kappa = sky_map.rho[some], sky_map.kappa[some]
        return np.divide(rho, kappa, out=np.full(rho.shape, np.nan, np.float32), where=kappa > 0)

    return rows


def map_image(rows, good, factor, wcs):
    """Image of a map in blocks, the pixel farthest from 0 standing for its block, and its masked pixels.

    North is up, east to the left: two arrays, the first row being the northernmost.

    Parameters
    ----------
    rows : function of slice, or array (ny, nx)
        Values of some rows of the map.
    good : array (ny, nx) bool
        Its usable pixels.
    factor : int
        Pixels along a block.
    wcs : astropy.wcs.WCS
        Of the pixels.
    """
    image = _farthest(rows if callable(rows) else rows.__getitem__, good.shape, factor)
    masked = np.isfinite(image) & ~any_in_blocks(good, factor)
    turn = turn_north_up(good.shape, wcs)
    return image[turn], masked[turn]


def any_in_blocks(image, factor):
    """Whether any pixel is true in each block of ``factor`` times ``factor`` pixels (fewer at the ends)."""
    starts = np.arange(0, image.shape[1], factor)
    rows = (image[row : row + factor].any(axis=0) for row in range(0, len(image), factor))
    return np.stack([np.logical_or.reduceat(row, starts) for row in rows])


def _farthest(rows, shape, factor):
    """Value farthest from 0 in each block of pixels, NaN where there is none."""
    starts, made = np.arange(0, shape[1], factor), []
    for row in range(0, shape[0], factor):
        strip = rows(slice(row, row + factor))
        high, low = (ends.reduceat(ends.reduce(strip, axis=0), starts) for ends in (np.fmax, np.fmin))
        made.append(np.where(high > -low, high, low))
    image = np.stack(made)
    return np.where(np.isfinite(image), image, np.nan)


def turn_north_up(shape, wcs):
    """Slices that turn an image north up and east to the left."""
    y, x = ((n - 1) / 2 for n in shape)
    ra, dec = geometry.pix2sky(wcs, np.array([y, y + 1, y]), np.array([x, x, x + 1]))
    east, north = geometry.tangent_offsets(ra[1:], dec[1:], ra[0], dec[0])
    return slice(None, None, -1 if north[0] > 0 else 1), slice(None, None, -1 if east[1] > 0 else 1)
