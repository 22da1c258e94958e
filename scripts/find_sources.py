"""Search the map, known sources taken out, for anything else."""

from sotrplib import detection, logs, photometry, pointing, revisits, store, stripwise


def find(job):
    options = job.params.options
    sheet = stripwise.open_map(job.input.map, job.params.strip_mpix, photometry.reach_arcmin(options))
    model = pointing.from_dict(store.read_attrs(job.input.pointing)["pointing"])
    known = store.read_table(job.input.forced, "forced") if options["subtract_known"] else None

    def search(sky_map):
        unknown = sky_map if known is None else revisits.without_known(sky_map, known, model)
        detections = detection.find(sky_map, unknown.rho, options, model)
        return detections, photometry.cutout_arrays(unknown, detections, options["cutout_arcmin"], pointing=model)

    detections, arrays = stripwise.find(sheet, model, search)
    return {"frames": {"detections": ("detections", detections)}, "arrays": arrays}


logs.run_map_job(snakemake, find, schemas=("detections",))
