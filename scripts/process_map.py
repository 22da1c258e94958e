"""Run the scripts of all stages of a map, one after the other, in one process."""

import runpy
from pathlib import Path

from sotrplib import logs, stages


def main(job):
    for its_job in stages.split(job):
        runpy.run_path(str(Path(job.scriptdir, f"{its_job.rule}.py")), {"snakemake": its_job})


with logs.capture(snakemake.log[0]):
    main(snakemake)
