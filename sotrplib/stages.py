"""The jobs of all stages of a map, out of the one job that does their work where the stages run together.

Each stage sees what its own rule would have given it, so that its script, its output and its log are the same.
"""

from types import SimpleNamespace

# In their order.
NAMES = ("preprocess_map", "fit_pointing", "forced_photometry", "find_sources", "sift_candidates", "view_map")


class Files(list):
    """Files of a job: in the order of the rule's names, and by name as attributes."""

    def __init__(self, **named):
        super().__init__(path for value in named.values() for path in ([value] if isinstance(value, str) else value))
        self.__dict__.update(named)


class Parameters(dict):
    """Parameters of a job, by key and as attributes."""

    __getattr__ = dict.__getitem__


def split(job):
    """Jobs of the stages of a map, in their order.

    Parameters
    ----------
    job : snakemake object of a script
        Its outputs and logs have the names of the rules of the stages, and ``sheet`` is one more output of the last;
        its parameter ``stages`` holds theirs, and its inputs are ``given``, ``made``, ``instruments``,
        ``shared`` (of the filter), ``catalog``, ``moving`` and ``moving_made``.

    Yields
    ------
    namespace
        As the snakemake object of the script of the stage ``rule``.
    """
    for stage, files in _inputs(job).items():
        yield SimpleNamespace(
            rule=stage,
            input=Files(**files),
            output=Files(**_outputs(job, stage)),
            log=[job.log[stage]],
            params=Parameters(job.params.stages[stage]),
            wildcards=job.wildcards,
            resources=job.resources,
        )


def _outputs(job, stage):
    """What a stage makes: its file and, the view of a map, a sheet."""
    return {"made": job.output[stage]} | ({"sheet": job.output.sheet} if stage == "view_map" else {})


def _inputs(job):
    """What the rule of each stage names as its input."""
    own, pointing = {"map": job.output.preprocess_map}, {"pointing": job.output.fit_pointing}
    forced, found = {"forced": job.output.forced_photometry}, {"detections": job.output.find_sources}
    catalog = {"catalog": job.input.catalog}
    moving = {"shared": job.input.moving, "made": job.input.moving_made}
    return {
        "preprocess_map": {name: job.input[name] for name in ("given", "made", "instruments", "shared")},
        "fit_pointing": own | catalog,
        "forced_photometry": own | pointing | catalog,
        "find_sources": own | pointing | forced,
        "sift_candidates": own | pointing | forced | found | catalog | moving,
        "view_map": own | pointing | forced | {"sifted": job.output.sift_candidates},
    }
