"""Search the map, known sources taken out, for anything else."""

from sotrplib import logs, pointing, store, stripwise


def find(job):
    options = job.params.options
    model = pointing.from_dict(store.read_attrs(job.input.pointing)["pointing"])
    forced = store.read_table(job.input.forced, "forced") if options["subtract_known"] else None
    detections, arrays = stripwise.find(job.input.map, forced, model, options, job.params.strip_mpix)
    return {"frames": {"detections": ("detections", detections)}, "arrays": arrays}


logs.run_map_job(snakemake, find, schemas=("detections",))
