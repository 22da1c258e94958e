"""Run the scripts of all stages of a map, one after the other, in one process."""

import runpy
from pathlib import Path
from types import SimpleNamespace

from sotrplib import logs


class Named(list):
    """Files of a job in the order of the rule's names, and by name."""

    def __init__(self, **files):
        super().__init__(path for value in files.values() for path in ([value] if isinstance(value, str) else value))
        self.__dict__.update(files)


def inputs(job):
    """What the rule of each stage names as its input."""
    out, catalog = job.output, {"catalog": job.input.catalog}
    given = {name: job.input[name] for name in ("given", "made", "instruments", "shared")}
    own, pointing = {"map": out.preprocess_map}, {"pointing": out.fit_pointing}
    forced, found = {"forced": out.forced_photometry}, {"detections": out.find_sources}
    moving = {"shared": job.input.moving, "made": job.input.moving_made}
    return {
        "preprocess_map": given,
        "fit_pointing": own | catalog,
        "forced_photometry": own | pointing | catalog,
        "find_sources": own | pointing | forced,
        "sift_candidates": own | pointing | forced | found | catalog | moving,
    }


def main(job):
    for stage, files in inputs(job).items():
        its_job = SimpleNamespace(
            rule=stage,
            input=Named(**files),
            output=[job.output[stage]],
            log=[job.log[stage]],
            params=Parameters(job.params.stages[stage]),
            wildcards=job.wildcards,
            resources=job.resources,
        )
        runpy.run_path(str(Path(job.scriptdir, f"{stage}.py")), {"snakemake": its_job})


class Parameters(dict):
    """Parameters of a stage, by key and as attributes."""

    __getattr__ = dict.__getitem__


with logs.capture(snakemake.log[0]):
    main(snakemake)
