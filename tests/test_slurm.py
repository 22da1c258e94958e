"""The workflow on a real Slurm, as a user types it, its head killed on the way; ``make test-slurm`` does far more."""

import re

import pytest
import slurm_cluster
import slurm_runs
import yaml
from slurm_runs import FIRST, SECOND

LONG = {"measure_recovery", "coadd_maps", "search_jointly", "search_difference", "stack_sources"}


def rule_texts():
    """Text of every rule of the workflow, by name."""
    files = [slurm_runs.ROOT / "Snakefile", *sorted((slurm_runs.ROOT / "rules").glob("*.smk"))]
    parts = [part for path in files for part in re.split(r"(?m)^(?=rule |localrules:)", path.read_text())]
    return {part.split()[1].rstrip(":"): part for part in parts if part.startswith("rule ")}


def local_rules():
    """Names of the rules that run beside the head."""
    files = [slurm_runs.ROOT / "Snakefile", *(slurm_runs.ROOT / "rules").glob("*.smk")]
    lists = [re.findall(r"(?m)^localrules:\n((?:    \w+,\n)+)", path.read_text()) for path in files]
    return set(re.findall(r"\w+", " ".join(text for texts in lists for text in texts)))


def test_profile_knows_every_rule():
    """Each rule that submits jobs is in a group of the profile, but for those of long jobs; it names no other rules."""
    profile = yaml.safe_load((slurm_runs.ROOT / "profiles/slurm/config.yaml").read_text())
    submitted = {name for name, text in rule_texts().items() if "script:" in text} - local_rules()
    assert submitted - profile["groups"].keys() == LONG
    assert profile["groups"].keys() <= submitted
    assert profile["set-resources"].keys() <= submitted


def test_rules_of_maps_count_their_tries():
    """Each rule whose script records bad maps gives it the number of the try, so that a map is given up in the end."""
    scripts = {path.stem for path in (slurm_runs.ROOT / "scripts").glob("*.py") if "run_map_job" in path.read_text()}
    scripts.add("process_map")  # runs those of the stages of a map
    assert {name for name, text in rule_texts().items() if "attempt=attempt_number" in text} == scripts


@pytest.fixture(scope="module")
def cluster():
    try:
        slurm_cluster.require()
    except slurm_cluster.NoSlurm as error:
        pytest.skip(str(error))
    with slurm_cluster.cluster(n_nodes=2) as running:
        yield running


@pytest.mark.slow
def test_lost_head_is_resumed(cluster, tmp_path):
    """After kill -9 of the head, ``slurm/resume`` ends with status 0 and the very files of a local run.

    No map ran twice at once, each was one Slurm job of either head, and left a log for each of its rules.
    """
    local = slurm_runs.make_maps(tmp_path / "local", {FIRST: 1.5, SECOND: 1.5})
    folder = slurm_runs.copy(local, tmp_path / "slurm")
    assert slurm_runs.finish(slurm_runs.start(local, "--cores", "2")) == 0

    head = slurm_runs.start_on_slurm(folder)
    slurm_runs.script_process(folder, "preprocess_map", FIRST)
    head.kill()
    head.wait()
    assert slurm_runs.finish(slurm_runs.resume(folder)) == 0, slurm_runs.said(folder)

    assert slurm_runs.differences(local, folder) == []
    jobs = slurm_runs.map_jobs(cluster)
    assert sorted(map_id for map_id, _ in jobs) == [FIRST, FIRST, SECOND, SECOND]
    assert len(slurm_runs.search_jobs(cluster)) == 1
    assert slurm_runs.overlaps(jobs) == []
    logs = [folder / f"results/logs/{rule}/{name}.log" for rule in slurm_runs.STAGES for name in (FIRST, SECOND)]
    assert [path for path in logs if not path.exists()] == []
