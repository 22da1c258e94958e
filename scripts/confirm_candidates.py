"""Join the detections of all maps into events, and measure each event in every map that covers it."""

from functools import partial

from sotrplib import association, catalogs, confirmation, counterparts, logs, movers, periods, revisits, store
from sotrplib.provenance import job_record


def main(job):
    options = job.params.options
    external = [counterparts.read_catalog(entry) for entry in options["external_catalogs"]]
    paths = periods.all_files(job.input)
    maps = catalogs.read_maps(paths["sifted"])
    lists = zip(paths["filtered"], paths["pointing"], paths["forced"], strict=True)
    files = dict(zip(maps["map_id"], (revisits.MapFiles(*own) for own in lists), strict=True))

    def recalled(name):
        return partial(revisits.measure_again, files, job.params.photometry, job.params.code, name)

    single, moving = (catalogs.read_stacked(paths["sifted"], name, maps) for name in ("sifted", "moving"))
    sifted = catalogs.add_searches(single, paths["searches"])
    events = association.associate(sifted, options)
    found = association.summarize(sifted, events, options)
    usable = maps[maps["status"] == "ok"]
    candidates, confirm = confirmation.confirm(found, None, usable, options, moving=moving, recalled=recalled)
    matches = counterparts.find(candidates, external, options)
    candidates = counterparts.choose(candidates, matches, options)
    blind = catalogs.blind_measurements(single, events[: len(single)], candidates)
    followed = movers.follow(moving, recalled("followed"), usable, options["moving_pos_err_max_arcsec"])
    measurements = catalogs.merge_measurements([confirm, blind, followed])
    frames = {"candidates": candidates, "measurements": measurements, "counterparts": matches}
    store.write(
        job.output.candidates,
        attrs={"provenance": job_record(job)},
        frames={name: (name, frame) for name, frame in frames.items()},
    )


logs.run_job(snakemake, main)
