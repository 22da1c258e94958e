"""Digests of files change with what they hold and with nothing else."""

import json
import os
from pathlib import Path

import pytest

from sotrplib import digests


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "a.fits"
    path.write_bytes(bytes(range(256)) * 400)
    return path


def test_digest_depends_on_bytes_alone(data, tmp_path):
    """A copy with another name and time has the same digest; one changed byte gives another."""
    copy = tmp_path / "b.fits"
    copy.write_bytes(data.read_bytes())
    os.utime(copy, (1, 1))
    assert digests.file_digest(copy) == digests.file_digest(data)
    content = bytearray(data.read_bytes())
    content[77] ^= 1
    copy.write_bytes(content)
    assert digests.file_digest(copy) != digests.file_digest(data)


@pytest.mark.parametrize("offset", [0, (40 << 20) - 1])
def test_sampled_digest_sees_start_and_end(tmp_path, offset):
    """The sampled digest of a 40 MiB file changes with its first and with its last byte."""
    path = tmp_path / "large.fits"
    with open(path, "wb") as file:
        file.truncate(40 << 20)
    before = digests.file_digest(path, "sampled")
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(b"x")
    assert digests.file_digest(path, "sampled") != before


def test_sampled_digest_of_small_file_is_whole(data):
    """Below 18 MiB a sampled digest reads every byte."""
    assert digests.file_digest(data, "sampled") == digests.file_digest(data, "full")


@pytest.fixture
def note(data, tmp_path, monkeypatch):
    """Function that gives the one note on files that many jobs share."""
    monkeypatch.chdir(tmp_path)
    return lambda: next(Path(digests.FOLDER, "shared").glob("*.json"))


def test_new_time_stamp_keeps_digest(data, note):
    """Touching a file changes the stored time stamp and not the digest."""
    before = digests.shared_digest(data)
    os.utime(data, (5, 5))
    assert digests.shared_digest(data) == before
    assert json.loads(note().read_text())[str(data)]["mtime_ns"] == 5_000_000_000


def test_new_bytes_with_older_time_are_seen(data, note):
    """A file replaced by one of the same size and an older date has a new digest."""
    before = digests.shared_digest(data)
    data.write_bytes(data.read_bytes()[::-1])
    os.utime(data, (5, 5))
    assert digests.shared_digest(data) != before


def test_unchanged_file_is_not_read_again(data, note, monkeypatch):
    """With size and time stamp as before, the digest comes from the note."""
    before = digests.shared_digest(data)
    monkeypatch.setattr(digests, "Watch", lambda *_: pytest.fail("the file was read again"))
    assert digests.shared_digest(data) == before


def test_missing_file_counts_as_missing(data, note):
    """A file that goes has another digest, one that comes back its old one."""
    before = digests.shared_digest(data)
    data.rename("away")
    assert digests.shared_digest(data) != before
    Path("away").rename(data)
    assert digests.shared_digest(data) == before


def test_damaged_note_is_made_anew(data, note):
    """A note cut short by a crash costs a second reading and nothing else."""
    before = digests.shared_digest(data)
    note().write_text("{")
    assert digests.shared_digest(data) == before


LAYOUT = digests.Layout(2880, 60_000, 90_000)


def shown(content, parts, path, layout=LAYOUT):
    """Digest and part of a watch that was shown parts (first, stop) of a file."""
    watch = digests.Watch(path, layout)
    for first, stop in parts:
        watch.saw(first, content[first:stop])
    return watch.close()


@pytest.mark.parametrize(
    ("parts", "counted"),
    [
        ([], None),
        ([(2880, 60_000)], [2880, 60_000]),
        ([(10_000, 20_000), (20_000, 50_000)], [10_000, 50_000]),
        ([(10_000, 40_000), (30_000, 50_000), (35_000, 45_000)], [10_000, 50_000]),
        ([(2880, 3000), (40_000, 50_000)], [2880, 50_000]),
        ([(10_000, 20_000), (5000, 50_000)], None),
    ],
    ids=["nothing", "all", "rows", "overlaps", "gaps", "backwards"],
)
def test_watch_gives_the_digest_of_what_was_used(data, parts, counted):
    """Whatever was shown of a file, in parts that leave gaps or overlap: the digest is that of the file read again."""
    digest, part = shown(data.read_bytes(), parts, data)
    assert part == counted
    assert digest == digests.file_digest(data, layout=LAYOUT, part=part)


def test_watch_counts_what_it_was_shown(data):
    """What was seen is not read again: bytes shown in place of those of the file change the digest."""
    content = data.read_bytes()
    other = content[:5000] + bytes(100) + content[5100:]
    digest, part = shown(other, [(2880, 50_000)], data)
    assert digest != digests.file_digest(data, layout=LAYOUT, part=part)
    data.write_bytes(other)
    assert digest == digests.file_digest(data, layout=LAYOUT, part=part)


@pytest.mark.parametrize("part", [None, [10_000, 20_000]])
@pytest.mark.parametrize(
    "place", [0, 2879, 2880, 9999, 10_000, 19_999, 20_000, 59_999, 60_000, 89_999, 90_000, 102_399]
)
def test_exactly_what_is_used_counts(data, part, place):
    """Header, the part of the first plane and what follows all planes count, the rest does not."""
    before, content = digests.file_digest(data, layout=LAYOUT, part=part), bytearray(data.read_bytes())
    content[place] ^= 1
    data.write_bytes(content)
    first, stop = part or (2880, 60_000)
    counts = place < 2880 or first <= place < stop or place >= 90_000
    assert (digests.file_digest(data, layout=LAYOUT, part=part) != before) is counts


def test_part_is_in_the_digest(data):
    """Equal bytes in another place of the plane are another digest."""
    data.write_bytes(bytes(100_000))
    parts = ([10_000, 20_000], [20_000, 30_000])
    assert len({digests.file_digest(data, layout=LAYOUT, part=part) for part in parts}) == 2


def test_file_cut_short_while_it_is_read_ends(data):
    """A file that shrinks under its watch gives some digest and no endless loop; its stamp tells."""
    watch = digests.Watch(data)
    data.write_bytes(b"short")
    assert watch.close()[0] != digests.file_digest(data)
