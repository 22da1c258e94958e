"""The catalogue of known sources: read from CSV, FITS or ECSV into the table ``catalog``."""

import io
import logging
from pathlib import Path

import numpy as np
import pandas as pd

from sotrplib import crossmatch, geometry, tables, units

log = logging.getLogger(__name__)

_REQUIRED = ("ra_deg", "dec_deg", "flux")
_ENDINGS = {".fits": "fits", ".fit": "fits", ".ecsv": "ecsv"}


class CatalogError(ValueError):
    """A catalogue that cannot be used; names file, found, expected and cure."""


def read_catalog(path, options):
    """Read the catalogue of known sources.

    Parameters
    ----------
    path : path
    options : mapping
        Section ``catalog`` of the configuration: ``format``, ``columns``, ``flux_unit``, ``pos_err_arcsec``,
        ``flux_min_mjy``.

    Returns
    -------
    pandas.DataFrame
        Schema ``catalog``, in the order of the file: RA in 0..360, fluxes in mJy at the catalogue's frequency. Rows
        without a finite position and flux are left out with a warning and counted in ``attrs["n_dropped"]``, sources
        below ``flux_min_mjy`` in ``attrs["n_faint"]``. ``source_id`` is the name; a repeated name gets ``_2``,
        ``_3``, ... and a missing one is made from the position. Optional columns that the file lacks are NaN.

    Raises
    ------
    CatalogError
        If the file cannot be read, lacks a required column, or states another unit than the configuration.
    """
    columns = options["columns"]
    raw = _read(path, _format(path, options.get("format", "auto")), columns, options["flux_unit"])
    numbers = {key: _numbers(path, raw, columns, key) for key in (*_REQUIRED, "flux_err", "spectral_index")}
    ra, dec = numbers["ra_deg"], numbers["dec_deg"]
    good = np.isfinite(ra) & (np.abs(dec) <= 90) & np.isfinite(numbers["flux"])
    factor = units.flux_factor(options["flux_unit"])
    keep = good & (numbers["flux"] * factor >= options["flux_min_mjy"])
    names = _names(raw, columns, ra, dec, good)[keep]
    frame = tables.make(
        "catalog",
        {
            "source_id": _unique(path, names),
            "source_name": names,
            "ra_deg": geometry.wrap_ra(ra[keep]),
            "dec_deg": dec[keep],
            "flux_mjy": numbers["flux"][keep] * factor,
            "flux_err_mjy": numbers["flux_err"][keep] * factor,
            "spectral_index": numbers["spectral_index"][keep],
            "pos_err_arcsec": np.full(np.count_nonzero(keep), float(options["pos_err_arcsec"])),
        },
    )
    frame.attrs = {"n_dropped": int(np.count_nonzero(~good)), "n_faint": int(np.count_nonzero(good & ~keep))}
    if frame.attrs["n_dropped"]:
        log.warning(
            "%s: %d of %d rows have no finite position and flux; left out", path, frame.attrs["n_dropped"], len(raw)
        )
    return frame


def read_catalogs(path, options):
    """Read the catalogue of known sources and the files that add sources to it.

    Parameters
    ----------
    path : path
        The main catalogue.
    options : mapping
        Section ``catalog`` of the configuration: ``additional``, the paths of more files, and what
        :func:`read_catalog` needs, for all of them.

    Returns
    -------
    pandas.DataFrame
        Schema ``catalog``: the main catalogue, then the sources of each file that lie farther than twice
        ``pos_err_arcsec`` from all sources before that file. A ``source_id`` in use gets ``_2``, ``_3``, ...
        ``attrs`` sums those of the files and counts the sources left out in ``n_duplicate``.
    """
    merged = read_catalog(path, options)
    counts = merged.attrs | {"n_duplicate": 0}
    for other in options["additional"]:
        more = read_catalog(other, options)
        position = [frame[name].to_numpy() for frame in (more, merged) for name in ("ra_deg", "dec_deg")]
        new = crossmatch.nearest(*position, 2 * options["pos_err_arcsec"])[0] < 0
        found = more.attrs | {"n_duplicate": int(np.count_nonzero(~new))}
        counts = {name: counts[name] + found[name] for name in counts}
        log.info("%s: %d sources added, %d known already", other, np.count_nonzero(new), found["n_duplicate"])
        merged = pd.concat([merged, more[new]], ignore_index=True)
        merged = tables.make("catalog", merged.assign(source_id=_unique(other, merged["source_id"])))
    merged.attrs = counts
    return merged


def flux_in_band(catalog, freq_ghz, reference_freq_ghz, default_index):
    """Fluxes of catalogue sources in a band.

    Parameters
    ----------
    catalog : DataFrame
        Schema ``catalog``.
    freq_ghz, reference_freq_ghz : float
        Centre of the band, and the frequency of the catalogue's fluxes.
    default_index : float
        Spectral index of sources whose own is NaN.

    Returns
    -------
    flux_mjy, flux_err_mjy : array (n,)
        flux * (freq / reference)^alpha, and the error scaled alike.
    """
    index = catalog["spectral_index"].to_numpy()
    scale = (freq_ghz / reference_freq_ghz) ** np.where(np.isfinite(index), index, default_index)
    return catalog["flux_mjy"].to_numpy() * scale, catalog["flux_err_mjy"].to_numpy() * scale


def in_band(catalog, freq_ghz, reference):
    """The catalogue with its fluxes and their errors in a band.

    Parameters
    ----------
    catalog : DataFrame
        Schema ``catalog``.
    freq_ghz : float
        Centre of the band.
    reference : mapping
        ``freq_ghz`` of the catalogue's fluxes and the ``spectral_index`` of sources without one.

    Returns
    -------
    pandas.DataFrame
        Schema ``catalog``.
    """
    flux, flux_err = flux_in_band(catalog, freq_ghz, reference["freq_ghz"], reference["spectral_index"])
    return catalog.assign(flux_mjy=flux, flux_err_mjy=flux_err)


def position_name(ra_deg, dec_deg):
    """Name ``Jhhmmss.s+ddmmss`` of a position, truncated as the IAU asks."""
    tenths = int(np.floor(round(ra_deg / 15 * 36000, 6))) % 864000
    seconds = int(np.floor(round(abs(dec_deg) * 3600, 6)))
    hours, minutes, tenth = tenths // 36000, tenths // 600 % 60, tenths % 600
    sign = "-" if dec_deg < 0 else "+"
    dec = f"{seconds // 3600:02d}{seconds // 60 % 60:02d}{seconds % 60:02d}"
    return f"J{hours:02d}{minutes:02d}{tenth / 10:04.1f}{sign}{dec}"


def read_columns(path, names, *, key):
    """Columns of a table from elsewhere, as text.

    Parameters
    ----------
    path : path
        CSV, FITS or ECSV, by the ending of its name.
    names : list of str
        Names of the columns; the first two are positions in degrees.
    key : str
        Key of the configuration that names the file, for errors.

    Returns
    -------
    pandas.DataFrame

    Raises
    ------
    CatalogError
        If the file cannot be read, lacks a column, or states another unit than degrees for a position.
    """
    frame, stated = _read_any(path, _format(path, "auto"), key)
    missing = [name for name in names if name not in frame]
    if missing:
        raise CatalogError(f"{path}: has no column {missing}, only {list(frame)}; correct {key}")
    for name in names[:2]:
        if str(stated.get(name) or "deg") != "deg":
            raise CatalogError(f"{path}: column {name} is in {stated[name]}; expected deg: correct {key}")
    return frame[list(dict.fromkeys(names))]


def as_numbers(column):
    """Text of a column as float64 (n,), NaN where it is no number."""
    return pd.to_numeric(column.astype(str).str.strip(), errors="coerce").to_numpy(float)


def _format(path, asked):
    return _ENDINGS.get(Path(path).suffix.lower(), "csv") if asked == "auto" else asked


def _read(path, kind, columns, flux_unit):
    """The file as a DataFrame of the columns that are there."""
    frame, stated = _read_any(path, kind, "catalog.path or .format")
    missing = [columns[key] for key in _REQUIRED if columns[key] not in frame]
    if missing:
        raise CatalogError(f"{path}: has no column {missing}, only {list(frame)}; name them in catalog.columns")
    for key, expected in (("ra_deg", "deg"), ("dec_deg", "deg"), ("flux", flux_unit), ("flux_err", flux_unit)):
        found = stated.get(columns.get(key)) or expected
        if str(found) != expected:
            raise CatalogError(
                f"{path}: column {columns[key]} is in {found}; expected {expected}: see catalog.flux_unit"
            )
    absent = [name for name in columns.values() if name and name not in frame]
    if absent:
        log.warning("%s: has no column %s; left empty", path, ", ".join(absent))
    return frame


def _read_any(path, kind, key):
    """The whole table as a DataFrame of text, and the units it states, by column."""
    if not Path(path).is_file():
        raise CatalogError(f"{path}: no such file; correct {key}")
    try:
        return _read_csv(path) if kind == "csv" else _read_table(path, kind)
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise CatalogError(f"{path}: not a readable {kind} table ({error}); correct {key}") from error


def _read_csv(path):
    with open(path, encoding="utf-8-sig") as file:
        lines = [line for line in file if line.strip() and not line.startswith("#")]
    rows = pd.read_csv(io.StringIO("".join(lines)), skipinitialspace=True, dtype=str, keep_default_na=False)
    return rows.rename(columns=str.strip), {}


def _read_table(path, kind):
    from astropy.table import Table

    table = Table.read(path, format="ascii.ecsv" if kind == "ecsv" else "fits")
    flat = [name for name in table.colnames if table[name].ndim == 1]
    return pd.DataFrame({name: _as_text(table[name]) for name in flat}), {name: table[name].unit for name in flat}


def _as_text(column):
    """Values of a table column as text, empty where masked."""
    values = [_text(value) for value in np.ma.getdata(column).tolist()]
    return np.where(np.ma.getmaskarray(column), "", np.array(values, dtype=object))


def _text(value):
    return value.decode().strip() if isinstance(value, bytes) else str(value).strip()


def _numbers(path, raw, columns, key):
    """One column as float64, NaN where empty; text that is no number is an error in required columns."""
    name = columns.get(key)
    if not name or name not in raw:
        return np.full(len(raw), np.nan)
    text = raw[name].astype(str).str.strip()
    values = pd.to_numeric(text, errors="coerce").to_numpy(float)
    empty = text.str.lower().isin(["", "nan", "none", "null", "na", "--", "n/a"]).to_numpy()
    if key in _REQUIRED and len(raw) and np.all(np.isnan(values) & ~empty):
        raise CatalogError(f"{path}: column {name} holds {text.iloc[0]!r}; expected numbers: correct catalog.columns")
    return values


def _names(raw, columns, ra, dec, good):
    """Names (object array), made from the position where there is none."""
    name = columns.get("name")
    given = raw[name].astype(str).str.strip().to_numpy(object) if name in raw else np.full(len(raw), "", object)
    nameless = np.flatnonzero(good & (given == ""))
    given = given.copy()
    given[nameless] = [position_name(ra[i] % 360, dec[i]) for i in nameless]
    return given


def _unique(path, names):
    """Names with ``_2``, ``_3``, ... after the second and further use of each."""
    taken, counts, result = set(names), {}, []
    for name in names:
        counts[name] = counts.get(name, 0) + 1
        unique = name
        while counts[name] > 1 and unique in taken:
            unique = f"{name}_{counts[name]}"
            counts[name] += unique in taken
        taken.add(unique)
        result.append(unique)
    repeated = sum(new != old for new, old in zip(result, names, strict=True))
    if repeated:
        log.warning("%s: %d names occur more than once; numbered to be unique", path, repeated)
    return result
