"""Which part of the sky the maps cover."""

import numpy as np

from sotrplib import geometry

_GAP_DEG = 1.0  # RAs closer than this are of one arc


def measure_extent(blocks, factor, wcs):
    """Where the usable blocks of pixels of a map lie on the sky.

    Parameters
    ----------
    blocks : array (ny, nx) bool
    factor : int
        Pixels along a block.
    wcs : astropy.wcs.WCS
        Of the pixels.

    Returns
    -------
    dict or None
        ra_deg: arcs of RA (west end, east end) that hold the middles of all blocks; dec_deg: the lowest and the highest
        of these; dec_sum_deg and n_blocks, whose ratio is the mean. None without a block.
    """
    i, j = np.nonzero(blocks)
    ra, dec = geometry.pix2sky(wcs, (i + 0.5) * factor - 0.5, (j + 0.5) * factor - 0.5)
    on_sky = np.isfinite(ra + dec)
    ra, dec = ra[on_sky], dec[on_sky]
    if not len(ra):
        return None
    ends = {"dec_deg": [float(dec.min()), float(dec.max())], "dec_sum_deg": float(dec.sum()), "n_blocks": len(dec)}
    return ends | {"ra_deg": _arcs(np.unique(np.mod(ra, 360)))}


def _arcs(ra):
    """Arcs of sorted RAs, a list of [west end, east end]; the whole circle without a gap."""
    last = np.flatnonzero(np.append(ra[1:], ra[0] + 360) - ra > _GAP_DEG)
    if not len(last):
        return [[0.0, 360.0]]
    first = (np.roll(last, 1) + 1) % len(ra)
    return np.stack([ra[first], ra[last]], axis=1).tolist()


def cover_sky(extents, footprints):
    """Number of maps that cover each cell of a grid in RA and Dec.

    Parameters
    ----------
    extents : list of dict or None
        Of each map, from :func:`measure_extent`.
    footprints : iterable of (array (ny, nx) bool, int, astropy.wcs.WCS)
        Of the same maps: usable blocks of pixels, the pixels along a block, the WCS of the pixels; one at a time.

    Returns
    -------
    dict or None
        ra0_deg, x_deg (edges, RA minus ra0), dec_deg (edges), count (n_dec, n_x) and area_deg2, the area that any map
        covers; None where no map covers anything.
    """
    known = [extent for extent in extents if extent]
    if not known:
        return None
    ra0 = middle_ra([arc for extent in known for arc in extent["ra_deg"]])
    x, dec = (np.concatenate(values) for values in zip(*(_ends(extent, ra0) for extent in known), strict=True))
    mean_dec = sum(extent["dec_sum_deg"] for extent in known) / sum(extent["n_blocks"] for extent in known)
    stretch = max(np.cos(np.radians(mean_dec)), 0.1)
    cell = max(np.ptp(x) * stretch, np.ptp(dec), 0.5) / 400
    x_edges, dec_edges = _edges(x, cell / stretch, 180), _edges(dec, cell, 90)
    count = np.zeros((len(dec_edges) - 1, len(x_edges) - 1), int)
    for extent, footprint in zip(extents, footprints, strict=True):
        if extent:
            _count(count, (dec_edges, x_edges, ra0), extent, footprint)
    heights = np.degrees(np.diff(np.sin(np.radians(dec_edges))))
    area = float(np.sum((count > 0) * heights[:, None] * np.diff(x_edges)))
    return {"ra0_deg": ra0, "x_deg": x_edges, "dec_deg": dec_edges, "count": count, "area_deg2": area}


def middle_ra(arcs):
    """RA opposite to the middle of the widest gap between arcs of RA: the middle of a figure that cuts none of them."""
    first, last = np.asarray(arcs, float).T
    turned = last < first
    start, end = np.append(first, np.zeros(turned.sum())), np.append(np.where(turned, 360, last), last[turned])
    order = np.argsort(start, kind="stable")
    start, reached = start[order], np.maximum.accumulate(end[order])
    gaps = np.append(start[1:], start[0] + 360) - reached
    widest = int(np.argmax(gaps))
    return float(np.mod(reached[widest] + gaps[widest] / 2 + 180, 360))


def _ends(extent, ra0):
    """Least and largest RA minus ra0 and Dec of a map; all RAs of one that is cut opposite to ra0."""
    x = np.mod(np.array(extent["ra_deg"]) - ra0 + 180, 360) - 180
    whole = np.any(x[:, 0] > x[:, 1]) or extent["ra_deg"] == [[0.0, 360.0]]
    return [-180.0, 180.0] if whole else [x.min(), x.max()], extent["dec_deg"]


def _edges(values, cell, limit):
    low, high = max(values.min() - 8 * cell, -limit), min(values.max() + 8 * cell, limit)
    return np.linspace(low, high, max(int((high - low) / cell), 1) + 1)


def _count(count, grid, extent, footprint):
    """Add a map to the count (n_dec, n_x) of the cells it covers; ``grid`` is their edges in Dec and x, and ra0."""
    (dec_edges, x_edges, ra0), (blocks, factor, wcs) = grid, footprint
    x, dec = _ends(extent, ra0)
    margin = 2 * factor * float(np.abs(wcs.pixel_scale_matrix).max())
    stretched = margin / max(np.cos(np.radians(np.abs(dec).max())), 0.01)
    window = _between(dec_edges, dec, margin), _between(x_edges, x, stretched)
    dec, x = ((edges[1:] + edges[:-1])[own] / 2 for edges, own in zip((dec_edges, x_edges), window, strict=True))
    count[window] += _covered(blocks, factor, wcs, dec[:, None], geometry.wrap_ra(x + ra0))


def _between(edges, ends, margin):
    """Cells (slice) that reach into the range between two ends."""
    first, stop = np.searchsorted(edges, [ends[0] - margin, ends[1] + margin])
    return slice(max(int(first) - 1, 0), int(stop))


def _covered(blocks, factor, wcs, dec, ra):
    """Whether usable blocks cover the cells (n_dec, n_x) at Decs (n_dec, 1) and RAs (n_x,)."""
    y, x = _project(wcs, dec, ra)
    i, j = np.floor((y + 0.5) / factor), np.floor((x + 0.5) / factor)
    inside = [(place >= 0) & (place < n) for place, n in zip((i, j), blocks.shape, strict=True)]
    i, j = (np.where(good, place, 0).astype(int) for good, place in zip(inside, (i, j), strict=True))
    return blocks[i, j] & inside[0] & inside[1]


def _project(wcs, dec, ra):
    """Pixel coordinates y and x of cells, (n_dec, 1) and (n_x,) where they hang together with Dec and RA alone."""
    if geometry.is_plain_car(wcs):
        return geometry.sky2pix(wcs, ra[0], dec)[0], geometry.sky2pix(wcs, ra, dec[0, 0])[1]
    return geometry.sky2pix(wcs, ra, dec)
