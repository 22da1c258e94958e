"""HDF5 files: the only module that opens them.

A file is written under a temporary name in the folder of its final one and renamed when whole, so no
reader ever sees half a file. Nothing in it depends on the clock: equal inputs give equal bytes. Every dataset
carries checksums, as HDF5's own structures do, so that bytes which changed on disk are an error and no number.

Layout: attributes of the root say what the file is (``map_id``, ``status``, ``reason``, ...); one group
a table with one dataset a column (attributes ``unit`` and ``description``); arrays in the groups their
names say. Images are compressed with bitshuffle and LZ4: read them with h5py after ``import hdf5plugin``.
"""

import errno
import glob
import json
import math
import os
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pandas as pd

from sotrplib import tables

CHUNK = 256
_LONGEST_CHUNK = 1 << 16  # rows of a column
_IMAGE_COMPRESSION = hdf5plugin.Bitshuffle(cname="lz4")
# Errors of the machine, not of a file: another try may succeed.
MACHINE_TROUBLE = {errno.EIO, errno.ESTALE, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM}

_ALWAYS_READ = 1 << 26  # bytes
_INFO_MOST = 1_000_000  # elements of a dataset of an info file
_ABSENT = ("doesn't exist", "can't locate attribute")  # what HDF5 says of a name that a whole file does not have


class StoreError(ValueError):
    """A file of ours that is missing, damaged or of another kind than expected."""


class DamagedError(StoreError):
    """A file that cannot be read as it was written; ``path`` names it."""

    def __reduce__(self):
        return type(self), (self.path, self.reason)  # from one process to another

    def __init__(self, path, reason):
        super().__init__(
            f"{path}: not a readable HDF5 file, cut short or changed on disk ({reason}); remove it and run again"
        )
        self.path, self.reason = str(path), str(reason)


@dataclass(frozen=True)
class Blocks:
    """A table too long for memory: the number of its rows, and the rows, in order, in tables of any length."""

    n_rows: int
    frames: Iterable


@contextmanager
def atomic_path(path):
    """Temporary path beside ``path`` that is renamed to it on success and removed on failure.

    What writers of the same file left behind that were killed is removed first; one that still lives, a job whose
    workflow was killed and started again, fails then and cannot replace the file later.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*"):
        left.unlink(missing_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    try:
        yield Path(name)
        _flush_to_disk(name)
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def write(path, *, attrs=None, arrays=None, frames=None):
    """Write one HDF5 file, whole or not at all.

    Parameters
    ----------
    path : path
        Final name.
    attrs : dict, optional
        Root attributes: numbers and text as they are, anything else as JSON.
    arrays : dict of str to array or (array, dict), optional
        Dataset name (with groups, ``maps/rho``) to array, or to array and attributes.
    frames : dict of str to (schema, DataFrame), optional
        Group name to the name of its schema in :data:`tables.SCHEMAS` and the table; in its place may stand
        :class:`Blocks`, or a function that returns the table and is called when those before it are written.
    """
    with atomic_path(path) as temporary, h5py.File(temporary, "w", libver="v110") as file:
        _write_content(file, attrs, arrays, frames)


class Draft:
    """A file whose images are written some rows at a time, before it is known what else it holds.

    Nothing is at ``path`` before :meth:`finish`. As a context it is given up if an error leaves it, and stays
    open if none does.

    Parameters
    ----------
    path : path
        Final name.
    images : dict of str to (shape, dtype, dict)
        Dataset name to its shape, type and attributes; rows that are never written hold 0.
    """

    def __init__(self, path, images):
        self._open = ExitStack()
        with self:
            temporary = self._open.enter_context(atomic_path(path))
            self._file = self._open.enter_context(h5py.File(temporary, "w", libver="v110"))
            for name, (shape, dtype, attrs) in images.items():
                _write_attrs(_create(self._file, name, shape, dtype, **_image_layout(shape)), attrs)

    def put(self, name, first_row, values):
        """Write rows (n, nx) of an image from its row ``first_row`` on."""
        self._file[name][first_row : first_row + len(values)] = values

    def finish(self, *, attrs=None, arrays=None, frames=None):
        """Write everything else, as :func:`write` would, and give the file its name."""
        with self:
            _write_content(self._file, attrs, arrays, frames)
            self._open.close()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if error[0] is not None:
            self._open.__exit__(*error)


def _write_content(file, attrs, arrays, frames):
    file.attrs["table_version"] = tables.VERSION
    _write_attrs(file, attrs or {})
    for name, array in (arrays or {}).items():
        values, extra = array if isinstance(array, tuple) else (array, {})
        _write_array(file, name, np.asarray(values), extra)
    for name, (schema, frame) in (frames or {}).items():
        _write_frame(file.create_group(name), schema, frame() if callable(frame) else frame)


def bundle(path, files, without_data=()):
    """Write one file that holds others, each as a group, whole or not at all.

    Parameters
    ----------
    path : path
        Final name.
    files : mapping of str to path
        Name of the group to a file of this module.
    without_data : collection of str
        Groups that get the attributes of their file alone.
    """
    with atomic_path(path) as temporary, h5py.File(temporary, "w", libver="v110") as file:
        file.attrs["table_version"] = tables.VERSION
        for name, source in files.items():
            _copy_into(file.create_group(name), source, with_data=name not in without_data)


def _copy_into(group, source, *, with_data):
    """Copy the attributes of a file, and what it holds if asked for."""
    with _open(source) as content:
        for key, value in content.attrs.items():
            group.attrs[key] = value
        for key in content if with_data else ():
            content.copy(key, group)


def read_attrs(path, group="/"):
    """Attributes of the root or of one group or dataset, JSON decoded."""
    with _open(path) as file:
        item = file if group == "/" else file[group]
        return {name: _decode_attr(value) for name, value in item.attrs.items()}


def read_array(path, name, window=None):
    """One array, or the part of it in ``window`` (a tuple of slices), with NaN kept as it is."""
    with _open(path) as file:
        return _dataset(file, name)[() if window is None else window]


class Image:
    """An image (ny, nx) of a file that is read where it is asked for, as an array is: ``image[rows, columns]``.

    Rows and columns are slices, or arrays of one shape for the pixels there.
    """

    def __init__(self, path, name):
        self._path, self._name = path, name
        with _open(path) as file:
            self.shape = _dataset(file, name).shape

    def __getitem__(self, pixels):
        if all(isinstance(part, slice) for part in pixels):
            return read_array(self._path, self._name, pixels)
        with _open(self._path) as file:
            return _read_pixels(_dataset(file, self._name), *np.broadcast_arrays(*pixels))


def _read_pixels(data, row, column):
    """Values of an image at pixels, arrays of any shape; each chunk that holds some is read once."""
    flat = np.ravel(row), np.ravel(column)
    n_across = data.shape[1] // CHUNK + 1
    chunk = flat[0] // CHUNK * n_across + flat[1] // CHUNK
    values = np.empty(len(chunk), data.dtype)
    for which in np.unique(chunk):
        first, here = np.array(divmod(which, n_across)) * CHUNK, chunk == which
        window = tuple(slice(start, start + CHUNK) for start in first)
        values[here] = data[window][tuple(axis[here] - start for axis, start in zip(flat, first, strict=True))]
    return values.reshape(np.shape(row))


def read_arrays(path, group):
    """All arrays of one group as a dict of name to array."""
    with _open(path) as file:
        return {name: _dataset(file, f"{group}/{name}")[()] for name in file[_existing(file, group)]}


def read_table(path, group, columns=None):
    """One table as a DataFrame (``columns``: only these, in the file's order)."""
    with _open(path) as file:
        found = file[_existing(file, group)]
        names = [name for name in found.attrs["columns"] if columns is None or name in columns]
        return pd.DataFrame({name: _read_column(_dataset(file, f"{group}/{name}")) for name in names})


def read_blocks(path, group, columns=None, rows=1 << 16):
    """A table too long for memory in tables of so many rows, at least one of them, as an iterable."""
    with _open(path) as file:
        found = file[_existing(file, group)]
        names = [name for name in found.attrs["columns"] if columns is None or name in columns]
        for start in range(0, max(_length(found), 1), rows):
            window = slice(start, start + rows)
            yield pd.DataFrame({name: _read_column(found[name], window) for name in names})


def count_rows(path, group):
    """Number of rows of a table."""
    with _open(path) as file:
        return _length(file[_existing(file, group)])


def read_units(path, group):
    """Unit of every column of a table, by name."""
    with _open(path) as file:
        found = file[_existing(file, group)]
        return {name: found[name].attrs["unit"] for name in found.attrs["columns"]}


def list_names(path, group):
    """Names of what is in a group, sorted; none without the group."""
    with _open(path) as file:
        return sorted(file[group]) if group in file else []


def list_contents(path):
    """Names of all groups and datasets, sorted, with the shape of the datasets (None for a group)."""
    names = {}
    with _open(path) as file:
        file.visititems(lambda name, item: names.update({name: getattr(item, "shape", None)}))
    return dict(sorted(names.items()))


def read_info(path):
    """Content of a depth-1 ``_info.hdf`` file as a dict of plain values (bytes decoded)."""
    with _open(path) as file:
        own = [name for name in file if isinstance(file.get(name, getlink=True), h5py.HardLink)]
        found = {name: file[name] for name in own if isinstance(file[name], h5py.Dataset)}
        large = [name for name, item in found.items() if item.size > _INFO_MOST or item.external or item.is_virtual]
        if large:
            raise StoreError(f"{path}: {', '.join(large)} too large or kept elsewhere; expected numbers of one map")
        return {name: _decode_info(item[()]) for name, item in found.items()}


def write_info(path, values):
    """Write a depth-1 ``_info.hdf`` file: one dataset a key; a single text of no fixed length, as mapcat reads it."""
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        for name, value in values.items():
            if isinstance(value, str):
                file.create_dataset(name, data=value, track_times=False)
                continue
            array = np.asarray(value)
            file.create_dataset(name, data=array.astype("S") if array.dtype.kind == "U" else array, track_times=False)


@contextmanager
def _open(path):
    """HDF5 file to read, or the group of one that its path goes on with as if it were a folder.

    Whatever of it cannot be read is a :class:`DamagedError`, but for trouble of the machine.
    """
    name, group = _split(path)
    try:
        with h5py.File(name, "r") as file:
            yield file[group] if group else file
    except (OSError, RuntimeError, KeyError, UnicodeDecodeError, json.JSONDecodeError) as error:
        if getattr(error, "errno", None) in MACHINE_TROUBLE or any(words in str(error) for words in _ABSENT):
            raise
        raise DamagedError(name, error) from error


def file_of(path):
    """File on the disk that a path of this module means, or means a part of."""
    return _split(path)[0]


def _split(path):
    """Path of a file, and the group in it that ``path`` means, empty for all of it."""
    path = Path(path)
    if path.is_file():
        return str(path), ""
    inside = next((parent for parent in path.parents if parent.suffix == ".h5" and parent.is_file()), None)
    if inside is None:
        raise StoreError(f"{path}: no such file; run the rule that makes it")
    return str(inside), str(path.relative_to(inside))


def _existing(file, name):
    if name not in file:
        raise StoreError(f"{file.file.filename}: has no {name!r}, only {sorted(file)}")
    return name


def _dataset(file, name):
    """A dataset that can be as large as it says: one of zeros is not compressed a thousandfold."""
    data = file[_existing(file, name)]
    size = os.path.getsize(file.file.filename)
    if isinstance(data, h5py.Dataset) and data.nbytes > 1000 * size + _ALWAYS_READ:
        raise DamagedError(file.file.filename, f"{name} promises {data.nbytes} bytes, the file has {size}")
    return data


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _flush_to_disk(name):
    handle = os.open(name, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_attrs(item, attrs):
    for name, value in attrs.items():
        plain = isinstance(value, (str, int, float, bool, np.generic))
        item.attrs[name] = value if plain else "json:" + json.dumps(value, sort_keys=True)


def _decode_attr(value):
    if isinstance(value, str) and value.startswith("json:"):
        return json.loads(value[5:])
    return value.item() if isinstance(value, np.generic) else value


def _write_array(file, name, values, attrs):
    data = _create(file, name, values.shape, values.dtype, **_image_layout(values.shape))
    data[...] = values
    _write_attrs(data, attrs)


def _image_layout(shape):
    """Chunks and compression of an image, or of a stack of them; none for anything else."""
    if len(shape) < 2 or not math.prod(shape):
        return {}
    chunk = tuple(min(n, CHUNK) for n in shape[-2:])
    return {"chunks": (1,) * (len(shape) - 2) + chunk, "compression": _IMAGE_COMPRESSION}


def _create(group, name, shape, dtype, **layout):
    """Dataset with checksums; HDF5 has none for one without elements or dimensions."""
    checked = {"fletcher32": True} if shape and math.prod(shape) else {}
    if checked and "chunks" not in layout:
        layout["chunks"] = (min(shape[0], _LONGEST_CHUNK), *shape[1:])
    return group.create_dataset(name, shape, dtype, track_times=False, **checked, **layout)


def _write_frame(group, schema, frame):
    blocks = frame if isinstance(frame, Blocks) else Blocks(len(frame), [frame])
    group.attrs["schema"] = schema
    group.attrs["columns"] = tables.column_names(schema)
    start = 0
    for part in _batches(blocks.frames, tables.empty(schema)):
        part = tables.make(schema, part)
        for column in tables.SCHEMAS[schema]:
            values = _as_stored(part[column.name], column)
            _room(group, column.name, blocks.n_rows, values.dtype)[start : start + len(values)] = values
        start += len(part)
    if start != blocks.n_rows:
        raise StoreError(f"{group.name}: {start} rows were given; expected {blocks.n_rows} as announced")
    for column in tables.SCHEMAS[schema]:
        data = group[column.name]
        data.attrs["unit"], data.attrs["description"] = column.unit, column.description


def _batches(frames, empty):
    """The same rows in tables of ``_LONGEST_CHUNK`` rows, but for the last: whole chunks are written at once.

    All of ``frames`` are asked for, be there rows or not; without any comes the table ``empty``.
    """
    waiting, n_waiting, whole_ones = [], 0, 0
    for frame in frames:
        waiting.append(frame)
        n_waiting += len(frame)
        while n_waiting >= _LONGEST_CHUNK:
            whole = pd.concat(waiting, ignore_index=True) if len(waiting) > 1 else waiting[0]
            yield whole.iloc[:_LONGEST_CHUNK]
            whole_ones += 1
            waiting, n_waiting = [whole.iloc[_LONGEST_CHUNK:]], n_waiting - _LONGEST_CHUNK
    if n_waiting:
        yield pd.concat(waiting, ignore_index=True) if len(waiting) > 1 else waiting[0]
    elif not whole_ones:
        yield empty


def _as_stored(values, column):
    if column.dtype != "str":
        return values.to_numpy()
    number, texts = pd.factorize(values)  # the same few texts in many rows
    encoded = [text.encode() for text in texts]
    return np.array(encoded, dtype=f"S{max(map(len, encoded), default=1) or 1}")[number]


def _room(group, name, n_rows, dtype):
    """The dataset of a column of so many rows, made or, for longer texts than it has held so far, made wider."""
    if name not in group:
        return _create(group, name, (n_rows,), dtype)
    old = group[name]
    if old.dtype.kind == "S" and old.dtype.itemsize < dtype.itemsize:
        del group[name]
        wide = _create(group, name, (n_rows,), dtype)
        for start in range(0, n_rows, _LONGEST_CHUNK):
            wide[start : start + _LONGEST_CHUNK] = old[start : start + _LONGEST_CHUNK]
        return wide
    return old


def _length(group):
    return len(group[group.attrs["columns"][0]])


def _read_column(dataset, window=()):
    values = dataset[window]
    if values.dtype.kind == "S":
        return pd.array([text.decode() for text in values], dtype="str")
    return values


def _decode_info(value):
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, np.ndarray) and value.dtype.kind == "S":
        return [text.decode() for text in value]
    return value.item() if isinstance(value, np.generic) else value
