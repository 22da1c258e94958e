"""The commands of ``sotrp``: options, help and exit status; what they do is in the modules beside this one.

Those are imported where they are needed, so that help and the completion of the shell come at once.
"""

import os
import shutil
import sys
from contextlib import ExitStack
from pathlib import Path

import click

from sotrplib import __version__, configuration
from sotrplib.cli import engine
from sotrplib.cli.plotting import plot

EXISTING = click.Path(exists=True, dir_okay=False)
RESULTS = "results"
CATALOG = "results/catalogs/catalog.h5"
EXIT_STATUS = """\b
Exit status:
  0  all is well
  1  the run failed, or some of its maps did (the rest is finished);
     a file cannot be read, or holds nothing of what is asked for;
     `convert`: some options of the old configuration have no counterpart
  2  wrong usage, or a configuration that does not fit; nothing was run"""
SHELLS = """\b
Completion of commands and options, in ~/.bashrc (zsh and fish alike, with their names):
  eval "$(_SOTRP_COMPLETE=bash_source sotrp)"
"""


class _DefaultRun(click.Group):
    """Group in which ``sotrp -c CONFIG`` means ``sotrp run -c CONFIG``, and whose errors of use are all alike."""

    def parse_args(self, context, args):
        own = {name for option in self.get_params(context) for name in option.opts}
        if args and args[0].startswith("-") and args[0] not in own:
            args = ["run", *args]
        return super().parse_args(context, args)


@click.group(
    cls=_DefaultRun,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=f"{EXIT_STATUS}\n\n{SHELLS}",
)
@click.version_option(__version__, prog_name="sotrp")
def main():
    """From depth-1 maps to one catalogue of sources, light curves and transient candidates.

    `sotrp -c CONFIG` checks a configuration and runs the workflow in this folder; it is short for `sotrp run`.
    """


@main.command(epilog=EXIT_STATUS)
@click.option("-c", "--config", required=True, type=EXISTING, help="Configuration, YAML or JSON.")
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be done and why.")
@click.option("--cores", metavar="N", help="Cores of this machine to use.  [default: all]")
@click.option(
    "--runner",
    type=click.Choice(engine.RUNNERS),
    default="basic",
    envvar=["sotrp_runner", "SOTRP_RUNNER"],
    show_envvar=True,
    show_default=True,
    help="basic: this machine. prefect: this machine, shown on a Prefect server. slurm: one job a map on a cluster.",
)
@click.option("--data-dir", type=click.Path(exists=True, file_okay=False), help="Replaces {data_dir} in paths.")
@click.option("--live/--no-live", default=True, help="On a terminal: bars by stage, or Snakemake's messages.")
@click.argument("snakemake", nargs=-1, type=click.UNPROCESSED, metavar="[-- SNAKEMAKE ...]")
def run(config, runner, *, dry_run, cores, data_dir, live, snakemake):
    """Check a configuration and run the workflow in this folder.

    Results go to ./results. A run that was stopped goes on where it was, and what is up to date is left alone.
    Anything after -- goes to Snakemake: options (`-- --forceall`) and targets (`-- recovery`).
    """
    _refuse_commands(snakemake)
    _resolve(config, data_dir)
    values = {"data_dir": data_dir} if data_dir else {}
    loggers = ["sotrp"] if live and not dry_run and engine.is_installed("rich") else []
    how = {"cores": cores, "dry_run": dry_run, "values": values, "more": snakemake, "loggers": loggers}
    if runner == "prefect" and not dry_run:
        sys.exit(_run_shown(config, how))
    sys.exit(engine.run(engine.arguments(config, runner=runner, **how)))


def main_prefect():
    """`sotrp-prefect`: `sotrp` with the runner prefect, unless --runner says otherwise."""
    os.environ.pop("sotrp_runner", None)
    os.environ["SOTRP_RUNNER"] = "prefect"
    main(prog_name="sotrp-prefect")


@main.command(epilog=EXIT_STATUS)
@click.argument("config", type=EXISTING)
@click.option("--data-dir", type=click.Path(exists=True, file_okay=False), help="Replaces {data_dir} in paths.")
def validate(config, data_dir):
    """Check a configuration; every mistake is named with its key and its cure.

    Files that it names and this machine lacks are listed; they stop a run, but do not make the configuration wrong.
    """
    resolved = _resolve(config, data_dir)
    click.echo(f"{config}: fits")
    named = [("maps.table", resolved["maps"]["table"])] if resolved["maps"]["kind"] == "table" else []
    for key, path in [*named, *configuration.list_files(resolved)]:
        if not (path.startswith(f"{RESULTS}/") or Path(path).exists() or (engine.workflow_folder() / path).exists()):
            click.echo(f"  not on this machine: {key}: {path}")


@main.command(epilog=EXIT_STATUS)
@click.option("-c", "--config", type=EXISTING, help="Count the maps of this configuration, those not begun included.")
@click.option("--data-dir", type=click.Path(exists=True, file_okay=False), help="Replaces {data_dir} in paths.")
def status(config, data_dir):
    """How far the maps of this folder are, and which of them failed and why. Works during a run."""
    from sotrplib.cli import progress

    try:
        ids = engine.list_map_ids(_resolve(config, data_dir)) if config else progress.find_maps(RESULTS)
        states = progress.map_states(RESULTS, ids)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    if not states:
        raise click.ClickException(f"no maps under ./{RESULTS}; name a configuration with -c, or run one")
    click.echo(progress.describe(states))
    sys.exit(int(any(one.state == "failed" for one in states)))


@main.command(epilog=EXIT_STATUS)
@click.option(
    "--against", type=click.Path(exists=True, file_okay=False), help="Folder of an earlier run, to compare with."
)
def times(against):
    """What the jobs of this folder took, by rule: time, memory, bytes read and written; or beside an earlier run."""
    from sotrplib.report import resources

    folders = [Path(RESULTS), *([Path(against, RESULTS)] if against else [])]
    runs = [resources.read_benchmarks(folder / "benchmarks") for folder in folders]
    for folder, jobs in zip(folders, runs, strict=True):
        if not jobs:
            raise click.ClickException(f"{folder}/benchmarks: holds no times of jobs; name the folder of a run")
    click.echo(resources.compare(*runs) if against else resources.describe(*runs), nl=False)


@main.command(epilog=EXIT_STATUS)
@click.argument("path", type=EXISTING)
@click.argument("table", required=False)
@click.option("--rows", default=20, show_default=True, metavar="N", help="Rows to print; 0 for all.")
@click.option("--columns", default="", metavar="A,B", help="Only these columns, in this order.")
def show(path, table, rows, columns):
    """Show what one of the workflow's HDF5 files holds, or one TABLE of it with its units."""
    from sotrplib.cli import contents

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    view = contents.View(rows, tuple(filter(None, columns.split(","))), width)
    try:
        text = contents.describe_file(path, view) if table is None else contents.describe_table(path, table, view)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    click.echo(text)


@main.command("convert", epilog=EXIT_STATUS)
@click.argument("old", type=EXISTING)
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="File to write.  [default: OLD with .yaml]")
@click.option("--force", is_flag=True, help="Write over files that exist.")
def convert_command(old, output, force):
    """Turn a configuration of the original sotrplib (JSON) into one of ours.

    Tells of every option where it went, why it is not needed, or that it is refused and what to do instead.
    Listed maps become a map table, PREFIX_maps.csv, beside the configuration.
    """
    from sotrplib import convert

    output = Path(output) if output else Path(old).with_suffix(".yaml")
    try:
        result = convert.convert_file(old, output, schema=engine.load_schema())
        files = convert.write(result, output, overwrite=force)
    except convert.ConvertError as error:
        _stop(error)
    click.echo(convert.describe(result.notes))
    click.echo("\n".join(f"wrote {path}" for path in files))
    sys.exit(int(any(note.verdict == convert.REFUSED for note in result.notes)))


main.add_command(plot)


@main.command("demo-summary")
def demo_summary():
    """Where the catalogue of the simulated nights is, and what was found beside what was injected."""
    from sotrplib import store, truth

    try:
        tables = {name: store.read_table(CATALOG, name) for name in ("sources", "candidates", "source_bands")}
    except store.StoreError as error:
        raise click.ClickException(str(error)) from error
    found = truth.compare_with_truth(truth.read_truth("results/simulated/truth.h5"), tables)
    click.echo(found.to_string(index=False, na_rep="-", float_format=lambda value: f"{value:.1f}"))
    for name, path in (("catalogue", CATALOG), ("exports", "results/exports/"), ("report", "results/report.html")):
        click.echo(f"{name:>10}: {path}")


def _resolve(path, data_dir):
    """Complete configuration at ``path``, or stop with the list of its mistakes."""
    from sotrplib import convert

    try:
        config = configuration.read_config(path)
        if convert.is_old(config):
            raise configuration.ConfigError(
                f"is a configuration of the original sotrplib; convert it: sotrp convert {path}"
            )
        return configuration.resolve(config | ({"data_dir": data_dir} if data_dir else {}), engine.load_schema())
    except configuration.ConfigError as error:
        _stop(f"{path}: {error}")


def _run_shown(config, how):
    """Exit status of the workflow, shown on a Prefect server; without one it runs all the same."""
    from sotrplib.cli import dashboard

    if not engine.is_installed("prefect"):
        raise click.UsageError("Prefect is not installed: pip install 'sotrplib[prefect]', or another --runner")
    with ExitStack() as stack:
        try:
            url = stack.enter_context(dashboard.server())
        except dashboard.ServerError as error:
            click.echo(f"Prefect: {error}; the run goes on without being shown", err=True)
        else:
            shown = ["--logger-prefect-api-url", url, "--logger-prefect-flow", "sotrp"]
            shown += ["--logger-prefect-parameters", config]
            how = how | {"more": [*shown, *how["more"]], "loggers": [*how["loggers"], "prefect"]}
        return engine.run(engine.arguments(config, **how))


def _stop(message):
    click.echo(message, err=True)
    sys.exit(2)


def _refuse_commands(words):
    found = [word for word in words if word in main.commands]
    if found:
        raise click.UsageError(f"{found[0]} is a command, not a target: give it first, as in sotrp {found[0]} ...")
