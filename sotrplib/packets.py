"""The forms of an alert: VOEvent 2.0, and notices in the terms of NASA's GCN.

Equal candidates give equal packets: there is no time of writing in them unless one is given.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from sotrplib import tables

CONTAINMENT = 0.9
_SIGMAS = np.sqrt(-2 * np.log(1 - CONTAINMENT))  # radius that holds this much of a round Gaussian
_CURVE_MAX = 50
_MJY_CGS = 1e-26  # erg / cm^2 / s / Hz
_DAY_S = 86400.0
_CITES = {"update": "supersedes", "subsequent": "followup", "retraction": "retraction"}
_VOEVENT = "http://www.ivoa.net/xml/VOEvent/v2.0"
_INSTANCE = "http://www.w3.org/2001/XMLSchema-instance"
# Column of the table of candidates to its word of the IVOA's controlled vocabulary (UCD1+).
_PARAMS = {
    "class": "src.class",
    "reason": "meta.note",
    "flux_mjy": "phot.flux.density;em.mm",
    "flux_err_mjy": "stat.error;phot.flux.density;em.mm",
    "band": "instr.bandpass",
    "max_snr": "stat.snr",
    "combined_snr": "stat.snr",
    "p_false_night": "stat.probability",
    "p_false_survey": "stat.probability",
    "n_maps": "meta.number;obs.image",
    "n_covering": "meta.number;obs.image",
    "n_arrays_for": "meta.number;instr.det",
    "n_arrays_against": "meta.number;instr.det",
    "ra_err_arcsec": "stat.error;pos.eq.ra",
    "dec_err_arcsec": "stat.error;pos.eq.dec",
    "matched_name": "meta.id;meta.main",
    "external_name": "meta.id.assoc",
    "external_catalog": "meta.ref",
    "external_sep_arcsec": "pos.angDistance",
    "external_p_chance": "stat.probability",
}
_CURVE = ("time_unix_s", "array", "band", "freq_ghz", "flux_mjy", "flux_err_mjy")


@dataclass(frozen=True)
class Alert:
    """What an alert is: its name, its event's, number within the event, kind, and the alert it refers to, if any."""

    alert_id: str
    event_id: str
    version: int
    kind: str
    cites: str = ""


def voevent(candidate, curve, alert, options, *, date=None):
    """An alert as VOEvent 2.0 (Seaman et al. 2011, IVOA recommendation).

    Parameters
    ----------
    candidate : mapping
        Row of the table ``candidates``.
    curve : pandas.DataFrame
        Its measurements; the 50 closest in time to the candidate's make the light curve in the packet.
    alert : Alert
    options : mapping
        Section ``export_alerts``.
    date : datetime, optional
        Time of issue, UTC.

    Returns
    -------
    bytes
        XML. The radius of the position holds 90 %.
    """
    from lxml import etree

    root = etree.Element(f"{{{_VOEVENT}}}VOEvent", nsmap={"voe": _VOEVENT, "xsi": _INSTANCE})
    root.set(f"{{{_INSTANCE}}}schemaLocation", f"{_VOEVENT} http://www.ivoa.net/xml/VOEvent/VOEvent-v2.0.xsd")
    root.set("version", "2.0")
    root.set("role", options["role"])
    root.set("ivorn", ivorn(alert.alert_id, options))
    root.append(_who(options, date))
    root.append(_what(candidate, curve, alert))
    root.append(_where_when(candidate, options))
    root.append(_tree("How", _leaf("Description", f"{options['mission']} {options['instrument']}: depth-1 maps")))
    root.append(_tree("Why", _leaf("Name", candidate["class"]), _leaf("Description", candidate["reason"])))
    if alert.cites:
        cited = _leaf("EventIVORN", ivorn(alert.cites, options), cite=_CITES[alert.kind])
        root.append(_tree("Citations", cited))
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8", pretty_print=True)


def ivorn(alert_id, options):
    """Name of an alert in the virtual observatory."""
    return f"ivo://{options['authority']}/{options['stream']}#{alert_id}"


def _who(options, date):
    names = {"title": "title", "contactName": "contact_name", "contactEmail": "contact_email"}
    author = _tree("Author", *(_leaf(tag, options[key]) for tag, key in names.items() if options[key]))
    leaves = [_leaf("AuthorIVORN", f"ivo://{options['authority']}/{options['stream']}")]
    leaves += [_leaf("Date", date.strftime("%Y-%m-%dT%H:%M:%S"))] if date else []
    return _tree("Who", *leaves, author)


def _what(candidate, curve, alert):
    columns = {column.name: column for column in tables.SCHEMAS["candidates"]}
    params = [_param("event_id", alert.event_id, ucd="meta.id"), _param("alert_type", alert.kind)]
    for name, ucd in _PARAMS.items():
        if not _missing(candidate[name]):
            params.append(_column_param(columns[name], candidate[name], ucd))
    return _tree("What", *params, *_light_curve(candidate, curve))


def _missing(value):
    return value == "" if isinstance(value, str) else not np.isfinite(value)


def _column_param(column, value, ucd):
    unit = {} if column.unit == "1" else {"unit": column.unit}
    element = _param(column.name, _text(value), ucd=ucd, dataType=_data_type(column), **unit)
    element.append(_leaf("Description", column.description))
    return element


def _data_type(column):
    return {"str": "string", "bool": "string", "i4": "int"}.get(column.dtype, "float")


def _light_curve(candidate, curve):
    """A table of what was measured around the candidate's time, or nothing."""
    gap = (curve["time_unix_s"] - candidate["time_unix_s"]).abs()
    near = curve.assign(gap=gap).sort_values(["gap", "map_id"]).head(_CURVE_MAX).sort_values(["time_unix_s", "map_id"])
    if near.empty:
        return []
    columns = {column.name: column for column in tables.SCHEMAS["measurements"]}
    fields = [_leaf("Field", None, name=name, **_field(columns[name])) for name in _CURVE]
    rows = [
        _tree("TR", *(_leaf("TD", _text(value)) for value in values)) for values in near[[*_CURVE]].to_numpy(object)
    ]
    element = _tree("Table", *fields, _tree("Data", *rows))
    element.set("name", "light_curve")
    return [element]


def _field(column):
    return {"dataType": _data_type(column)} | ({} if column.unit == "1" else {"unit": column.unit})


def _where_when(candidate, options):
    system = "UTC-ICRS-TOPO"
    time = _tree("Time", _tree("TimeInstant", _leaf("ISOTime", _iso(candidate["time_unix_s"]))))
    value = _tree("Value2", _leaf("C1", f"{candidate['ra_deg']:.6f}"), _leaf("C2", f"{candidate['dec_deg']:.6f}"))
    radius = _SIGMAS * max(candidate["ra_err_arcsec"], candidate["dec_err_arcsec"]) / 3600
    names = _leaf("Name1", "RA"), _leaf("Name2", "Dec")
    place = _tree("Position2D", *names, value, _leaf("Error2Radius", f"{radius:.6f}"))
    time.set("unit", "s")
    place.set("unit", "deg")
    coords = _tree("AstroCoords", time, place)
    coords.set("coord_system_id", system)
    where = _tree("ObservationLocation", _leaf("AstroCoordSystem", None, id=system), coords)
    return _tree(
        "WhereWhen", _tree("ObsDataLocation", _leaf("ObservatoryLocation", None, id=options["mission"]), where)
    )


def _tree(tag, *children):
    from lxml import etree

    element = etree.Element(tag)
    element.extend(children)
    return element


def _leaf(tag, text, **attributes):
    from lxml import etree

    element = etree.Element(tag, **attributes)
    element.text = text
    return element


def _param(name, value, **attributes):
    return _leaf("Param", None, name=name, value=value, **attributes)


def _text(value):
    return f"{value:.8g}" if isinstance(value, float | np.floating) and abs(value) < 1e7 else str(value)


def _iso(time_unix_s):
    """UTC of unix seconds, to the millisecond, as ISO 8601 without a zone."""
    return datetime.fromtimestamp(round(float(time_unix_s), 3), UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]


def notice(candidate, freq_ghz, alert, options, *, date=None):
    """An alert as a notice in the terms of GCN's core schemas (Alert, Reporter, Event, DateTime, Localization, ...).

    Parameters
    ----------
    candidate, alert, options, date
        As for :func:`voevent`.
    freq_ghz : float
        Of the candidate's flux.

    Returns
    -------
    dict
        To be written as JSON. The ellipse of the position holds 90 %; the false alarm rate is that of a day's maps;
        the flux density is in erg/cm2/s/Hz (1e-26 a mJy).
    """
    errors = np.array([candidate["dec_err_arcsec"], candidate["ra_err_arcsec"]]) * _SIGMAS / 3600
    found = {
        "alert_type": alert.kind,
        "alert_tense": "test" if options["role"] == "test" else "current",
        "mission": options["mission"],
        "instrument": options["instrument"],
        "messenger": "EM",
        "record_number": alert.version,
        "event_name": alert.event_id,
        "id": [alert.alert_id, ivorn(alert.alert_id, options)],
        "trigger_time": _iso(candidate["time_unix_s"]) + "Z",
        "ra": _rounded(candidate["ra_deg"], 10),
        "dec": _rounded(candidate["dec_deg"], 10),
        "ra_dec_error": [_rounded(errors.max()), _rounded(errors.min()), 0 if errors[0] >= errors[1] else 90],
        "containment_probability": CONTAINMENT,
        "systematic_included": True,
        "image_snr": _rounded(candidate["combined_snr"]),
        "far": _rounded(-np.log1p(-min(candidate["p_false_night"], 1 - 1e-12)) / _DAY_S),
        "flux_density": _rounded(candidate["flux_mjy"] * _MJY_CGS),
        "flux_density_error": _rounded(candidate["flux_err_mjy"] * _MJY_CGS),
        "flux_density_unit": "erg/cm2/s/Hz",
        "flux_density_spectral_point": _rounded(1000 * freq_ghz),
        "flux_density_spectral_point_unit": "MHz",
        "additional_info": f"{candidate['class']}: {candidate['reason']}",
    }
    head = {"$schema": options["gcn_schema"]} if options["gcn_schema"] else {}
    head |= {"alert_datetime": date.strftime("%Y-%m-%dT%H:%M:%SZ")} if date else {}
    return head | {name: value for name, value in found.items() if value is not None}


def _rounded(value, digits=6):
    """A plain number of so many digits; None where there is none, which JSON cannot say."""
    return float(f"{value:.{digits}g}") if np.isfinite(value) else None
