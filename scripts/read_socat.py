"""Read the sources that socat knows on the sky of the maps, once; everything after this reads the snapshot."""

from sotrplib import logs, store
from sotrplib.connectors import footprints, socat


def main(job):
    options, box = job.params.options, job.params.box
    if options["region"] == "sky":
        boxes = [footprints.WHOLE_SKY]
    else:
        boxes = [box] if box else footprints.of_maps(job.params.maps, options["margin_arcmin"])
    tables = socat.read(socat.open_client(options["database"]), boxes, job.params.times)
    for path, table in zip((job.output.sources, job.output.moving), tables, strict=True):
        with store.atomic_path(path) as temporary:
            table.to_csv(temporary, index=False, lineterminator="\n")


logs.run_job(snakemake, main)
