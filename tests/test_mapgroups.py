"""Which maps make an observation and which a coadd."""

import re

import pytest

from sotrplib import mapgroups, mapindex

GROUP = {"name": "x", "bin_days": None, "gap_s": None, "per_array": False, "per_band": True, "spectral_index": 0.0}
NIGHT = 1_760_054_400  # midnight UTC


def rows(*names):
    """Rows of ``array_band_time`` names."""
    keys = ("instrument", "array", "band")
    return [dict(zip(keys, f"solat_{name}".split("_"), strict=False)) | {"map_id": f"solat_{name}"} for name in names]


def made(table, *groups, file=""):
    return mapgroups.coadds(table, {"groups": [GROUP | group for group in groups], "table": file})


ROWS = rows(f"i1_f090_{NIGHT + 100}", f"i1_f150_{NIGHT + 100}", f"i3_f090_{NIGHT + 700}", f"i1_f090_{NIGHT + 86_500}")


def test_observation_ends_after_the_gap():
    """Maps that began within the gap of the first are one observation, later ones the next, whatever their order."""
    found = mapgroups.observations(ROWS[::-1], 3600.0)
    assert list(found) == [f"solat_joint_multi_{NIGHT + 100}", f"solat_joint_multi_{NIGHT + 86_500}"]
    assert [len(ids) for ids in found.values()] == [3, 1]


def test_observation_does_not_chain():
    """Of maps 50 minutes apart each, the third is more than an hour after the first and begins another observation."""
    found = mapgroups.observations(rows("i1_f090_0", "i1_f090_3000", "i1_f090_6000"), 3600.0)
    assert [len(ids) for ids in found.values()] == [2, 1]


def test_others_are_of_other_observations():
    """The other epochs of a map have its band, its array if asked, and not its observation."""
    table = ROWS + rows(f"i3_f090_{NIGHT + 86_600}")
    groups, own = mapgroups.observations(table, 3600.0), f"solat_i1_f090_{NIGHT + 100}"
    assert mapgroups.other_epochs([own], groups) == {own: [f"solat_i1_f090_{NIGHT + 86_500}"]}
    assert len(mapgroups.other_epochs([own], groups, same_array=False)[own]) == 2


def test_differences_have_their_references():
    """Maps with other epochs have a difference, whose id is a map's; a coadd in their place has the map's labels."""
    ids, groups = [row["map_id"] for row in ROWS], mapgroups.observations(ROWS, 3600.0)
    options = {"reference": "others", "same_array": True}
    found = mapgroups.differences(ids, groups, options)
    name = f"solat_diffi1_f090_{NIGHT + 100}"
    assert list(found) == [name, f"solat_diffi1_f090_{NIGHT + 86_500}"] and mapgroups.found_by(name) == "difference"
    assert re.fullmatch(mapindex.MAP_ID, name) and found[name].others == [f"solat_i1_f090_{NIGHT + 86_500}"]
    given = mapgroups.differences(ids, groups, options | {"reference": "deep/{array}_{band}.h5"})
    assert len(given) == 4 and given[name].reference == "deep/i1_f090.h5"


def test_days_count_from_midnight():
    """A coadd of a day holds the maps since midnight UTC, of all arrays of a band, and is named by that midnight."""
    found = made(ROWS, {"name": "day", "bin_days": 1})
    assert found[f"solat_coaddday_f090_{NIGHT}"].members == [ROWS[0]["map_id"], ROWS[2]["map_id"]]
    assert sorted(found) == [
        f"solat_coaddday_f090_{NIGHT}", f"solat_coaddday_f090_{NIGHT + 86_400}", f"solat_coaddday_f150_{NIGHT}"
    ]  # fmt: skip


def test_gap_chains_and_no_bin_takes_all():
    """A gap chains maps; neither bin nor gap puts all maps of a band, or of an array and band, into one coadd."""
    assert len(made(ROWS, {"gap_s": 3600.0, "per_band": False})) == 2
    assert sorted(made(ROWS, {})) == [f"solat_coaddx_f090_{NIGHT + 100}", f"solat_coaddx_f150_{NIGHT + 100}"]
    assert f"solat_coaddxi3_f090_{NIGHT + 700}" in made(ROWS, {"per_array": True})


def test_names_fit_their_patterns():
    """A coadd's name is that of a map and of a coadd, that of a map is no coadd's."""
    for name in [*made(ROWS, {"bin_days": 7}, {"name": "y", "per_band": False}), *mapgroups.observations(ROWS, 1.0)]:
        assert re.fullmatch(mapindex.MAP_ID, name) and not re.fullmatch(mapgroups.SINGLE_ID, name)
    assert all(re.fullmatch(mapgroups.SINGLE_ID, row["map_id"]) for row in ROWS)


def test_table_gives_groups(tmp_path):
    """A group table names coadds and their maps; maps that are not selected are left out."""
    path = tmp_path / "groups.csv"
    lines = ["# two maps", "coadd,map_id"]
    lines += [f"solat_coaddmine_f090_5,{ROWS[k]['map_id']}" for k in (3, 0)] + [
        "solat_coaddmine_f090_5,solat_i9_f090_1"
    ]
    path.write_text("\n".join(lines))
    assert made(ROWS, file=str(path))["solat_coaddmine_f090_5"].members == [ROWS[0]["map_id"], ROWS[3]["map_id"]]


@pytest.mark.parametrize(
    ("text", "message"),
    [("coadd,map\na,b", "columns are coadd, map"), ("coadd,map_id\nsolat_i1_f090_5,x", "expected {instrument}_coadd")],
)
def test_faulty_table_is_named(tmp_path, text, message):
    """A group table without its columns, or with the name of a map for a coadd, is refused."""
    path = tmp_path / "groups.csv"
    path.write_text(text)
    with pytest.raises(mapgroups.GroupError, match=re.escape(message)):
        made(ROWS, file=str(path))


def test_mistakes_in_groups_are_named():
    """Two rules for one coadd, and a rule with both a bin and a gap, are refused."""
    with pytest.raises(mapgroups.GroupError, match="is made twice"):
        made(ROWS, {}, {"gap_s": 1e9})
    with pytest.raises(mapgroups.GroupError, match="group x has bin_days and gap_s"):
        made(ROWS, {"bin_days": 1, "gap_s": 5.0})
