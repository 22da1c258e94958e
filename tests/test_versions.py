"""The version of a map changes with the bytes of its files that are used, and nothing of them is read twice."""

import os
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from sotrplib import beams, digests, geometry, ingest, mapindex, versions


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "a.fits"
    path.write_bytes(bytes(range(256)) * 400)
    return path


@pytest.fixture
def version(data, tmp_path, monkeypatch):
    """Version of the one file of the map m, of which something was made or not."""
    monkeypatch.chdir(tmp_path)
    return lambda made=False: versions.map_version("m", ["a.fits"], "full", made=lambda: made)


def read_it():
    """Digest of the files of the map m as its job takes it."""
    return versions.Reading("m", ["a.fits"], "full").close()


def test_new_map_is_planned_unread(version, monkeypatch):
    """The bytes of a map of which nothing was made are not read by plans, however often it is planned."""
    monkeypatch.setattr(digests, "Watch", lambda *_: pytest.fail("the file was read"))
    assert version() == version() == ""


def test_version_is_that_of_the_bytes(version, data):
    """A map that was read has the same version with a new date, another with other bytes, the old with the old."""
    version()
    digest = read_it()
    os.utime(data, (5, 5))
    assert version(made=True) == ""
    data.write_bytes(b"other")
    assert version(made=True) not in ("", digest)
    assert version(made=True) == read_it()
    os.utime(data, (6, 6))
    first = bytes(range(256)) * 400
    data.write_bytes(first)
    assert version(made=True) == "" and read_it() == digest
    data.write_bytes(b"third")
    assert version(made=True) == read_it() != digest


def test_version_of_what_was_made_of_unknown_bytes_is_their_digest(version, data):
    """A map of which something was made before its bytes were noted is made again; so is one whose job read nothing."""
    assert version(made=True) == read_it()
    Path(digests.FOLDER, "m.json").unlink()
    assert version() == ""
    os.utime(data, (5, 5))
    assert version(made=True) == read_it()


def test_note_of_another_version_of_the_package_is_none(version, data):
    """What an earlier version of this package noted of a map is not taken for a version."""
    digests.write_note(Path(digests.FOLDER, "m.json"), {"first": "ab", "files": {"a.fits": {"digest": "cd"}}})
    assert version() == ""


@pytest.mark.parametrize("n_read", [0, 1])
def test_replaced_input_is_noticed(version, data, n_read):
    """A file replaced since its job was planned is an error, whether its bytes were known or not."""
    version()
    for _ in range(n_read):
        read_it()
    data.write_bytes(b"other")
    with pytest.raises(versions.InputChanged, match="a.fits: replaced while it was being read"):
        read_it()
    assert version(made=True) == read_it() != ""


def test_input_with_a_new_date_is_unchanged(version, data):
    """A file of known bytes may get a new date between plan and job."""
    version()
    digest = read_it()
    os.utime(data, (5, 5))
    assert read_it() == digest


def test_missing_file_is_part_of_a_version(version, data):
    """A map whose file is missing has a version, another one when the file comes."""
    data.rename("away")
    assert version() == ""
    without = read_it()
    Path("away").rename(data)
    assert version(made=True) == read_it() not in ("", without)


def test_map_without_files_from_outside_has_no_version(tmp_path, monkeypatch):
    """Nothing is noted of a simulated map."""
    monkeypatch.chdir(tmp_path)
    assert versions.map_version("m", [], "full", made=lambda: True) == ""
    assert versions.Reading("m", [], "full").close() == ""
    assert not Path(digests.FOLDER).exists()


# ---- the files of a map, read once -------------------------------------------------------------------

BAND = beams.BandInfo(90.0, 2.2, solid_angle_sr=1e-7)
SHAPE, CAR = geometry.make_car(10.0, -5.0, 8.0, 6.0, 1.0)
ALL = slice(0, SHAPE[0]), slice(0, SHAPE[1])
MAP_ID = "solat_i1_f090_1763085600"


@pytest.fixture
def given(tmp_path, monkeypatch, rng):
    """Row of a map of T, Q and U with weight and time, whose rim of 40 pixels is not observed."""
    monkeypatch.chdir(tmp_path)
    observed = np.zeros(SHAPE, bool)
    observed[40:-40, 40:-40] = True
    images = {
        "map": (rng.normal(0, 100, (3, *SHAPE)), "uK"),
        "weight": (np.where(observed, 1e-4, 0), "uK^-2"),
        "time": (np.where(observed, 60.0, 0), "s"),
    }
    row = dict.fromkeys(mapindex.COLUMNS, "") | {"map_id": MAP_ID, "form": "intensity_ivar"}
    row |= {"instrument": "solat", "array": "i1", "band": "f090"}
    for name, (values, unit) in images.items():
        row[f"{name}_path"] = f"{name}.fits"
        fits.writeto(f"{name}.fits", values.astype(">f4"), CAR.to_header(), overwrite=True)
        fits.setval(f"{name}.fits", "BUNIT", value=unit)
    return row


def plan(row, made=False):
    return versions.map_version(MAP_ID, mapindex.outside_files(row), "full", made=lambda: made)


def read_whole(row, watch):
    ingest.read_map(row, BAND, watch=watch)


def read_box(row, watch):
    box = {"ra_min_deg": 9.0, "ra_max_deg": 10.0, "dec_min_deg": -6.0, "dec_max_deg": -5.0}
    ingest.read_map(row, BAND, box=box, margin_arcmin=10.0, watch=watch)


def read_strips(row, watch):
    window = ingest.survey(row, BAND, ALL, watch=watch).window
    for first in range(window[0].start, window[0].stop, 100):
        rows = slice(max(first - 20, 0), min(first + 120, window[0].stop))
        ingest.read_map(row, BAND, window=(rows, window[1]), watch=watch)


@pytest.mark.parametrize("read", [read_whole, read_box, read_strips])
def test_digest_taken_on_the_way_is_that_of_the_files(given, read):
    """However a map is read, the digest is that of the same files read to be compared."""
    plan(given)
    reading = versions.Reading(MAP_ID, mapindex.outside_files(given), "full")
    read(given, reading.watch)
    digest = reading.close()
    for name in ("map", "weight", "time"):
        os.utime(f"{name}.fits", (5, 5))
    assert plan(given, made=True) == ""
    reading = versions.Reading(MAP_ID, mapindex.outside_files(given), "full")
    read(given, reading.watch)
    assert reading.close() == digest


def bytes_read():
    """Bytes that this process has read by now, from the disk or from the memory of the system."""
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="the system does not count what is read")
def test_nothing_is_read_twice(given):
    """A map and its digest are one reading: the weights, the observed rows of one plane and of the times, headers."""
    plan(given)
    read_whole(given, ingest.unwatched)
    before = bytes_read()
    reading = versions.Reading(MAP_ID, mapindex.outside_files(given), "full")
    read_whole(given, reading.watch)
    reading.close()
    row, observed = 4 * SHAPE[1], SHAPE[0] - 80
    used = row * (SHAPE[0] + 2 * observed)
    assert used < bytes_read() - before < used + 0.3e6


def change_pixel(path, place):
    with fits.open(path, mode="update") as hdus:
        hdus[0].data[place] += 1


@pytest.mark.parametrize(
    ("path", "place", "counts"),
    [
        ("map.fits", (0, 100, 100), True),
        ("map.fits", (0, 40, 0), True),
        ("map.fits", (0, 39, 100), False),
        ("map.fits", (1, 100, 100), False),
        ("map.fits", (2, 359, 479), False),
        ("weight.fits", (100, 100), True),
        ("weight.fits", (0, 0), True),
        ("time.fits", (319, 479), True),
        ("time.fits", (320, 100), False),
    ],
)
def test_what_is_used_counts(given, path, place, counts):
    """A pixel of the weight, or in observed rows of the intensity or the time, makes another version; others do not."""
    plan(given)
    reading = versions.Reading(MAP_ID, mapindex.outside_files(given), "full")
    read_whole(given, reading.watch)
    reading.close()
    change_pixel(path, place)
    assert (plan(given, made=True) != "") is counts


def test_card_of_the_header_counts(given):
    """Another unit is another version."""
    plan(given)
    reading = versions.Reading(MAP_ID, mapindex.outside_files(given), "full")
    read_whole(given, reading.watch)
    reading.close()
    fits.setval("map.fits", "BUNIT", value="mK")
    assert plan(given, made=True) != ""


def test_file_replaced_halfway_is_noticed(given):
    """New bytes of an image that was read, before the last file is, are an error of the job."""
    plan(given)
    reading = versions.Reading(MAP_ID, mapindex.outside_files(given), "full")
    read_whole(given, reading.watch)
    change_pixel("map.fits", (0, 100, 100))
    with pytest.raises(versions.InputChanged, match=r"map.fits.*replaced while it was being read"):
        reading.close()


@pytest.mark.parametrize("dtype", [">i2", ">i4", ">f8"])
def test_other_numbers_are_digested_too(given, dtype):
    """Images of integers or of float64, scaled or not: the digest taken on the way is that of the file."""
    for scale in (1.0, 0.5):
        hdu = fits.PrimaryHDU(np.full(SHAPE, 60).astype(dtype), CAR.to_header())
        hdu.header["BSCALE"] = scale
        hdu.writeto("time.fits", overwrite=True)
        plan(given, made=True)
        reading = versions.Reading(MAP_ID, mapindex.outside_files(given), "full")
        read_whole(given, reading.watch)
        reading.close()
        before = plan(given, made=True)
        os.utime("time.fits", (5, 5))
        assert plan(given, made=True) == before
        change_pixel("time.fits", (100, 100))
        assert plan(given, made=True) != before


def read_map(row, read=read_whole):
    """Digest of a map that a job has read, which may run more than once."""
    reading = versions.Reading(MAP_ID, mapindex.outside_files(row), "full")
    read(row, reading.watch)
    return reading.close()


def test_version_stays_when_more_of_the_map_is_read(given):
    """With another box other rows count from then on; that alone is no other version, a change in them is one."""
    plan(given)
    read_map(given, read_box)
    change_pixel("map.fits", (0, 45, 100))
    assert plan(given, made=True) == ""  # outside the box, of no use so far
    read_map(given)
    assert plan(given, made=True) == ""
    change_pixel("map.fits", (0, 45, 100))
    changed = plan(given, made=True)
    assert changed != ""
    read_map(given, read_box)
    assert plan(given, made=True) == changed


def test_change_that_is_taken_back(given):
    """Before its job ran it is no change at all; after that the map is made again."""
    plan(given)
    read_map(given)
    old = Path("map.fits").read_bytes()
    change_pixel("map.fits", (0, 100, 100))
    new = Path("map.fits").read_bytes()
    changed = plan(given, made=True)
    Path("map.fits").write_bytes(old)
    assert plan(given, made=True) == "" != changed
    Path("map.fits").write_bytes(new)
    assert plan(given, made=True) == changed
    read_map(given)
    Path("map.fits").write_bytes(old)
    assert plan(given, made=True) != changed


def test_map_that_failed_is_tried_when_its_files_change(given):
    """A truncated file, whose job reads none of it, and the same file made whole are two versions."""
    whole = Path("map.fits").read_bytes()
    Path("map.fits").write_bytes(whole[:-3_000_000])
    plan(given)
    Path("map.fits").write_bytes(whole)
    version = plan(given, made=True)
    read_map(given)
    assert version != "" and plan(given, made=True) == version
