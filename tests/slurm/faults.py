"""Everything that goes wrong on a cluster, injected for real; run by ``make test-slurm``.

In all: other maps finish, one command recovers, and what is there in the end are the very files of an undisturbed run.
"""

import os
import signal
import time

import slurm_runs
from slurm_runs import FIRST, LARGE, SECOND

# Small enough for the large map to be killed at the first try, or at every try; enough for the small ones.
SHORT = "min(attempt, 3) * 560"
ALWAYS_SHORT = "100000 if attempt == 3 else 550 + 10 * attempt"  # the third is more than any node has
RULES = (*slurm_runs.STAGES, "confirm_candidates", "merge_catalogs", "report")


def memory(expression):
    """Options that give each job of a map so much memory, and the merges enough."""
    return [
        "--set-resources",
        *(f"{rule}:mem_mb={expression if rule in slurm_runs.STAGES else 1500}" for rule in RULES),
    ]


def test_job_killed_in_write(run, local):
    """A job killed -9 while it writes its output is tried again; the half file was never taken for a whole one."""
    head = slurm_runs.start_on_slurm(run)
    half = slurm_runs.kill_in_write(run, "preprocess_map", LARGE, f"results/preprocessed/{LARGE}.h5")
    assert not (run / f"results/preprocessed/{LARGE}.h5").exists()
    assert half.exists()
    assert slurm_runs.finish(head) == 0, slurm_runs.said(run)
    assert "Trying to restart job" in slurm_runs.said(run)
    assert slurm_runs.differences(local, run) == []


def test_lost_head_is_resumed(cluster, run, local):
    """After kill -9 of the head, ``slurm/resume`` cancels what it left and goes on: no map is run twice at once."""
    before = set(cluster.jobs())
    head = slurm_runs.start_on_slurm(run)
    slurm_runs.script_process(run, "preprocess_map", LARGE)
    head.kill()
    head.wait()
    again = slurm_runs.start_on_slurm(run)
    assert slurm_runs.finish(again) == 1
    assert "Directory cannot be locked" in slurm_runs.said(run)
    assert slurm_runs.finish(slurm_runs.resume(run)) == 0, slurm_runs.said(run)
    jobs = slurm_runs.map_jobs(cluster, before)
    assert {job["JobState"] for _, job in jobs} == {"COMPLETED", "CANCELLED"}
    assert slurm_runs.overlaps(jobs) == []
    assert slurm_runs.differences(local, run) == []


def test_resume_leaves_a_living_head_alone(cluster, run):
    """While a head is at work in the folder, ``slurm/resume`` refuses; the head and its jobs are not touched."""
    head = slurm_runs.start_on_slurm(run)
    slurm_runs.script_process(run, "preprocess_map", FIRST)
    jobs = set(cluster.running())
    assert slurm_runs.finish(slurm_runs.resume(run)) == 1
    assert "still runs snakemake in this folder" in slurm_runs.said(run)
    assert head.poll() is None and jobs <= set(cluster.running())
    head.send_signal(signal.SIGINT)
    assert slurm_runs.finish(head) == 1
    slurm_runs.wait_for(lambda: not jobs & set(cluster.running()), "jobs cancelled by Ctrl-C", timeout_s=60)


def test_short_memory_is_raised(cluster, run, local):
    """A map killed for want of memory is tried again with more, and nothing is lost."""
    before = set(cluster.jobs())
    assert slurm_runs.finish(slurm_runs.start_on_slurm(run, *memory(SHORT))) == 0, slurm_runs.said(run)
    jobs = slurm_runs.map_jobs(cluster, before)
    states = [job["JobState"] for map_id, job in jobs if map_id == LARGE]
    assert states[0] != "COMPLETED" and states[-1] == "COMPLETED"
    assert slurm_runs.differences(local, run) == []


def test_map_without_enough_memory_is_recorded(cluster, run, local):
    """A map that never gets enough memory, killed twice and refused once, ends as failed; the others are measured.

    The same command with enough memory makes the map and the merges.
    """
    head = slurm_runs.start_on_slurm(run, *memory(ALWAYS_SHORT))
    assert slurm_runs.finish(head) == 1
    maps = slurm_runs.maps_table(run)
    assert dict(maps["status"]) == {FIRST: "ok", SECOND: "ok", LARGE: "failed"}
    assert maps["reason"][LARGE].startswith("given up after 3 tries: preprocess_map was killed: out of memory")
    assert "The same command tries 1 of them again." in slurm_runs.said(run)
    kept = run / f"results/preprocessed/{FIRST}.h5"
    made = kept.stat().st_mtime_ns
    assert slurm_runs.finish(slurm_runs.start_on_slurm(run)) == 0, slurm_runs.said(run)
    assert kept.stat().st_mtime_ns == made
    changed = [name for name in slurm_runs.differences(local, run) if not name.startswith("results/alerts/")]
    assert changed == []  # an alert is said once, as things stood when the night was first finished


def test_job_over_its_time_limit(cluster, run, local):
    """A job that hangs is ended by Slurm at its time limit and tried again."""
    before = set(cluster.jobs())
    limit = "1 if attempt == 1 else 10"  # of the group, which asks for the sum of its stages
    times = [f"{rule}:runtime={limit if rule == 'preprocess_map' else 0}" for rule in slurm_runs.STAGES]
    head = slurm_runs.start_on_slurm(run, "--set-resources", *times)
    os.kill(slurm_runs.script_process(run, "preprocess_map", SECOND), signal.SIGSTOP)
    assert slurm_runs.finish(head) == 0, slurm_runs.said(run)
    jobs = slurm_runs.map_jobs(cluster, before)
    states = [job["JobState"] for map_id, job in jobs if map_id == SECOND]
    assert states[0] == "TIMEOUT" and states[-1] == "COMPLETED"
    assert slurm_runs.differences(local, run) == []


def test_lost_node(cluster, run, local):
    """When the daemon of a node dies under a map, the map ends well all the same, and so does the run."""
    before = set(cluster.jobs())
    head = slurm_runs.start_on_slurm(run)
    slurm_runs.script_process(run, "preprocess_map", LARGE)
    node = next(job["NodeList"] for map_id, job in slurm_runs.map_jobs(cluster, before) if map_id == LARGE)
    cluster.kill_node(node)
    try:
        assert slurm_runs.finish(head) == 0, slurm_runs.said(run)
    finally:
        time.sleep(1)
        cluster.start_node(node)
    assert slurm_runs.differences(local, run) == []
