"""Tables for other programs: Parquet, CSV, FITS, VOTable, JSON and pandas pickle; places also as regions and links.

Equal tables give equal bytes. Pickles are written for those who ask for them and never read here: a
pickle runs code when it is opened.
"""

import json
import pickle

import numpy as np
import pandas as pd

from sotrplib import store, tables, viewers

SUFFIXES = {"parquet": ".parquet", "csv": ".csv", "fits": ".fits", "pickle": ".pkl", "json": ".json", "votable": ".vot"}
PLACE_SUFFIXES = {"ds9": ".reg", "aladin": ".html"}  # for tables of places: sources and candidates
# What programs of the virtual observatory know columns by (UCD); the identifier of a table's rows is its first column.
_UCDS = {
    "ra_deg": "pos.eq.ra;meta.main",
    "dec_deg": "pos.eq.dec;meta.main",
    "ra_err_arcsec": "stat.error;pos.eq.ra",
    "dec_err_arcsec": "stat.error;pos.eq.dec",
    "flux_mjy": "phot.flux.density;em.mm",
    "flux_err_mjy": "stat.error;phot.flux.density;em.mm",
    "snr": "stat.snr",
    "time_unix_s": "time.epoch",
    "band": "instr.bandpass",
    "flags": "meta.code.qual",
    "class": "src.class",
}
_FITS_CODES = {"f8": "D", "f4": "E", "i8": "K", "i4": "J", "u4": "J", "b1": "L"}
_KEYS = ("source_id", "band", "n_measurements")  # columns of source_bands that are no statistics


def export(path, frame, columns):
    """Write a table in the format its suffix names.

    Parameters
    ----------
    path : path
        Final name, ending in one of :data:`SUFFIXES` or :data:`PLACE_SUFFIXES`; it appears when whole.
    frame : pandas.DataFrame or store.Blocks
        The table. Blocks are written one by one as Parquet and CSV, and put together for the other formats.
    columns : sequence of tables.Column
        Unit and description of each column of ``frame``, in its order; for a plain table
        ``tables.SCHEMAS[schema]``, for wide sources as :func:`wide_sources` returns them.

    Raises
    ------
    ValueError
        If the suffix is unknown or the columns are not those of the table.
    """
    suffix = "." + str(path).rsplit(".", 1)[-1]
    kinds = _write_parquet, _write_csv, _write_fits, _write_pickle, _write_json, _write_votable
    writers = dict(zip(SUFFIXES.values(), kinds, strict=True))
    writers |= {".reg": viewers.write_regions, ".html": viewers.write_links, ".pickle": _write_pickle}
    if suffix not in writers:
        raise ValueError(f"{path}: cannot export to {suffix!r}; use one of {sorted(writers)}")
    frames = _checked(path, frame.frames if isinstance(frame, store.Blocks) else [frame], columns)
    with store.atomic_path(path) as temporary:
        if suffix in (".parquet", ".csv"):
            writers[suffix](temporary, frames, columns)
        else:
            writers[suffix](temporary, pd.concat(list(frames), ignore_index=True), columns)


def _checked(path, frames, columns):
    """The same tables, if their columns are those described."""
    for frame in frames:
        if [column.name for column in columns] != list(frame.columns):
            raise ValueError(
                f"{path}: the table has columns {list(frame.columns)}, described are {[c.name for c in columns]}"
            )
        yield frame


def of_classes(candidates, classes):
    """Those rows of the table ``candidates`` whose class is one of ``classes``; all if that is empty."""
    return candidates[candidates["class"].isin(classes)].reset_index(drop=True) if classes else candidates


def of_candidates(counterparts, candidates):
    """Those rows of the table ``counterparts`` that are of the candidates given."""
    kept = counterparts["candidate_id"].isin(candidates["candidate_id"])
    return counterparts[kept].reset_index(drop=True)


def wide_sources(sources, source_bands):
    """Sources with the statistics of every band side by side.

    Parameters
    ----------
    sources, source_bands : pandas.DataFrame
        Tables of these names.

    Returns
    -------
    frame : pandas.DataFrame
        ``sources`` with all statistics of each band (sorted), as mean_flux_{band}_mjy or eta_{band}; NaN where a
        source was not measured in it.
    columns : tuple of tables.Column
        Units and descriptions of the columns of ``frame``.
    """
    frame, columns = sources.copy(), list(tables.SCHEMAS["sources"])
    for band in sorted(set(source_bands["band"])):
        rows = source_bands[source_bands["band"] == band].set_index("source_id")
        for column in tables.SCHEMAS["source_bands"]:
            if column.name not in _KEYS:
                wide = _with_band(column.name, band)
                frame[wide] = rows[column.name].reindex(sources["source_id"]).to_numpy(float)
                columns.append(tables.Column(wide, "f8", column.unit, f"{column.description}, in {band}"))
    return frame, tuple(columns)


def _with_band(name, band):
    """Name of a statistic with its band, before the unit if it ends in one."""
    return name.removesuffix("_mjy") + f"_{band}" + ("_mjy" if name.endswith("_mjy") else "")


def _write_parquet(path, frames, columns):
    import pyarrow as pa
    import pyarrow.parquet

    writer = None
    for frame in frames:
        plain = pa.Table.from_pandas(frame, preserve_index=False)
        if writer is None:
            fields = [
                field.with_metadata({"unit": column.unit, "description": column.description})
                for field, column in zip(plain.schema, columns, strict=True)
            ]
            schema = pa.schema(fields, metadata=plain.schema.metadata)
            writer = pyarrow.parquet.ParquetWriter(path, schema, compression="zstd")
        writer.write_table(plain.cast(schema))
    writer.close()


def _write_csv(path, frames, columns):
    for number, frame in enumerate(frames):
        frame.to_csv(path, index=False, lineterminator="\n", mode="a" if number else "w", header=not number)


def _write_fits(path, frame, columns):
    from astropy.io import fits

    data = [_fits_column(frame[column.name], column) for column in columns]
    table = fits.BinTableHDU.from_columns(data, nrows=len(frame))
    for number, column in enumerate(columns, start=1):
        table.header[f"TCOMM{number}"] = column.description
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path, overwrite=True)


def _fits_column(values, column):
    from astropy.io import fits

    unit = None if column.unit == "1" else column.unit
    if column.dtype == "str":
        texts = [text.encode("ascii", "backslashreplace") for text in values]
        width = max(map(len, texts), default=0) or 1
        return fits.Column(column.name, f"{width}A", array=np.array(texts, dtype=f"S{width}"), unit=unit)
    array = values.to_numpy()
    code = _FITS_CODES[array.dtype.str[1:]]
    offset = 2**31 if array.dtype.str[1:] == "u4" else None
    return fits.Column(column.name, code, array=array, unit=unit, bzero=offset)


def _write_pickle(path, frame, columns):
    with open(path, "wb") as file:
        pickle.dump(frame, file, protocol=5)


def _write_json(path, frame, columns):
    """List of rows, one a line; NaN and infinite become null, and numbers come back exactly."""
    rows = frame.astype(object).where(frame.notna() & ~frame.isin([np.inf, -np.inf]), None).to_dict("records")
    lines = ",\n".join(json.dumps(row, allow_nan=False, default=_plain) for row in rows)
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"[{lines}]\n")


def _plain(value):
    return value.item()


def _write_votable(path, frame, columns):
    """VOTable as plain text; names and units as everywhere, positions and fluxes marked by their UCD."""
    from astropy.io.votable import from_table, writeto
    from astropy.table import Column, Table

    table = Table([_votable_column(frame[column.name], column, Column) for column in columns])
    document = from_table(table)
    (content,) = document.iter_tables()
    for field, column in zip(content.fields, columns, strict=True):
        field.ucd = _UCDS.get(column.name) or ("meta.id;meta.main" if column is columns[0] else None)
    writeto(document, str(path))


def _votable_column(values, column, kind):
    unit = None if column.unit == "1" else column.unit
    array = np.array(list(values), dtype=str) if column.dtype == "str" else values.to_numpy()
    array = array.astype("i8") if array.dtype == "u4" else array  # VOTable has no unsigned whole numbers of this size
    return kind(array, name=column.name, unit=unit, description=column.description)
