"""One Slurm and one undisturbed local run for all tests of this folder; ``make test-slurm`` names them."""

import pytest
import slurm_cluster
import slurm_runs
from slurm_runs import FIRST, LARGE, SECOND


@pytest.fixture(scope="session")
def cluster():
    """A Slurm of four nodes."""
    try:
        slurm_cluster.require()
    except slurm_cluster.NoSlurm as error:
        pytest.skip(str(error))
    with slurm_cluster.cluster() as running:
        yield running


@pytest.fixture(scope="session")
def given(cluster, tmp_path_factory):
    """Three maps that nothing was run on: two of 1.5 degrees, and one of 22 that takes twice the memory."""
    folder = tmp_path_factory.mktemp("given") / "run"
    return slurm_runs.make_maps(folder, {FIRST: 1.5, SECOND: 1.5, LARGE: 22.0})


@pytest.fixture(scope="session")
def local(given, tmp_path_factory):
    """The same maps after an undisturbed local run."""
    folder = slurm_runs.copy(given, tmp_path_factory.mktemp("local") / "run")
    assert slurm_runs.finish(slurm_runs.start(folder, "--cores", "2")) == 0, slurm_runs.said(folder)
    return folder


@pytest.fixture
def run(given, tmp_path):
    """A fresh folder with the maps."""
    return slurm_runs.copy(given, tmp_path / "run")
