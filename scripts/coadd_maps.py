"""Sum the maps of a group into a map of the same kind."""

from sotrplib import coadd, coadd_members, logs, maps, preprocessing


def add_up(job):
    stages = (job.input.maps, job.input.pointing, job.input.forced, job.input.sifted)
    files = [coadd_members.MemberFiles(*paths) for paths in zip(*stages, strict=True)]
    return coadd.coadd_maps(files, job.wildcards.map_id, job.params.options, job.params.spectral_index)


def write(path, result, attrs):
    sky_map, arrays, members, own = result
    frames = {"members": ("coadd_members", members)}
    attrs = attrs | own | preprocessing.summarize(sky_map)
    maps.write_sky_map(path, sky_map, attrs, more_arrays=arrays, frames=frames)


logs.run_map_job(snakemake, add_up, write=write, required=())
