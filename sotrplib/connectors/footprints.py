"""The boxes of sky that a run needs of a catalogue."""

import logging

from sotrplib import boxes, ingest, maps

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
    found = [boxes.widen(_of_map(path), margin_arcmin) for path in paths]
    return [dict(items) for items in dict.fromkeys(tuple(box.items()) for box in found)]


def _of_map(path):
    try:
        return ingest.read_outline(path)
    except maps.MapError as error:
        _log.warning("%s; sources of the whole sky are read for it", error)
        return WHOLE_SKY
