"""Search the maps of one observation together."""

from sotrplib import coadd_members, ephemerides, joint, logs, store


def search(job):
    def moving(*where):
        return ephemerides.positions_in_map(job.params.ephemerides, *where)

    sky = joint.Sky(store.read_table(job.input.catalog, "catalog"), store.read_attrs(job.input.catalog), moving)
    stages = (job.input.maps, job.input.pointing, job.input.forced, job.input.sifted)
    headers = [coadd_members.read_header(coadd_members.MemberFiles(*paths)) for paths in zip(*stages, strict=True)]
    sifted, members = joint.search(headers, job.wildcards.map_id, sky, job.params.sections)
    return {"frames": {"sifted": ("sifted_jointly", sifted), "members": ("coadd_members", members)}}


logs.run_map_job(snakemake, search, schemas={"sifted": "sifted_jointly", "members": "coadd_members"}, required=())
