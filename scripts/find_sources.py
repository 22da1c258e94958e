"""Search the map, known sources taken out, for anything else."""

from sotrplib import detection, logs, maps, photometry, pointing, revisits, store


def find(job):
    sky_map, options = maps.read_sky_map(job.input.map), job.params.options
    model = pointing.from_dict(store.read_attrs(job.input.pointing)["pointing"])
    unknown = sky_map
    if options["subtract_known"]:
        unknown = revisits.without_known(sky_map, store.read_table(job.input.forced, "forced"), model)
    detections = detection.find(sky_map, unknown.rho, options, model)
    arrays = photometry.cutout_arrays(unknown, detections, options["cutout_arcmin"], pointing=model)
    return {"frames": {"detections": ("detections", detections)}, "arrays": arrays}


logs.run_map_job(snakemake, find, schemas=("detections",))
