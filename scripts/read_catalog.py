"""Read the catalogue of known sources once for all maps."""

from sotrplib import logs, provenance, sources, store


def main(job):
    options = job.params.options
    catalog = sources.read_catalogs(options["path"], options)
    attrs = {key: options[key] for key in ("freq_ghz", "spectral_index")} | catalog.attrs
    attrs["provenance"] = provenance.job_record(job)
    store.write(job.output.catalog, attrs=attrs, frames={"catalog": ("catalog", catalog)})


logs.run_job(snakemake, main)
