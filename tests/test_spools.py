"""Rows that go to the disk part by part come back whole, each source in one part."""

import os
import signal

import numpy as np
import pandas as pd
import pytest

from sotrplib import spools, tables


def make_rows(rng, n, n_sources=40):
    ids = np.array([f"s{k:03d}" for k in rng.integers(0, n_sources, n)], dtype=object)
    return pd.DataFrame({"source_id": pd.array(ids, dtype="str"), "flux": rng.normal(size=n), "row": np.arange(n)})


def test_rows_come_back_once_and_in_order(tmp_path, rng):
    """All rows are in the parts, each once, in the order given; the disk is empty afterwards."""
    frame = make_rows(rng, 5000)
    with spools.Spool(7, tmp_path) as spool:
        passed = list(spool.passed([frame[:1000], frame[1000:1000], frame[1000:]], "source_id"))
        parts = list(spool.parts())
    assert [len(part) for part in passed] == [1000, 0, 4000]
    assert list(tmp_path.iterdir()) == []
    assert len(parts) == 7 and all(part["row"].is_monotonic_increasing for part in parts)
    back = pd.concat(parts).sort_values("row", ignore_index=True)
    pd.testing.assert_frame_equal(back, frame)


def test_each_source_is_in_one_part(tmp_path, rng):
    """No source has rows in two parts."""
    with spools.Spool(5, tmp_path) as spool:
        list(spool.passed([make_rows(rng, 800), make_rows(rng, 800)], "source_id"))
        seen = [set(part["source_id"]) for part in spool.parts()]
    assert sum(map(len, seen)) == len(set().union(*seen))


def test_no_rows_make_no_parts(tmp_path):
    """Without rows there are no parts."""
    with spools.Spool(3, tmp_path) as spool:
        spool.add(tables.empty("measurements"), np.zeros(0, int))
        assert list(spool.parts()) == []


def test_what_a_killed_process_left_is_removed(tmp_path):
    """The rows of a process killed at work are gone when the next one begins; those of other folders stay."""
    (tmp_path / "other").mkdir()
    child = os.fork()
    if child == 0:
        with spools.Spool(2, tmp_path):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    left = set(tmp_path.iterdir())
    assert len(left) == 2
    with spools.Spool(2, tmp_path):
        assert len(set(tmp_path.iterdir()) - left) == 1
        assert len(list(tmp_path.iterdir())) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_more_rows_than_are_kept(tmp_path, rng, monkeypatch):
    """Rows written in several goes come back in the order in which they came."""
    monkeypatch.setattr(spools, "_ROWS_AT_ONCE", 100)
    frame = make_rows(rng, 1000)
    with spools.Spool(2, tmp_path) as spool:
        for start in range(0, 1000, 70):
            spool.add(frame[start : start + 70], np.arange(len(frame[start : start + 70])) % 2)
        rows = np.concatenate([part["row"].to_numpy() for part in spool.parts()])
    assert sorted(rows) == list(range(1000))


@pytest.mark.parametrize(
    ("sizes", "part"), [([], []), ([5], [0]), ([4, 4, 4], [0, 0, 0]), ([9, 9, 40, 1], [0, 0, 1, 2])]
)
def test_ranges_keep_the_order(sizes, part):
    """Neighbours share a part until it has about as many rows as asked for."""
    counts = pd.Series(sizes, index=[f"s{k}" for k in range(len(sizes))], dtype="i8")
    assert spools.in_order(counts, rows=15).tolist() == part
