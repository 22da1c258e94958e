"""Write the page of what the run found."""

from pathlib import Path

from sotrplib import logs, store
from sotrplib.report import page, resources

TABLES = ("maps", "candidates", "counterparts", "sources", "source_bands", "measurements")


def main(job):
    frames = {name: store.read_table(job.input.catalog, name) for name in TABLES}
    frames["lightcurves"] = store.read_table(job.input.lightcurves, "lightcurves")
    frames["catalog"] = store.read_table(job.input.known, "catalog")
    files = list(zip(job.input.maps, job.input.views, strict=True))
    more = {"recovery": job.input.recovery, "resources": resources.read_benchmarks("results/benchmarks")}
    more |= {"sheets": [f"results/figures/{Path(name).stem}.png" for name in job.input.maps]}
    more |= {"gap_s": job.params.observation_gap_s, "reference": job.params.reference}
    page.write_page(job.output.page, frames, files, **more)


logs.run_job(snakemake, main)
