"""Search a map for what the other epochs of its sky do not hold."""

from sotrplib import coadd_members, difference, logs, store

OWN = ("map", "pointing", "forced", "sifted")
OTHERS = ("other_maps", "other_pointing", "other_forced", "other_sifted")


def search(job):
    own = coadd_members.MemberFiles(*(job.input[name] for name in OWN))
    others = [coadd_members.MemberFiles(*paths) for paths in zip(*(job.input[name] for name in OTHERS), strict=True)]
    if job.params.reference:
        others = [coadd_members.MemberFiles(job.params.reference, "", "")]
    header, *references = (coadd_members.read_header(files) for files in (own, *others))
    sky = store.read_table(job.input.catalog, "catalog"), store.read_attrs(job.input.catalog)
    sifted, members, attrs = difference.search(header, references, sky, job.params.sections)
    frames = {"sifted": ("sifted", sifted), "members": ("coadd_members", members)}
    return {"attrs": attrs, "frames": frames}


SCHEMAS = {"sifted": "sifted", "members": "coadd_members"}
logs.run_map_job(snakemake, search, schemas=SCHEMAS, required=[snakemake.input[name] for name in OWN])
