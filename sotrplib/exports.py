"""Tables for other programs: Parquet, CSV, FITS, VOTable, JSON and pandas pickle; places also as regions and links.

Equal tables give equal bytes. Pickles are written for those who ask for them and never read here: a
pickle runs code when it is opened.
"""

import io
import json
import pickle

import numpy as np
import pandas as pd

from sotrplib import store, tables, viewers

SUFFIXES = {"parquet": ".parquet", "csv": ".csv", "fits": ".fits", "pickle": ".pkl", "json": ".json", "votable": ".vot"}
PLACE_SUFFIXES = {"ds9": ".reg", "aladin": ".html"}  # for tables of places: sources and candidates
# What programs of the virtual observatory know columns by (UCD).
_UCDS = {
    "ra_deg": "pos.eq.ra;meta.main",
    "dec_deg": "pos.eq.dec;meta.main",
    "ra_err_arcsec": "stat.error;pos.eq.ra",
    "dec_err_arcsec": "stat.error;pos.eq.dec",
    "ra_offset_arcsec": "arith.diff;pos.eq.ra",
    "dec_offset_arcsec": "arith.diff;pos.eq.dec",
    "flux_mjy": "phot.flux.density;em.mm",
    "flux_err_mjy": "stat.error;phot.flux.density;em.mm",
    "snr": "stat.snr",
    "time_unix_s": "time.epoch",
    "freq_ghz": "em.freq",
    "instrument": "instr",
    "array": "instr.det",
    "band": "instr.bandpass",
    "flags": "meta.code.qual",
    "class": "src.class",
    "candidate_id": "meta.id",
    "source_id": "meta.id",
    "source_name": "meta.id",
    "map_id": "meta.id",
}
_MAIN_IDS = ("candidate_id", "source_id", "map_id")  # the first that a table has is the identifier of its rows
# Systems of coordinates and of time, by the columns that refer to them.
_SYSTEMS = {"ra_deg": "icrs", "dec_deg": "icrs", "time_unix_s": "unix"}
_JD_OF_UNIX_0 = 2440587.5
_VOTABLE_TYPES = {"f8": "double", "f4": "float", "i8": "long", "i4": "int", "u4": "long", "b1": "boolean"}
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
        if ucd := _ucd(column, columns):
            table.header[f"TUCD{number}"] = ucd
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


def _ucd(column, columns):
    """What a column of a table is, in the words of the virtual observatory, or None."""
    names = {other.name for other in columns}
    main = next((name for name in _MAIN_IDS if name in names), None)
    return "meta.id;meta.main" if column.name == main else _UCDS.get(column.name)


def _write_votable(path, frame, columns):
    """VOTable as plain text; names and units as everywhere, columns marked by their UCD, with frame and time scale."""
    from astropy.io.votable import tree

    document = tree.VOTableFile()
    resource, table = tree.Resource(type="results"), tree.TableElement(document)
    _add_systems(resource, {_SYSTEMS.get(column.name) for column in columns})
    resource.tables.append(table)
    document.resources.append(resource)
    table.fields.extend(_votable_field(document, frame[column.name], column, columns) for column in columns)
    table.create_arrays(len(frame))
    for column in columns:
        table.array[column.name] = frame[column.name].to_numpy()
    text = io.BytesIO()
    document.to_xml(text)
    path.write_bytes(text.getvalue() if len(frame) else _with_no_rows(text.getvalue()))


def _add_systems(resource, names):
    """Declare the systems of coordinates and of time that columns refer to."""
    from astropy.io.votable import tree

    if "icrs" in names:
        resource.coordinate_systems.append(tree.CooSys(ID="icrs", system="ICRS"))
    if "unix" in names:
        clock = {"timeorigin": _JD_OF_UNIX_0, "timescale": "UTC", "refposition": "TOPOCENTER"}
        resource.time_systems.append(tree.TimeSys(ID="unix", config={"version_1_4_or_later": True}, **clock))


def _votable_field(document, values, column, columns):
    """Declaration of a column; texts of any length, of one byte a character where that is enough."""
    from astropy.io.votable import tree

    if column.dtype == "str":
        kind = {"datatype": "char" if all(map(str.isascii, values)) else "unicodeChar", "arraysize": "*"}
    else:
        kind = {"datatype": _VOTABLE_TYPES[values.to_numpy().dtype.str[1:]]}
    kind |= {} if column.unit == "1" else {"unit": column.unit}
    kind |= {"ref": _SYSTEMS[column.name]} if column.name in _SYSTEMS else {}
    field = tree.Field(document, ID=column.name, name=column.name, ucd=_ucd(column, columns), **kind)
    field.description = column.description
    return field


def _with_no_rows(text):
    """The same VOTable with the rows it does not have: TOPCAT and STILTS do not see a table without its data."""
    return text.replace(b"  </TABLE>", b"   <DATA>\n    <TABLEDATA/>\n   </DATA>\n  </TABLE>")
