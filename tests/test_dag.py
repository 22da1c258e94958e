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


@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    """Python calls of a dry run by workflow, for three numbers of maps of equal distance."""
    folder = tmp_path_factory.mktemp("calls")
    found = {}
    for name in dag.WORKFLOWS:
        for n_maps in (10, 60, 110) if name == "ours" else (10, 60):
            place = folder / f"{name}_{n_maps}".replace(" ", "_")
            dag.WRITERS[name](place, n_maps)
            found.setdefault(name, []).append(dag.count_calls(place))
    return found


def test_time_grows_with_the_number_of_maps_and_not_its_square(calls):
    """Another 50 maps cost what the 50 before them did."""
    first, second, third = calls["ours"]
    assert third - second == pytest.approx(second - first, rel=0.05)


@pytest.mark.parametrize(("name", "floor", "most"), [("ours", "same files", 1.45), ("together", "bare", 1.55)])
def test_a_map_costs_little_more_calls_than_trivial_rules(calls, name, floor, most):
    """Calls for each map more stay 1.34 and 1.42 times those of trivial rules; their CPU time is 1.2 and 0.9 times."""
    more, least = (calls[which][1] - calls[which][0] for which in (name, floor))
    assert more < most * least
