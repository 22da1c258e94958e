"""HDF5 files: what is written comes back, whole or not at all, and equal content makes equal bytes."""

import os
import time

import numpy as np
import pandas as pd
import pytest

from sotrplib import store, tables


def make_catalog(n=3):
    columns = {"source_id": [f"Sø{i}" for i in range(n)], "source_name": [""] * n, "ra_deg": np.arange(n) * 1.5}
    columns |= {name: np.full(n, np.nan) for name in ("dec_deg", "flux_mjy", "flux_err_mjy", "spectral_index")}
    return tables.make("catalog", columns | {"pos_err_arcsec": np.full(n, 2.0)})


@pytest.mark.parametrize("n", [0, 1, 3])
def test_tables_survive_their_file(tmp_path, n):
    """A table of any length comes back with its types, NaN, empty and non-ASCII text."""
    frame = make_catalog(n)
    store.write(tmp_path / "a.h5", frames={"catalog": ("catalog", frame)})
    back = store.read_table(tmp_path / "a.h5", "catalog")
    pd.testing.assert_frame_equal(back, frame)
    assert list(back.dtypes) == list(tables.empty("catalog").dtypes)


@pytest.mark.parametrize("schema", list(tables.SCHEMAS))
def test_empty_tables_keep_their_types(tmp_path, schema):
    """A zero-row table of each schema comes back with the schema's types."""
    store.write(tmp_path / "a.h5", frames={"t": (schema, tables.empty(schema))})
    pd.testing.assert_frame_equal(store.read_table(tmp_path / "a.h5", "t"), tables.empty(schema))


def test_some_columns_of_a_table(tmp_path):
    """Only the asked columns are read, in the order of the file; units and descriptions stand beside them."""
    store.write(tmp_path / "a.h5", frames={"c": ("catalog", make_catalog())})
    assert list(store.read_table(tmp_path / "a.h5", "c", columns=["flux_mjy", "source_id"])) == [
        "source_id",
        "flux_mjy",
    ]
    assert store.read_attrs(tmp_path / "a.h5", "c/flux_mjy")["unit"] == "mJy"


@pytest.mark.parametrize("dtype", ["f4", "f8", "u1", "i4", "bool"])
@pytest.mark.parametrize("shape", [(0,), (5,), (300, 270), (4, 2, 9, 9), (0, 2, 9, 9)])
def test_arrays_survive_their_file(tmp_path, rng, dtype, shape):
    """Arrays of any shape, none among them, come back with shape, type and values."""
    values = (rng.normal(size=shape) * 50).astype(dtype)
    store.write(tmp_path / "a.h5", arrays={"maps/x": (values, {"unit": "mJy"})})
    back = store.read_array(tmp_path / "a.h5", "maps/x")
    assert back.dtype == values.dtype
    np.testing.assert_array_equal(back, values)
    assert store.read_attrs(tmp_path / "a.h5", "maps/x") == {"unit": "mJy"}
    assert list(store.read_arrays(tmp_path / "a.h5", "maps")) == ["x"]


def test_part_of_an_array(tmp_path, rng):
    """A window of an image is that part of the whole."""
    values = rng.normal(size=(300, 600))
    store.write(tmp_path / "a.h5", arrays={"x": values})
    window = (slice(250, 290), slice(3, 500))
    np.testing.assert_array_equal(store.read_array(tmp_path / "a.h5", "x", window), values[window])


@pytest.mark.parametrize(
    "value", ["text", "", 3, 2.5, True, None, [1, 2], {"a": [None, "b"]}, np.float64(1.5), np.int32(4), "x" * 200_000]
)
def test_attributes_survive_their_file(tmp_path, value):
    """Numbers, text, lists and dicts come back as plain Python values, however long."""
    store.write(tmp_path / "a.h5", attrs={"value": value})
    back = store.read_attrs(tmp_path / "a.h5")["value"]
    assert back == value and type(back) is type(value.item() if isinstance(value, np.generic) else value)


def test_equal_content_makes_equal_bytes(tmp_path):
    """Two files of the same content, written at different times, are the same bytes."""
    content = {"attrs": {"a": {"z": 1, "b": 2}}, "arrays": {"m": np.ones((300, 300))}}
    for name in "ab":
        store.write(tmp_path / f"{name}.h5", frames={"c": ("catalog", make_catalog())}, **content)
        store.write_info(tmp_path / f"{name}.hdf", {"t": 1.5, "array": "i1_f090", "period": [1.0, 2.0]})
        time.sleep(1.1 if name == "a" else 0)
    for suffix in (".h5", ".hdf"):
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_failed_writing_leaves_the_old_file(tmp_path):
    """What cannot be written whole leaves the file before it, and no temporary one, behind."""
    path = tmp_path / "a.h5"
    store.write(path, attrs={"a": 1})
    with pytest.raises(ValueError, match="missing columns"):
        store.write(path, attrs={"a": 2}, frames={"c": ("catalog", pd.DataFrame({"x": [1]}))})
    assert store.read_attrs(path)["a"] == 1 and os.listdir(tmp_path) == ["a.h5"]


def test_files_are_readable_by_others(tmp_path):
    """The renamed file has the permissions of any new file, and its folder is made."""
    path = tmp_path / "new" / "a.h5"
    store.write(path)
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_files_that_are_not_ours(tmp_path):
    """Missing and damaged files and missing content are named with what to do."""
    with pytest.raises(store.StoreError, match="no such file; run the rule that makes it"):
        store.read_attrs(tmp_path / "a.h5")
    (tmp_path / "a.h5").write_bytes(b"broken")
    with pytest.raises(store.StoreError, match="not a readable HDF5 file"):
        store.read_attrs(tmp_path / "a.h5")
    store.write(tmp_path / "a.h5", arrays={"x": np.ones(3)})
    with pytest.raises(store.StoreError, match=r"has no 'y', only \['x'\]"):
        store.read_array(tmp_path / "a.h5", "y")


def test_contents_are_listed(tmp_path):
    """All groups and datasets are listed with their shapes."""
    store.write(tmp_path / "a.h5", arrays={"maps/x": np.ones((2, 3))})
    assert store.list_contents(tmp_path / "a.h5") == {"maps": None, "maps/x": (2, 3)}


def test_info_files_survive(tmp_path):
    """An info file gives plain numbers, text and arrays."""
    values = {"t": 1.5, "array": "i1_f090", "ids": ["a", "bc"], "period": np.array([1.0, 2.0]), "pid": 7}
    store.write_info(tmp_path / "i.hdf", values)
    back = store.read_info(tmp_path / "i.hdf")
    np.testing.assert_array_equal(back.pop("period"), values.pop("period"))
    assert back == values


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A file with an image, a table and attributes."""
    path = tmp_path_factory.mktemp("whole") / "whole.h5"
    image = np.random.default_rng(3).normal(size=(300, 270)).astype("f4")
    frames = {"catalog": ("catalog", make_catalog(500))}
    store.write(path, attrs={"status": "ok", "info": {"a": 1}}, arrays={"maps/x": image}, frames=frames)
    return path


def read_all(path):
    """Everything in a file, as bytes and plain values."""
    arrays = [store.read_array(path, "maps/x").tobytes(), store.read_table(path, "catalog").to_json()]
    return [*arrays, store.read_attrs(path), store.read_units(path, "catalog")]


def test_truncated_file_is_damaged(whole, tmp_path):
    """A file cut anywhere is an error that names it."""
    content = whole.read_bytes()
    for size in np.linspace(1, len(content) - 1, 40).astype(int):
        (tmp_path / "a.h5").write_bytes(content[:size])
        with pytest.raises(store.DamagedError, match=r"a\.h5: not a readable HDF5 file") as caught:
            read_all(tmp_path / "a.h5")
        assert caught.value.path == str(tmp_path / "a.h5")


def test_changed_byte_is_noticed_or_does_not_matter(whole, tmp_path, rng):
    """With any one byte changed, a file reads as before or is damaged; no other number comes out of it."""
    content, expected, noticed = whole.read_bytes(), read_all(whole), 0
    for place in rng.integers(0, len(content), 200):
        changed = bytearray(content)
        changed[place] ^= 0x55
        (tmp_path / "a.h5").write_bytes(changed)
        try:
            assert read_all(tmp_path / "a.h5") == expected, place
        except store.DamagedError:
            noticed += 1
    assert noticed > 150


def test_writer_that_was_killed_leaves_nothing(tmp_path):
    """What a killed writer of a file left is gone when the file is written, and others' files are not."""
    (tmp_path / ".a.h5.x1y2.h5").write_bytes(b"half")
    (tmp_path / ".b.h5.x1y2.h5").write_bytes(b"half")
    store.write(tmp_path / "a.h5", attrs={"n": 1})
    assert sorted(path.name for path in tmp_path.iterdir()) == [".b.h5.x1y2.h5", "a.h5"]


@pytest.mark.parametrize("sizes", [(), (0,), (3,), (5, 0, 7), (70_000, 70_000, 1)])
def test_table_in_blocks_is_the_same_table(tmp_path, sizes):
    """A table written block by block, its texts ever longer, reads back equal, whole and in blocks."""
    frame = make_catalog(sum(sizes))
    edges = np.cumsum([0, *sizes])
    frames = (frame[start:stop] for start, stop in zip(edges[:-1], edges[1:], strict=True))
    store.write(tmp_path / "a.h5", frames={"catalog": ("catalog", store.Blocks(len(frame), frames))})
    pd.testing.assert_frame_equal(store.read_table(tmp_path / "a.h5", "catalog"), frame)
    assert store.count_rows(tmp_path / "a.h5", "catalog") == len(frame)
    blocks = list(store.read_blocks(tmp_path / "a.h5", "catalog", ["ra_deg", "source_id"], rows=1000))
    assert max(map(len, blocks), default=0) <= 1000
    if blocks:
        pd.testing.assert_frame_equal(pd.concat(blocks, ignore_index=True), frame[["source_id", "ra_deg"]])


def test_blocks_without_rows_are_asked_for(tmp_path):
    """Tables without rows are asked for one by one all the same, and none at all give a table without rows."""
    asked = []
    frames = (asked.append(n) or make_catalog(0) for n in range(3))
    store.write(tmp_path / "a.h5", frames={"catalog": ("catalog", store.Blocks(0, frames))})
    assert asked == [0, 1, 2]
    store.write(tmp_path / "b.h5", frames={"catalog": ("catalog", store.Blocks(0, []))})
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    assert list(store.read_table(tmp_path / "b.h5", "catalog").columns) == list(make_catalog(0).columns)


def test_number_of_rows_must_be_as_announced(tmp_path):
    """Blocks with fewer rows than announced are an error, and leave no file."""
    with pytest.raises(store.StoreError, match="3 rows were given; expected 4"):
        store.write(tmp_path / "a.h5", frames={"c": ("catalog", store.Blocks(4, [make_catalog(3)]))})
    assert list(tmp_path.iterdir()) == []


def test_table_may_come_late(tmp_path):
    """A function in place of a table is called when the tables before it are written."""
    said = []
    frames = {"a": ("catalog", store.Blocks(3, (said.append("a") or frame for frame in [make_catalog(3)])))}
    frames["b"] = ("catalog", lambda: said.append("b") or make_catalog(2))
    store.write(tmp_path / "a.h5", frames=frames)
    assert said == ["a", "b"] and store.count_rows(tmp_path / "a.h5", "b") == 2


def test_draft_is_the_file_written_at_once(tmp_path, rng):
    """Images written some rows at a time, of any number and in any order, come back with all that is written last."""
    values = rng.normal(size=(600, 300)).astype("f4")
    with store.Draft(tmp_path / "a.h5", {"maps/x": (values.shape, "f4", {"unit": "mJy"})}) as draft:
        for first, last in ((256, 600), (0, 100), (100, 101), (101, 256)):
            draft.put("maps/x", first, values[first:last])
        assert not (tmp_path / "a.h5").exists()
    draft.finish(attrs={"status": "ok"}, arrays={"y": np.arange(3)}, frames={"c": ("catalog", make_catalog())})
    np.testing.assert_array_equal(store.read_array(tmp_path / "a.h5", "maps/x"), values)
    assert store.read_attrs(tmp_path / "a.h5", "maps/x") == {"unit": "mJy"}
    assert store.read_attrs(tmp_path / "a.h5")["status"] == "ok"
    assert store.read_array(tmp_path / "a.h5", "y").tolist() == [0, 1, 2]
    assert len(store.read_table(tmp_path / "a.h5", "c")) == 3


def test_equal_drafts_have_equal_bytes(tmp_path, rng):
    """The same rows in the same order, at another time, are the same bytes."""
    values = rng.normal(size=(300, 300))
    for name in "ab":
        with store.Draft(tmp_path / f"{name}.h5", {"x": (values.shape, "f8", {})}) as draft:
            draft.put("x", 0, values[:200])
            draft.put("x", 200, values[200:])
        draft.finish(attrs={"a": 1})
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_draft_given_up_leaves_nothing(tmp_path):
    """An error while it is filled, or while it is finished, removes it and leaves an earlier file alone."""
    store.write(tmp_path / "a.h5", attrs={"old": 1})
    with pytest.raises(RuntimeError, match="full"), store.Draft(tmp_path / "a.h5", {"x": ((9, 9), "f4", {})}):
        raise RuntimeError("full")
    with store.Draft(tmp_path / "a.h5", {"x": ((9, 9), "f4", {})}) as draft:
        pass
    with pytest.raises(KeyError):
        draft.finish(frames={"c": ("no such schema", make_catalog())})
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]
    assert store.read_attrs(tmp_path / "a.h5")["old"] == 1


def test_image_is_read_where_it_is_asked_for(tmp_path, rng):
    """Slices with steps, and pixels of any order and shape, are those of the array."""
    values = rng.normal(size=(700, 530))
    store.write(tmp_path / "a.h5", arrays={"x": values})
    image = store.Image(tmp_path / "a.h5", "x")
    assert image.shape == values.shape
    np.testing.assert_array_equal(image[8::16, 8::16], values[8::16, 8::16])
    row, column = rng.integers(0, 700, (40, 3)), rng.integers(0, 530, (40, 3))
    np.testing.assert_array_equal(image[row, column], values[row, column])
    assert image[np.zeros(0, int), np.zeros(0, int)].shape == (0,)
    assert image[np.array(699), np.array(529)] == values[699, 529]
