"""The boxes of sky that a run needs of a catalogue."""

import logging

from sotrplib import geometry, ingest, maps

WHOLE_SKY = {"ra_min_deg": 0.0, "ra_max_deg": 360.0, "dec_min_deg": -90.0, "dec_max_deg": 90.0}
_log = logging.getLogger(__name__)


def of_maps(paths, margin_arcmin=0.0):
    """Boxes around maps, read from their headers.

    Parameters
    ----------
    paths : list of path
        FITS maps. One that cannot be read may be anywhere: its box is the whole sky.
    margin_arcmin : float
        Added on all sides.

    Returns
    -------
    list of dict
        ``ra_min_deg, ra_max_deg, dec_min_deg, dec_max_deg``, each box once; ra_min > ra_max crosses RA 0.
    """
    found = [geometry.widen_box(_of_map(path), margin_arcmin) for path in paths]
    return [dict(items) for items in dict.fromkeys(tuple(box.items()) for box in found)]


def overlap(one, other):
    """Whether two boxes have sky in common."""
    if one["dec_min_deg"] > other["dec_max_deg"] or other["dec_min_deg"] > one["dec_max_deg"]:
        return False
    first, second = _width(one), _width(other)
    start = (other["ra_min_deg"] - one["ra_min_deg"]) % 360.0
    return start <= first or start + second >= 360.0


def _width(box):
    low, high = box["ra_min_deg"], box["ra_max_deg"]
    return 360.0 if abs(high - low) >= 360 else (high - low) % 360.0


def _of_map(path):
    try:
        return ingest.read_outline(path)
    except maps.MapError as error:
        _log.warning("%s; sources of the whole sky are read for it", error)
        return WHOLE_SKY
