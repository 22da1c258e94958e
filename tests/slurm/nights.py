"""Real nights on a real Slurm, as a user types it; ``make test-slurm DATA=PATH`` says where the nights are."""

import os
import re
from pathlib import Path

import pytest
import slurm_runs

DATA = Path(os.environ.get("DATA") or slurm_runs.ROOT.parent / "shared" / "data").absolute()


@pytest.mark.skipif(not (DATA / "nights").is_dir(), reason=f"no nights in {DATA}: make test-slurm DATA=PATH")
def test_nights_run_on_slurm(cluster, tmp_path):
    """The nights end with status 0 and the very files of a local run.

    Each map was one Slurm job of a size that follows from its bytes, each observation another; the catalogue was one
    more, the merges the last.
    """
    folders = {name: slurm_runs.copy_code(tmp_path / name) for name in ("local", "slurm")}
    before = set(cluster.jobs())
    for name, options in (("local", ("--cores", "2")), ("slurm", ("--profile", "slurm"))):
        config = ("--config", f"data_dir={DATA}")
        head = slurm_runs.start(folders[name], *options, *config, config="config/examples/depth1.yaml")
        assert slurm_runs.finish(head) == 0, slurm_runs.said(folders[name])
    assert slurm_runs.differences(*folders.values()) == []

    jobs = slurm_runs.map_jobs(cluster, before)
    n_maps = len(slurm_runs.maps_table(folders["slurm"]))
    assert len({map_id for map_id, _ in jobs}) == len(jobs) == n_maps
    searches = {map_id for map_id, _ in slurm_runs.search_jobs(cluster, before)}
    assert searches == {path.stem for path in folders["local"].glob("results/joint/*.h5")} != set()
    assert len(set(cluster.jobs()) - before) == n_maps + len(searches) + 2
    for stage in slurm_runs.STAGES:
        assert len(list(folders["slurm"].glob(f"results/logs/{stage}/*.log"))) == n_maps
    asked = {int(re.search(r"mem=(\d+)M", job["TRES"]).group(1)) for _, job in jobs}
    assert all(700 < memory < 1000 for memory in asked), asked
