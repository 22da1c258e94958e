"""The cost of a day: its maps are those of a telescope, and its tables tell what the jobs used."""

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from sotrplib import logs, mapindex
from sotrplib.cli.commands import main
from sotrplib.report import resources

sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))

import day  # noqa: E402
import daysky  # noqa: E402
import floors  # noqa: E402
import starts  # noqa: E402

HEADER = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"
FLOOR = {"read FITS": 0.1, "FFT forward and inverse": 0.2, "write HDF5": 0.3, "read HDF5": 0.4, "empty job": 0.5}


def leave_benchmarks(folder, cpu_s, n_maps=2):
    """Benchmarks and logs of a run as Snakemake and the jobs leave them; the merge was too short to be sampled."""
    for rule, map_id in [*[("find_sources", f"map{k}") for k in range(n_maps)], ("merge_catalogs", "")]:
        name = Path(rule, map_id) if map_id else Path(rule)
        for kind, suffix in (("benchmarks", ".tsv"), ("logs", ".log")):
            (folder / "results" / kind / name).parent.mkdir(parents=True, exist_ok=True)
            path = (folder / "results" / kind / name).with_suffix(suffix)
            path.write_text(HEADER + ("4.0\t0:00:04\t99" + "\tNA" * 7 + "\n") if kind == "benchmarks" else "")
        if map_id:
            used = {"cpu_s": cpu_s, "memory_mb": 800.0, "read_mb": 120.0, "written_mb": 2.0}
            path.write_text("... INFO sotrplib.logs: " + logs._USED.format(**used) + "\n")
    return folder


def test_costs_are_those_the_jobs_stated(tmp_path):
    """CPU, memory and bytes are what each job said at its end; of one that said nothing what Snakemake sampled."""
    found = resources.read_benchmarks(leave_benchmarks(tmp_path, 3.0) / "results" / "benchmarks")
    totals = resources.by_rule(found)
    assert totals["find_sources"] == {
        "jobs": 2, "memory_mb": 800.0, "seconds": 8.0, "cpu_s": 6.0, "read_mb": 240.0, "written_mb": 4.0,
    }  # fmt: skip
    assert totals["merge_catalogs"]["memory_mb"] == 99 and totals["merge_catalogs"]["cpu_s"] == 0


def test_memory_that_processes_share_counts_once(tmp_path):
    """Of a job of several processes the proportional memory is taken, not the sum that counts shared pages for each."""
    (tmp_path / "search.tsv").write_text(HEADER + "9.0\t0:00:09\t3600\t8000\t1500\t2100\t1\t1\t100\t12\n")
    (found,) = resources.read_benchmarks(tmp_path)
    assert found["memory_mb"] == 2100


def test_times_compares_with_an_earlier_run(tmp_path, monkeypatch):
    """`sotrp times` lists the rules; with --against it gives the ratio of times a job, whatever the number of maps."""
    now, earlier = leave_benchmarks(tmp_path / "now", 3.0), leave_benchmarks(tmp_path / "earlier", 2.0, n_maps=5)
    monkeypatch.chdir(now)
    assert "| find_sources | 2 | 8.0 | 6.0 | 800 | 240 | 4 |" in CliRunner().invoke(main, ["times"]).output
    told = CliRunner().invoke(main, ["times", "--against", str(earlier)]).output
    assert "| find_sources | 2 | 3.00 | 2.00 | 1.50 | 800 | 800 | 1.00 |" in told
    monkeypatch.chdir(tmp_path)
    assert "holds no times of jobs" in CliRunner().invoke(main, ["times"]).output


def test_table_holds_stages_beside_floors(tmp_path):
    """A stage is beside the floor of what it must do: its process and, if it uses every pixel, their reading."""
    jobs = resources.read_benchmarks(leave_benchmarks(tmp_path, 3.0) / "results" / "benchmarks")
    text = day.describe(day.dayruns.Run(10.0, 8.0, jobs), FLOOR, 2)
    assert "| find_sources | 2 | 4.00 | 3.00 | 800 | 120.0 | 2.0 | 0.90 | 3.3 |" in text
    assert day.stage_floor("preprocess_map", FLOOR, 1) == pytest.approx(0.5 + 0.1 + 0.6 + 0.3)
    assert "wall s a map: 5.0, target <= 12" in text


def test_day_has_six_tubes_and_four_bands():
    """24 maps are all pairs of a tube and a band, named differently from each other and from the next day's."""
    labels = daysky.labels(30)
    assert {label[:2] for label in labels[:24]} == {
        (a, b) for a in daysky.ARRAYS for pair in daysky.BANDS for b in pair
    }
    assert len(set(labels)) == 30


def test_simulated_maps_are_kept_and_can_be_read(tmp_path):
    """A tiny empty sky has [T, Q, U] maps with unobserved pixels around them; what is there is not made again."""
    sky = daysky.make(tmp_path, daysky.Sky(area=day.TINY, n_maps=1, empty=True))
    (row,) = mapindex.read_map_table(sky / "maps_1.csv", "")
    stamps = {path: path.stat().st_mtime_ns for path in sky.glob("solat*")}
    assert daysky.make(tmp_path, daysky.Sky(area=day.TINY, n_maps=1, empty=True)) == sky
    assert stamps == {path: path.stat().st_mtime_ns for path in sky.glob("solat*")} and len(stamps) == 4
    ivar = floors._read_plane(row["weight_path"])
    assert 0.2 < (ivar > 0).mean() < 0.8
    assert Path(row["map_path"]).stat().st_size > 3 * ivar.nbytes


def test_slopes_are_those_of_powers():
    """What grows with the square has slope 2; what is linear beside a constant part has equal increases."""
    assert day._slopes([(1, 3.0, 11.0), (4, 48.0, 14.0), (16, 768.0, 26.0)]) == [
        "2.00 (+15, 60 a unit)",
        "0.45 (+1, 1 a unit)",
    ]


def test_kept_costs_can_be_compared(tmp_path):
    """The costs kept by one run are what another compares with."""
    jobs = resources.read_benchmarks(leave_benchmarks(tmp_path, 3.0) / "results" / "benchmarks")
    assert "| find_sources | 2 | 3.00 | 3.00 | 1.00 |" in resources.compare(jobs, json.loads(json.dumps(jobs)))


def test_wall_on_free_cores_is_what_must_wait():
    """Jobs of maps share the cores; merges and the engine do not, but a job faster than its CPU time had both."""
    used = {"map_id": "", "memory_mb": 0.0, "read_mb": 0.0, "written_mb": 0.0}
    given = (
        ("process_map", 8.0, 8.0),
        ("report", 3.0, 9.0),
        ("search_jointly", 6.0, 4.0),
        ("export_catalogs", 2.0, 2.0),
    )
    jobs = [used | {"rule": rule, "cpu_s": cpu, "seconds": wall} for rule, cpu, wall in given]
    assert day.free_wall(day.dayruns.Run(99.0, 20.0, jobs)) == pytest.approx(8 / 2 + 3 + 4 + 1)


def test_scaling_tells_costs_by_area_and_number(monkeypatch):
    """The tables hold a row for each area and number of maps, a map's own jobs apart from those of all maps."""
    used = {"seconds": 0.0, "memory_mb": 0.0, "read_mb": 0.0, "written_mb": 0.0, "map_id": ""}

    def run(area, n_maps, **_):
        cpu = {"process_map": n_maps * (1 + 8 * area), "search_jointly": 4 * area, "report": 2.0}
        return day.dayruns.Run(9.0, sum(cpu.values()) + 5, [used | {"rule": k, "cpu_s": v} for k, v in cpu.items()])

    monkeypatch.setattr(day.dayruns, "simulated", lambda area, n_maps, **_: area)
    monkeypatch.setattr(day.dayruns, "run_workflow", run)
    text = day.scaling(2, "together")
    assert "| 0.25 | 7.2 | 3.00 | 0.50 | 4.50 |" in text and "| 1 | 29.0 | 9.00 | 2.00 | 12.00 |" in text
    assert "(+0.276, 0.276 a unit)" in text
    assert "| 10 | 10.1 | 2.0 | 5.0 | 17.1 |" in text


def test_starts_of_scripts_are_beside_those_of_the_engine(monkeypatch):
    """A script's start costs its imports and those of the engine; a script that does not start is an error."""
    monkeypatch.setattr(starts, "cpu_seconds", lambda statements: {1: 0.2, 2: 0.5}.get(len(statements), 0.75))
    script = Path(__file__).parents[1] / "scripts" / "report.py"
    assert starts.imports(script) == [
        "from pathlib import Path",
        "from sotrplib import logs, store",
        "from sotrplib.report import page, resources",
    ]
    text = starts.describe([script])
    assert "| engine alone | 0.20 | |" in text and "| report | 0.75 | 0.25 |" in text
    monkeypatch.undo()
    assert starts.cpu_seconds(["pass"], repeat=1) < starts.cpu_seconds([starts.TABLES], repeat=1)
    with pytest.raises(RuntimeError, match="import nothing_of_this_name failed with exit status 1"):
        starts.cpu_seconds(["import nothing_of_this_name"], repeat=1)
