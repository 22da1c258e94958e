"""The graph of jobs costs what the engine needs for it: the benchmark of `benchmarks/dag.py` on a few maps."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))

import dag  # noqa: E402

pytestmark = pytest.mark.slow
N_MAPS = 40


@pytest.fixture(scope="module")
def costs(tmp_path_factory):
    """Costs by workflow, of every state."""
    return dict(dag.measure(tmp_path_factory.mktemp("dag"), N_MAPS, names=("same files", "ours")))


def test_a_map_costs_its_own_jobs(costs):
    """Nothing runs when all is made, one map more runs its own jobs and the merges, and the floor has as many a map.

    Ours has a few jobs more: the joint search of each observation.
    """
    per_map = len(dag.PER_MAP)
    for name in ("same files", "ours"):
        missing, done, added = (costs[state][name].n_jobs for state in dag.STATES)
        assert done == 0
        joint = missing - added - per_map * (N_MAPS - 1) - 1  # 1: the catalogue of known sources
        assert 0 <= joint <= (N_MAPS // 4 if name == "ours" else 0)
        assert added >= per_map + len(dag.MERGES)


def test_graph_costs_little_more_than_trivial_rules(costs):
    """CPU time and memory of a dry run are within 1.6 of those of trivial rules; 1.3 is measured on an idle machine."""
    for state, cost in costs.items():
        assert cost["ours"].cpu_s < 1.6 * cost["same files"].cpu_s, state
        assert cost["ours"].memory_mb < 1.3 * cost["same files"].memory_mb, state
