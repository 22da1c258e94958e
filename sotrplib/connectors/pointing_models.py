"""Pointing models as mapcat keeps them.

Both say measured minus true position. Ours are true angles along RA and Dec on the sky (arcsec), mapcat's are
differences of the coordinates (degrees): its RA offset is ours over the cosine of the declination.
"""

import logging

import numpy as np

from sotrplib import geometry, pointing

_GRID_POINTS = 9
_log = logging.getLogger(__name__)


def to_mapcat(model, sources):
    """JSON form of mapcat's model that says the same.

    Parameters
    ----------
    model : pointing.PointingModel
    sources : pandas.DataFrame
        Table ``pointing_sources``; the polynomial is fitted to ours where they are.

    Returns
    -------
    dict
        A constant model for ours of order 0 and for maps across RA 0, where a polynomial of RA would jump: the offset
        at the centre of the map. Else a polynomial of RA and Dec two orders higher than ours.
    """
    from astropy import units
    from mapcat.pointing.const import ConstantPointingModel

    ra0, dec0 = model.centre
    ra = ra0 + (sources["ra_deg"].to_numpy() - ra0 + 180) % 360 - 180
    if model.order > 0 and ra.min() >= 0 and ra.max() < 360:
        return _polynomial(model, ra, sources["dec_deg"].to_numpy())
    if model.order > 0:
        _log.warning("mapcat has no polynomial pointing across RA 0: the offset at the centre of the map is written")
    dra, ddec, *_ = pointing.evaluate(model, ra0, dec0)
    offset = {"ra_offset": float(dra / np.cos(np.radians(dec0)) / 3600) * units.deg}
    offset["dec_offset"] = float(ddec / 3600) * units.deg
    return ConstantPointingModel(**offset).model_dump(mode="json")


def statistics(model, sources):
    """JSON form of mapcat's statistics: mean and scatter of what the model leaves, and the number of sources."""
    from astropy import units
    from mapcat.pointing.base import PointingModelStats

    used = sources[sources["used"]]
    offset = used[["ra_offset_arcsec", "dec_offset_arcsec"]].to_numpy()
    if not len(used):
        return PointingModelStats(n_sources=0).model_dump(mode="json")
    left = offset - np.stack(pointing.evaluate(model, used["ra_deg"], used["dec_deg"])[:2], axis=1)
    left[:, 0] /= np.cos(np.radians(used["dec_deg"].to_numpy()))
    degrees = [float(value) / 3600 * units.deg for value in (*left.mean(axis=0), *left.std(axis=0))]
    names = ("mean_ra_offset", "mean_dec_offset", "stddev_ra_offset", "stddev_dec_offset")
    return PointingModelStats(**dict(zip(names, degrees, strict=True)), n_sources=len(used)).model_dump(mode="json")


def _polynomial(model, ra, dec):
    from astropy import units
    from astropy.coordinates import SkyCoord
    from mapcat.pointing.poly import PolynomialPointingModel

    ends = [np.linspace(values.min(), values.max(), _GRID_POINTS) for values in (ra, dec)]
    ra, dec = (grid.ravel() for grid in np.meshgrid(*ends))
    dra, ddec, *_ = pointing.evaluate(model, ra, dec)
    measured = SkyCoord(*geometry.offset_position(ra, dec, dra, ddec), unit=units.deg)
    fitted = PolynomialPointingModel(poly_order=model.order + 2)
    fitted.build_model(measured, SkyCoord(ra, dec, unit=units.deg))
    return fitted.model_dump(mode="json")
