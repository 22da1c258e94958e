"""Run the scripts of all stages of a map, one after the other, in one process that reads the filtered map once."""

import runpy
from pathlib import Path

from sotrplib import logs, maps, stages


def main(job):
    with maps.keep_last():
        for its_job in stages.split(job):
            runpy.run_path(str(Path(job.scriptdir, f"{its_job.rule}.py")), {"snakemake": its_job})


with logs.capture(snakemake.log[0]):
    main(snakemake)
