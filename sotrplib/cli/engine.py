"""Where the workflow is, and how Snakemake is started on it: the only module that imports Snakemake."""

import sys
from importlib.util import find_spec
from pathlib import Path

from sotrplib import configuration, mapindex, snapshots

PACKAGE = Path(__file__).resolve().parents[1]
PLUGINS = PACKAGE / "plugins"
RUNNERS = ("basic", "prefect", "slurm")


def workflow_folder():
    """Folder of the Snakefile: the one inside an installed package, else the checkout that the package is in."""
    carried = PACKAGE / "_workflow"
    return carried if carried.is_dir() else PACKAGE.parent


def load_schema():
    """Schema of the configuration."""
    return configuration.read_yaml(workflow_folder() / "config" / "schemas" / "config.schema.yaml")


def arguments(config, *, runner="basic", cores=None, dry_run=False, loggers=(), values=None, more=()):
    """Arguments that start Snakemake on this workflow.

    Parameters
    ----------
    config : path
        The user's configuration.
    runner : {"basic", "prefect", "slurm"}
        ``slurm`` takes its resources from profiles/slurm.
    cores : str, optional
        As ``--cores``; without it all of this machine, or what the profile says.
    dry_run : bool
    loggers : sequence of str
        Names of logger plugins in place of Snakemake's own messages.
    values : dict, optional
        Keys of the configuration and their values.
    more : sequence of str
        The user's own arguments; they come last, so an option given twice is the user's.

    Returns
    -------
    list of str
    """
    folder = workflow_folder()
    made = ["--snakefile", folder / "Snakefile", "--configfile", config]
    made += ["--logger", *loggers] if loggers else []
    made += ["--dry-run"] if dry_run else []
    made += ["--profile", folder / "profiles" / "slurm"] if runner == "slurm" else []
    made += ["--cores", cores or "all"] if cores or runner != "slurm" else []
    return [*map(str, made), *_with_values(list(more), values or {})]


def _with_values(more, values):
    """The user's arguments with ``--config key=value``, in the user's own such option if there is one."""
    given = [f"{key}={value}" for key, value in values.items()]
    place = next((n for n, word in enumerate(more) if word in ("--config", "-C")), None)
    if not given or place is None:
        return [*more, *(["--config", *given] if given else [])]
    return [*more[: place + 1], *given, *more[place + 1 :]]


def run(arguments):
    """Exit status of Snakemake, run in this process and folder."""
    _find_plugins()
    from snakemake.cli import main

    try:
        main(arguments)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


def _find_plugins():
    """Make our logger plugins known to Snakemake where they are in a checkout; a wheel has them at its top."""
    if PLUGINS.is_dir() and str(PLUGINS) not in sys.path:
        sys.path.append(str(PLUGINS))


def is_installed(package):
    """Whether a package can be imported."""
    return find_spec(package) is not None


def list_map_ids(config):
    """Names of the maps that a resolved configuration selects.

    Raises
    ------
    ValueError
        If the map table or directory, or what the last run read from mapcat, is missing or cannot be used.
    """
    options = config["maps"]
    if options["kind"] == "directory":
        rows = mapindex.discover_depth1(options["directory"], options["instrument"])
    elif options["kind"] == "mapcat":
        rows = mapindex.read_map_table(snapshots.MAPS)  # as the last run read it
    else:
        shipped = workflow_folder() / options["table"]
        table = shipped if shipped.exists() and not Path(options["table"]).exists() else options["table"]
        rows = mapindex.read_map_table(table, config["data_dir"])
    return [row["map_id"] for row in mapindex.select(rows, options["select"])]
