"""Filtered maps as FITS images, for other programs and as input: rho with kappa, or flux with snr, is read again.

Each file holds one field of one map. Unobserved pixels are NaN in flux, flux_err and snr and 0 in rho, kappa and time,
as in depth-1 maps; the mask is a file of its own and changes no other.
"""

import numpy as np

from sotrplib import images, maps, tables

UNITS = {
    "flux": "mJy",
    "flux_err": "mJy",
    "snr": "",
    "rho": "mJy-1",
    "kappa": "mJy-2",
    "time": "s",
    "mask": "",
}
_SIGNALS = ("rho", "flux")  # fields that name the shape of a source, as the signal of a map that is read again


def write_field(path, skymap, field):
    """Write one field of a filtered map as a FITS image.

    Parameters
    ----------
    path : path
    skymap : maps.SkyMap
    field : str
        One of :data:`UNITS`. ``time`` is in seconds since the card TREF (unix seconds), 0 where not known; ``mask``
        holds the bits that the cards MASK1, MASK2, MASK4, ... name.
    """
    info = skymap.info
    cards = {"MAP_ID": info.map_id, "INSTRUME": info.instrument, "ARRAY": info.array, "FREQ": info.band}
    cards |= {"TREF": (info.t_ref_unix_s, "reference time, unix seconds"), "FIELD": field}
    if UNITS[field]:
        cards["BUNIT"] = UNITS[field]
    if field == "mask":
        cards |= {f"MASK{bit}": name for name, bit in tables.MASK_BITS.items()}
    template = skymap.template if field in _SIGNALS else None
    images.write_image(path, field_values(skymap, field), skymap.wcs, cards, template=template)


def field_values(skymap, field):
    """Pixels (ny, nx) of a field of :func:`write_field`."""
    if field in ("flux", "flux_err", "snr"):
        return getattr(maps, field)(skymap)
    if field == "time":
        return np.zeros(skymap.rho.shape, "f4") if skymap.time is None else np.nan_to_num(skymap.time, nan=0.0)
    return getattr(skymap, field)


def write_failed(path, map_id, reason):
    """Write a FITS file without pixels that says why the map cannot be had."""
    ascii_reason = reason.encode("ascii", "backslashreplace").decode()
    images.write_no_image(path, {"MAP_ID": map_id, "STATUS": "failed", "REASON": " ".join(ascii_reason.split())})
