"""Which part of the sky the maps cover."""

import numpy as np

from sotrplib import geometry


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
