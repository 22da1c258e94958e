"""What the page of a run shows of its maps: image, histogram, part of the sky, cutouts around candidates.

Every map is read once; all of it comes from that one look.
"""

from dataclasses import dataclass, field

import numpy as np

from sotrplib import geometry, maps, photometry, plots, pointing, store, subtraction

CUTOUT_ARCMIN = 10.0
_CUTOUT_STEP_ARCMIN = 0.25
_IMAGE_PIXELS = 600  # longest side of the image of a map
_EDGES = np.arange(-8.0, 8.01, 0.25)


@dataclass(frozen=True, eq=False)
class MapView:
    """What the page shows of one map: its image, histogram and part of the sky, and cutouts by candidate."""

    map_id: str
    image: str
    shape_arcmin: tuple
    histogram: str
    warnings: list
    footprint: tuple  # usable blocks of pixels (boolean), pixels a block, WCS
    cutouts: dict = field(default_factory=dict)


def view_map(map_path, pointing_path, source_paths, targets, *, draw=True):
    """Look at one map.

    Parameters
    ----------
    map_path, pointing_path : path
        The filtered map and its pointing.
    source_paths : (path, path)
        Forced photometry and sifted detections.
    targets : pandas.DataFrame
        Rows of ``measurements``; cutouts are made of those in this map.
    draw : bool, default True
        Whether to make the image and the histogram.

    Returns
    -------
    MapView or None
        None for a failed map.
    """
    attrs = store.read_attrs(map_path)
    if attrs.get("status") == "failed":
        return None
    sky_map = maps.read_sky_map(map_path)
    model = _pointing_model(pointing_path)
    snr, good = maps.snr(sky_map), (sky_map.mask == 0) & (sky_map.kappa > 0)
    residual = _residual_snr(sky_map, model, source_paths)[good]
    factor = max(-(-max(snr.shape) // _IMAGE_PIXELS), 1)
    scales = [float(np.mean(s)) for s in geometry.pixel_scales(snr.shape, sky_map.wcs)]
    wanted = targets[targets["map_id"] == sky_map.info.map_id].to_dict("records")
    return MapView(
        map_id=sky_map.info.map_id,
        image=_map_image(snr, good, factor, sky_map.wcs) if draw else "",
        shape_arcmin=tuple(n * scale for n, scale in zip(snr.shape, scales, strict=True)),
        histogram=_histogram(snr[good], residual, sky_map.info.map_id) if draw else "",
        warnings=judge_noise(residual),
        footprint=(_blocks(good, factor, np.any), factor, sky_map.wcs),
        cutouts={row["source_id"]: plots.snr_image(cut_out(snr, sky_map.wcs, row, model)) for row in wanted},
    )


def judge_noise(residual_snr):
    """What is not Gaussian about the SNR of a map minus its sources, in words; empty if nothing is.

    Parameters
    ----------
    residual_snr : array (n,)
        Of the usable pixels.
    """
    if not len(residual_snr):
        return ["no usable pixel"]
    low, high = np.percentile(residual_snr, [15.865, 84.135])
    std, n_low = (high - low) / 2, int(np.count_nonzero(residual_snr < -5))
    words = [f"the noise is {std:.2f} times the stated error"] if abs(std - 1) > 0.1 else []
    if n_low > max(1e-5 * len(residual_snr), 10):
        words.append(f"{n_low} pixels lie below −5σ, {2.87e-7 * len(residual_snr):.2g} are expected")
    return words


def cut_out(snr, wcs, position, model):
    """SNR around a position, north up and east to the left, nearest pixels, NaN outside.

    Parameters
    ----------
    snr : array (ny, nx)
    wcs : astropy.wcs.WCS
    position : mapping
        ra_deg and dec_deg on the sky; the image is moved by the map's pointing offset there.
    model : pointing.PointingModel
    """
    half = CUTOUT_ARCMIN / 2 - _CUTOUT_STEP_ARCMIN / 2
    axis = np.arange(-half, half + 1e-6, _CUTOUT_STEP_ARCMIN) * 60
    dra, ddec = pointing.evaluate(model, position["ra_deg"], position["dec_deg"])[:2]
    north, east = np.meshgrid(-axis + ddec, -axis + dra, indexing="ij")
    y, x = geometry.sky2pix(wcs, *geometry.offset_position(position["ra_deg"], position["dec_deg"], east, north))
    inside = geometry.inside(snr.shape, y, x)
    image = np.full(y.shape, np.nan, np.float32)
    image[inside] = snr[np.rint(y[inside]).astype(int), np.rint(x[inside]).astype(int)]
    return image


def _pointing_model(path):
    attrs = store.read_attrs(path)
    return pointing.from_dict(attrs["pointing"]) if "pointing" in attrs else pointing.PointingModel()


def _residual_snr(sky_map, model, source_paths):
    """SNR of a map minus the sources that were measured or found in it and are not noise.

    A source that could not be measured, being masked, is taken away with its catalogue flux.
    """
    forced, sifted = (
        store.read_table(path, name) for path, name in zip(source_paths, ("forced", "sifted"), strict=True)
    )
    found = sifted[(sifted["origin"] == "blind") & (sifted["class"] != "noise")]
    forced = forced.assign(flux_mjy=forced["flux_mjy"].fillna(forced["catalog_flux_mjy"]))
    ra, dec, flux = found[["ra_deg", "dec_deg", "flux_mjy"]].to_numpy(float).T
    place = photometry.expected_positions(sky_map, ra, dec, model)
    known = photometry.fitted_sources(sky_map, forced, model)
    y, x, flux = (np.concatenate(both) for both in zip(known, (place.y, place.x, flux), strict=True))
    rho = subtraction.subtract_sources(sky_map.rho, sky_map.kappa, y, x, flux, sky_map.template)
    return np.divide(rho, np.sqrt(sky_map.kappa), out=np.full_like(rho, np.nan), where=sky_map.kappa > 0)


def _histogram(values, residual, map_id):
    ends = _EDGES[0], np.nextafter(_EDGES[-1], 0)
    counts = [np.histogram(np.clip(v, *ends), _EDGES)[0] for v in (values, residual)]
    figure = plots.snr_histogram(_EDGES, *counts)
    return plots.to_svg(figure, f"histogram-{map_id}", f"Histogram of the SNR of {map_id} and the unit Gaussian")


def _blocks(image, factor, reduce, fill=False):
    """Image of blocks of ``factor`` times ``factor`` pixels."""
    if factor == 1:
        return image
    padding = [(0, -n % factor) for n in image.shape]
    padded = np.pad(image, padding, constant_values=fill)
    shape = padded.shape[0] // factor, factor, padded.shape[1] // factor, factor
    return reduce(padded.reshape(shape), axis=(1, 3))


def _map_image(snr, good, factor, wcs):
    """Image of a map, the pixel farthest from 0 standing for its block; north up, east to the left."""
    high = _blocks(np.nan_to_num(snr, nan=-np.inf), factor, np.max, -np.inf)
    low = _blocks(np.nan_to_num(snr, nan=np.inf), factor, np.min, np.inf)
    image = np.where(high > -low, high, low)
    image = np.where(np.isfinite(image), image, np.nan)
    masked = np.isfinite(image) & ~_blocks(good, factor, np.any)
    y, x = ((n - 1) / 2 for n in snr.shape)
    ra, dec = geometry.pix2sky(wcs, np.array([y, y + 1, y]), np.array([x, x, x + 1]))
    east, north = geometry.tangent_offsets(ra[1:], dec[1:], ra[0], dec[0])
    turn = slice(None, None, -1 if north[0] > 0 else 1), slice(None, None, -1 if east[1] > 0 else 1)
    return plots.snr_image(image[turn], masked[turn])


# ---- the sky ----------------------------------------------------------------------------------------


def cover_sky(footprints):
    """Number of maps that cover each cell of a grid in RA and Dec.

    Parameters
    ----------
    footprints : list of (array (ny, nx) bool, int, astropy.wcs.WCS)
        Usable blocks of pixels of each map, the pixels along a block, the WCS of the pixels.

    Returns
    -------
    dict or None
        ra0_deg, x_deg (edges, RA minus ra0), dec_deg (edges), count (n_dec, n_x) and area_deg2, the area that any map
        covers; None where no map covers anything.
    """
    ra, dec = (
        (np.concatenate(v) for v in zip(*map(_block_centres, footprints), strict=True)) if footprints else ([], [])
    )
    if not len(ra):
        return None
    ra0 = middle_ra(ra)
    x = np.mod(ra - ra0 + 180, 360) - 180
    stretch = max(np.cos(np.radians(dec.mean())), 0.1)
    cell = max(np.ptp(x) * stretch, np.ptp(dec), 0.5) / 400
    x_edges = _edges(x, cell / stretch, 180)
    dec_edges = _edges(dec, cell, 90)
    grid = np.meshgrid((dec_edges[1:] + dec_edges[:-1]) / 2, (x_edges[1:] + x_edges[:-1]) / 2 + ra0, indexing="ij")
    count = sum(_covered(blocks, factor, wcs, *grid).astype(int) for blocks, factor, wcs in footprints)
    heights = np.degrees(np.diff(np.sin(np.radians(dec_edges))))
    area = float(np.sum((count > 0) * heights[:, None] * np.diff(x_edges)))
    return {"ra0_deg": ra0, "x_deg": x_edges, "dec_deg": dec_edges, "count": count, "area_deg2": area}


def middle_ra(ra_deg):
    """RA opposite to the middle of the widest gap between RAs: the middle of a figure that cuts none of them."""
    ra = np.sort(np.mod(ra_deg, 360))
    gaps = np.diff(np.append(ra, ra[0] + 360))
    widest = int(np.argmax(gaps))
    return float(np.mod(ra[widest] + gaps[widest] / 2 + 180, 360))


def _block_centres(footprint):
    blocks, factor, wcs = footprint
    i, j = np.nonzero(blocks)
    ra, dec = geometry.pix2sky(wcs, (i + 0.5) * factor - 0.5, (j + 0.5) * factor - 0.5)
    on_sky = np.isfinite(ra + dec)
    return ra[on_sky], dec[on_sky]


def _edges(values, cell, limit):
    low, high = max(values.min() - 8 * cell, -limit), min(values.max() + 8 * cell, limit)
    return np.linspace(low, high, max(int((high - low) / cell), 1) + 1)


def _covered(blocks, factor, wcs, dec, ra):
    y, x = geometry.sky2pix(wcs, geometry.wrap_ra(ra), dec)
    i, j = np.floor((y + 0.5) / factor), np.floor((x + 0.5) / factor)
    inside = (i >= 0) & (i < blocks.shape[0]) & (j >= 0) & (j < blocks.shape[1])
    covered = np.zeros(y.shape, bool)
    covered[inside] = blocks[i[inside].astype(int), j[inside].astype(int)]
    return covered
