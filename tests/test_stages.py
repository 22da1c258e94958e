"""The jobs of the stages of a map, out of the one job that runs them together."""

from types import SimpleNamespace

import pytest

from sotrplib import provenance, stages

STAGES = stages.NAMES


class Named(dict):
    __getattr__ = dict.__getitem__


@pytest.fixture
def job():
    """The one job, as its script sees it."""
    inputs = {
        "given": ["map.fits", "ivar.fits"],
        "made": [],
        "instruments": "instruments.yaml",
        "shared": ["mask.fits"],
    }
    inputs |= {"catalog": "catalog.h5", "moving": ["de.bsp"], "moving_made": []}
    return SimpleNamespace(
        input=Named(inputs),
        output=Named({stage: f"{stage}.h5" for stage in STAGES} | {"sheet": "sheet.png"}),
        log=Named({stage: f"{stage}.log" for stage in STAGES}),
        params=SimpleNamespace(stages={stage: {"options": {"of": stage}, "code": "1"} for stage in STAGES}),
        wildcards=SimpleNamespace(map_id="m"),
        resources=SimpleNamespace(attempt=2),
    )


def test_each_stage_has_its_own_files_and_parameters(job):
    """Stages come in their order, each with its output, log, parameters and the try of the whole job."""
    found = list(stages.split(job))
    assert tuple(one.rule for one in found) == STAGES
    for one in found:
        assert (one.output[0], one.log[0]) == (f"{one.rule}.h5", f"{one.rule}.log")
        assert one.params.options == {"of": one.rule} and one.resources.attempt == 2 and one.wildcards.map_id == "m"


def test_inputs_are_in_the_order_of_the_rules(job):
    """What a stage notes as its inputs is what its own rule would have given it: by name, and as one list."""
    first, *_, last, view = stages.split(job)
    assert list(first.input) == ["map.fits", "ivar.fits", "instruments.yaml", "mask.fits"]
    assert first.input.instruments == "instruments.yaml" and first.input.given == ["map.fits", "ivar.fits"]
    before = [f"{stage}.h5" for stage in STAGES[:-2]]
    assert list(last.input) == [*before, "catalog.h5", "de.bsp"] and last.input.detections == "find_sources.h5"
    assert provenance.job_record(last)["inputs"] == [*before, "catalog.h5", "de.bsp"]
    assert list(view.input) == [*before[:3], "sift_candidates.h5"] and view.output == ["view_map.h5", "sheet.png"]
    assert view.output.sheet == "sheet.png"
