# Everything in Python that the rules need: the checked configuration, the list of maps, input functions, targets.

import gc
import os
import time
from functools import cache
from pathlib import Path

from sotrplib import (
    beams,
    configuration,
    digests,
    mapgroups,
    mapindex,
    periods,
    provenance,
    snapshots,
    stages,
    versions,
)

START = time.time()
is_made = mapindex.is_made
STAGES = stages.NAMES
gc.set_threshold(50_000)  # the engine's objects live to its end: looking for garbage was a fifth of a large dry run
# Scripts import the library beside this workflow, whatever else is installed; an installed workflow is inside its library.
BESIDE = Path(workflow.basedir, "sotrplib").is_dir()
os.environ.update(PYTHONPATH=workflow.basedir if BESIDE else str(provenance.package_folder().parent))


wildcard_constraints:
    map_id=mapindex.MAP_ID,


def locate(path):
    """Path of a file that is in the working directory or, if it is not there, comes with the workflow."""
    shipped = Path(workflow.basedir, path)
    return str(shipped) if shipped.exists() and not Path(path).exists() else path


def load_schema():
    """The schema of the configuration."""
    return configuration.read_yaml(Path(workflow.basedir, "config", "schemas", "config.schema.yaml"))


def list_maps(options):
    """Rows of the map table, of a directory of depth-1 maps or of mapcat, by map_id."""
    if options["kind"] == "directory":
        rows = mapindex.discover_depth1(options["directory"], options["instrument"])
    elif options["kind"] == "mapcat":
        rows = mapindex.read_map_table(snapshots.read_maps(options))
    else:
        rows = mapindex.read_map_table(locate(options["table"]), config["data_dir"])
        mapindex.check_roots(rows, [config["data_dir"], *options["roots"]], options["table"])
    selected = mapindex.select(rows, options["select"])
    if not selected:
        source = options["directory"] or options["table"]
        raise ValueError(f"{source}: {len(rows)} maps, none of them selected; see maps.select in config/README.md")
    return {row["map_id"]: row for row in selected}


def require_files(files):
    """Stop if a file that the configuration names by a key does not exist: its jobs might not even run again."""
    for key, path in files:
        if path and not is_made(path) and not Path(path).exists():
            raise configuration.ConfigError(f"{key}: {path} does not exist; correct the path")


config.update(snapshots.use_sources(configuration.resolve(config, load_schema())))
os.environ.update(SOTRP_LOG_LEVEL=config["log_level"])  # no parameter: what is said does not change what is made
require_files(configuration.list_files(config))
LISTED = list_maps(config["maps"])
SEALED = config["maps"]["sealed"]
periods.require_complete(LISTED, SEALED)
SEALED_FILES = [f"{periods.FOLDER}/{period}.h5" for period in SEALED]  # finished for good: no rule makes them again


def still_open(ids):
    """Those maps, or searches of several of them, that are not of a sealed period: a mapping by their ids."""
    return {map_id: value for map_id, value in ids.items() if not periods.is_in(map_id, SEALED)}


MAPS = still_open(LISTED)
# Maps whose stages are jobs of their own; a pattern, and not ruleorder, which plans the jobs of both and drops one.
APART = config["maps"]["stages"] == "apart"
APART_ID = mapindex.MAP_ID if APART else mapgroups.COADD_ID
APART_SINGLE_ID = mapgroups.SINGLE_ID if APART else "(?!)"  # none
INSTRUMENTS = locate(config["instruments"])
COADDS = mapgroups.coadds(LISTED.values(), config["coadd_maps"])
OBSERVATIONS = mapgroups.observations(LISTED.values(), config["search_jointly"]["gap_s"])
JOINT_THREADS = 1 if len(OBSERVATIONS) > 1 else 2  # observations side by side use cores better than one of them can
CHANGING = LISTED if config["search_difference"]["enabled"] else {}
DIFFERENCES = mapgroups.differences(CHANGING, OBSERVATIONS, config["search_difference"])
DIFFERENCE_SECTIONS = ("search_difference", "coadd_maps", "find_sources", "forced_photometry", "sift_candidates")
JOINT_SECTIONS = ("search_jointly", "coadd_maps", "find_sources", "forced_photometry", "sift_candidates")
COADD_OPTIONS = ("correct_pointing", "moving_mask_arcmin", "flatfield_tile_deg", "flatfield_clip_sigma")


# Files from outside are inputs whose time stamps do not count (`ancient`); a digest of their bytes among the
# parameters makes a job run again, or for maps, too many to be read by each plan, which version of them there is.
# Simulated files are made by rules and followed like any other output.


def dated(paths):
    """Those files that exist and are not dated into the future: Snakemake takes no output older than an input."""
    return [path for path in paths if os.path.exists(path) and os.stat(path).st_mtime <= START]


def dated_of(files):
    """Function of the wildcards that gives those of the files of an input function that :func:`dated` gives."""
    return lambda wildcards: dated(files(wildcards))


def from_outside(paths):
    """Input files of a rule that come from outside."""
    return ancient(dated(outside(paths)))


def map_row(wildcards):
    """Row of the map table."""
    if wildcards.map_id not in LISTED:
        raise ValueError(
            f"{wildcards.map_id}: no such map in the map table or directory; known: {list(LISTED)[:5]} ..."
        )
    return LISTED[wildcards.map_id]


def labels_of(wildcards):
    """What Snakemake's report says of a map in its columns."""
    _, array, band, _ = wildcards.map_id.split("_")
    return {"array": array, "band": band, "map_id": wildcards.map_id}


def band_of(wildcards):
    """Band of a map, by which Snakemake's report groups them."""
    return labels_of(wildcards)["band"]


def named_files(wildcards):
    row = map_row(wildcards)
    return [row[key] for key in mapindex.PATHS if row[key]]


def given_files(wildcards):
    """Files of a map that come from outside and exist: a missing one fails its map, not the run."""
    return dated(mapindex.outside_files(map_row(wildcards)))


def made_files(wildcards):
    """Files of a map that a rule makes."""
    return [path for path in named_files(wildcards) if is_made(path)]


def map_version(wildcards):
    """Which version of a map's files from outside there is; their bytes are read for it only if they are new."""
    map_id, paths = wildcards.map_id, mapindex.outside_files(map_row(wildcards))
    of_it = [f"results/{stage}/{map_id}.h5" for stage in ("preprocessed", "recovery")]
    return versions.map_version(map_id, paths, config["maps"]["digest"], made=lambda: any(map(os.path.exists, of_it)))


@cache
def file_digest(path):
    """Digest of the bytes of one file from outside that many jobs share; empty for a file that a job makes."""
    return "" if is_made(path) else digests.shared_digest(path)


def file_digests(paths):
    """Digests of files from outside that many jobs share. Not a function of `input`: Snakemake compares none of those."""
    return [file_digest(path) for path in outside(paths)]


def digests_of(files):
    """Function of the wildcards that gives the digests of the files which an input function names."""
    return lambda wildcards: file_digests(files(wildcards))


def code(rule):
    """Digest of the library's modules that a rule's script imports, so that an edit runs what uses them again."""
    return provenance.code_digest(Path(workflow.basedir, "scripts", f"{rule}.py"))


@cache
def instruments():
    return beams.load_instruments(INSTRUMENTS)


def own_beam(wildcards):
    """What the configuration says of the beam of a map's band, as a dict of one or no entry."""
    band = map_row(wildcards)["band"]
    return {band: config["beams"][band]} if band in config["beams"] else {}


def beam_files(wildcards):
    """Beam profile of a map's band, if it has one; a band that is not known fails its map, not the run."""
    row = map_row(wildcards)
    try:
        band = beams.band_info(instruments(), row["instrument"], row["array"], row["band"], own_beam(wildcards))
    except beams.BeamError:
        return []
    return outside([band.profile_path])


def simulate_files(wildcards):
    """Files from outside that the simulation of a map reads."""
    return beam_files(wildcards) + outside(GEOMETRY_FILES)


def masked_files(wildcards):
    """Beam profile and masks of a map."""
    return beam_files(wildcards) + outside(config["preprocess_map"][f"{name}_mask"] for name in MASKS)


def filter_files(wildcards):
    """Files from outside that the filtering of a map reads besides the map itself."""
    return masked_files(wildcards) + outside(MASKED_FILES)


def filter_made_files(wildcards):
    """Files that rules make and the filtering of a map reads, the map itself among them."""
    return made_files(wildcards) + [path for path in MASKED_FILES if is_made(path)]


def outside(paths):
    """Those of the paths that are given and do not come from a rule."""
    return [path for path in paths if path and not is_made(path)]


def attempt_number(wildcards, attempt):
    """How often Snakemake has tried a job, this time included; see sotrplib/tries.py."""
    return attempt


def params_of_stages(wildcards):
    """Parameters of the rules of all stages of a map, by rule."""
    given = {stage: getattr(rules, stage).params for stage in STAGES}
    return {
        stage: {name: value(wildcards) if callable(value) else value for name, value in params.items()}
        for stage, params in given.items()
    }


def scripts_of_stages():
    """Digests of the scripts of all stages of a map: Snakemake itself follows only the script of a rule."""
    return [digests.file_digest(Path(workflow.basedir, "scripts", f"{stage}.py")) for stage in STAGES]


def files_of_all(stage):
    """Files of one stage for all maps."""
    return [f"results/{stage}/{map_id}.h5" for map_id in MAPS]


def every(stage):
    """Function that gives the files of one stage for all maps: rules that do not run never list them."""
    return lambda wildcards: files_of_all(stage)


def members(stage):
    """Function of the wildcards that gives the files of one stage for the maps of a coadd."""
    return lambda wildcards: [f"results/{stage}/{map_id}.h5" for map_id in COADDS[wildcards.map_id].members]


def time_span():
    """First and last time in the map_ids, unix seconds."""
    times = [int(map_id.rsplit("_", 1)[1]) for map_id in LISTED]
    return [min(times), max(times)]


def sky_files():
    """Maps whose place on the sky says which sources socat is asked for: those from outside, those made, and all."""
    if config["catalog"]["kind"] != "socat" or config["catalog"]["socat"]["region"] == "sky" or config["maps"]["box"]:
        return {"given": [], "made": [], "all": []}
    paths = [row["map_path"] for row in LISTED.values()]
    given = [path for path in outside(paths) if Path(path).exists()]
    return {"given": given, "made": [path for path in paths if is_made(path)], "all": paths}


def services():
    """What is written to the services that the configuration names."""
    mapcat = config["maps"]["kind"] == "mapcat" and config["maps"]["mapcat"]["write_back"]
    names = ["mapcat"] * mapcat + ["lightcurvedb"] * config["write_lightcurvedb"]["enabled"]
    return [f"results/services/{name}.txt" for name in names]


def observed(stage):
    """Function of the wildcards that gives the files of one stage for the maps of an observation."""
    return lambda wildcards: [f"results/{stage}/{map_id}.h5" for map_id in OBSERVATIONS[wildcards.map_id]]


def changing(stage):
    """Function of the wildcards that gives the file of one stage for the map of a difference search."""
    return lambda wildcards: f"results/{stage}/{DIFFERENCES[wildcards.map_id].map_id}.h5"


def unchanged(stage):
    """Function of the wildcards that gives the files of one stage for the other epochs of that map."""
    return lambda wildcards: [f"results/{stage}/{map_id}.h5" for map_id in DIFFERENCES[wildcards.map_id].others]


def reference_path(wildcards):
    """Coadd that the map of a difference search is compared with; empty for the other epochs."""
    return DIFFERENCES[wildcards.map_id].reference


def made_references(wildcards):
    return [path for path in [reference_path(wildcards)] if path and is_made(path)]


def given_references(wildcards):
    return outside([reference_path(wildcards)])


def in_period(stage):
    """Function of the wildcards that gives the files of one stage for the maps of a period."""
    return lambda wildcards: [
        f"results/{stage}/{map_id}.h5" for map_id in MAPS if periods.is_in(map_id, [wildcards.period])
    ]


def searches_in_period(wildcards):
    """Files of the searches of several maps in a period."""
    return [path for path in SEARCHES if periods.is_in(Path(path).stem, [wildcards.period])]


def rows_in_period(wildcards):
    """Rows of the map table of a period."""
    rows = [row for row in MAPS.values() if periods.is_in(row["map_id"], [wildcards.period])]
    if not rows:
        raise ValueError(f"results/periods/{wildcards.period}.h5: no map of the map table is of that time, in UTC")
    return rows


def exports(formats):
    """Files of the exported tables."""
    suffixes = {"parquet": "parquet", "csv": "csv", "fits": "fits", "pickle": "pkl", "json": "json", "votable": "vot"}
    names = {form: ("measurements", "sources", "candidates", "counterparts", "maps") for form in suffixes}
    suffixes |= {"ds9": "reg", "aladin": "html", "original": "pickle"}
    names |= {"ds9": ("sources", "candidates"), "aladin": ("sources", "candidates"), "original": ("measured_sources",)}
    return [f"results/exports/{name}.{suffixes[form]}" for form in formats for name in names[form]]


CATALOG_PATH = config["catalog"]["path"]
CATALOG_INPUT = CATALOG_PATH if is_made(CATALOG_PATH) else from_outside([CATALOG_PATH])
EPHEMERIDES = config["ephemerides"]
GEOMETRY_FILES = [config["simulate"][key] for key in ("geometry_map", "time_map") if config["simulate"][key]]
MASKS = ("galaxy", "extra", "noise")
MOVING_FILES = [*EPHEMERIDES["kernels"], EPHEMERIDES["elements"], *EPHEMERIDES["tables"]]
if config["preprocess_map"]["asteroid_mask_radius_arcmin"]:  # all that moves is masked, or the planets alone
    MASKED, MASKED_FILES = EPHEMERIDES, MOVING_FILES
else:
    MASKED = {key: EPHEMERIDES[key] for key in ("planets", "kernels")}
    MASKED_FILES = MASKED["kernels"] if MASKED["planets"] else []
SKY_FILES = sky_files()
CLAIMED = "results/services/claimed.txt"
EXTERNAL_FILES = [entry["path"] for entry in config["confirm_candidates"]["external_catalogs"]]
EXPORTS = exports(config["export_catalogs"]["formats"])
TABLES_SHOWN = [path for path in EXPORTS if Path(path).name in ("candidates.csv", "maps.csv")]
MAP_FIELDS = [f"results/exports/maps/{{map_id}}_{field}.fits" for field in config["export_map"]["fields"]]
MAP_EXPORTS = [path.format(map_id=map_id) for map_id in MAPS for path in MAP_FIELDS]
COADDED = [
    f"results/sifted/{map_id}.h5" for map_id, coadd in COADDS.items() if still_open(dict.fromkeys(coadd.members))
]
ALWAYS_EXPORTED = MAP_EXPORTS if config["export_map"]["every_run"] else []
STACKED = config["stack_sources"]["positions"]
STACKS = ["results/stacks/stacks.h5"] if STACKED else []
SEARCHES = []  # files of detections in several maps together
if config["search_jointly"]["enabled"]:
    SEARCHES += [f"results/joint/{map_id}.h5" for map_id, ids in still_open(OBSERVATIONS).items() if len(ids) > 1]
SEARCHES += [f"results/difference/{map_id}.h5" for map_id in still_open(DIFFERENCES)]
if config["coadd_maps"]["add_candidates"]:
    periods.require_whole(COADDS, SEALED)
    SEARCHES += COADDED
# How well maps are measured is shown where it was asked for before, unless the configuration wants it of all or of none.
RECOVERY = {
    "all": files_of_all("recovery"),
    "made": [path for path in files_of_all("recovery") if Path(path).exists()],
    "none": [],
}[config["report"]["recovery"]]
CATALOGS = [
    "results/catalogs/catalog.h5",
    "results/lightcurves/lightcurves.h5",
    "results/run_config.yaml",
    "results/exports/alerts.csv",
    "results/report.html",
    *EXPORTS,
    *services(),
]
