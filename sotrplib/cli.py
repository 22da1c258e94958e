"""The ``sotrp`` command: run the workflow, check a configuration, look into its files.

Exit status: 0 all is well; 1 the run failed, or some maps did (the rest is finished); 2 wrong usage or a
configuration that does not fit.
"""

import sys
from pathlib import Path

import click

from sotrplib import __version__, configuration, store

ROOT = Path(__file__).resolve().parent.parent
CATALOG = "results/catalogs/catalog.h5"


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sotrp")
@click.option("-c", "--config", type=click.Path(exists=True, dir_okay=False), help="Configuration, YAML or JSON.")
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be done and why.")
@click.option("--cores", default="all", show_default=True, help="Cores of this machine to use.")
@click.option("--runner", type=click.Choice(["basic", "slurm"]), default="basic", show_default=True)
@click.pass_context
def main(context, config, dry_run, cores, runner):
    """From depth-1 maps to one catalogue of sources, light curves and transient candidates.

    `sotrp -c CONFIG` checks the configuration and runs the workflow in this folder.
    """
    if context.invoked_subcommand is not None:
        return
    if config is None:
        raise click.UsageError("nothing to do: give a configuration with -c, or a command; see sotrp --help")
    _check(config)
    where = ["--profile", str(ROOT / "profiles" / "slurm")] if runner == "slurm" else ["--cores", cores]
    arguments = ["--snakefile", str(ROOT / "Snakefile"), "--configfile", config, *where]
    context.exit(_snakemake(arguments + (["--dry-run"] if dry_run else [])))


@main.command()
@click.argument("config", type=click.Path(exists=True, dir_okay=False))
def validate(config):
    """Check a configuration; every mistake is named with its key and its cure."""
    _check(config)
    click.echo(f"{config}: fits")


@main.command()
def status():
    """The maps of the last run, by state."""
    maps = _table("maps")
    for name, group in maps.groupby("status"):
        click.echo(f"{name}: {len(group)} maps")
    for row in maps[maps["status"] != "ok"].itertuples():
        click.echo(f"  {row.map_id}: {row.reason}")
    sys.exit(int((maps["status"] != "ok").any()))


@main.command()
@click.argument("path", type=click.Path(exists=True, dir_okay=False))
@click.argument("table", required=False)
@click.option("--rows", default=20, show_default=True, help="Rows to print; 0 for all.")
def show(path, table, rows):
    """Show what one of the workflow's HDF5 files holds, or one TABLE of it with its units."""
    try:
        click.echo(_describe_file(path) if table is None else _describe_table(path, table, rows))
    except store.StoreError as error:
        raise click.ClickException(str(error)) from error


@main.command("demo-summary")
def demo_summary():
    """Where the catalogue of the simulated nights is, and what was found beside what was injected."""
    from sotrplib import truth

    injected = truth.read_truth("results/simulated/truth.h5")
    found = truth.compare_with_truth(
        injected, {name: _table(name) for name in ("sources", "candidates", "source_bands")}
    )
    click.echo(found.to_string(index=False, na_rep="-", float_format=lambda value: f"{value:.1f}"))
    for name, path in (("catalogue", CATALOG), ("exports", "results/exports/"), ("report", "results/report.html")):
        click.echo(f"{name:>10}: {path}")


def _check(path):
    """Stop with the list of mistakes if the configuration at ``path`` does not fit on top of the defaults."""
    schema = configuration.read_yaml(ROOT / "config" / "schemas" / "config.schema.yaml")
    problems = configuration.find_problems(configuration.fill_defaults(configuration.read_yaml(path), schema), schema)
    if problems:
        click.echo("\n".join([f"{path}:", *(f"  {line}" for line in problems)]), err=True)
        sys.exit(2)


def _snakemake(arguments):
    """Exit status of Snakemake run in this process."""
    from snakemake.cli import main as run

    try:
        run(arguments)
    except SystemExit as stop:
        return stop.code or 0
    return 0


def _table(name):
    try:
        return store.read_table(CATALOG, name)
    except store.StoreError as error:
        raise click.ClickException(str(error)) from error


def _describe_file(path):
    attrs = [f"{name} = {value}" for name, value in store.read_attrs(path).items() if name != "provenance"]
    names = [f"{name} {shape}" for name, shape in store.list_contents(path).items() if shape is not None]
    return "\n".join([*attrs, *names])


def _describe_table(path, name, rows):
    frame = store.read_table(path, name)
    units = store.read_units(path, name)
    frame.columns = [f"{column} [{units[column]}]" if units[column] != "1" else column for column in frame.columns]
    shown = frame.head(rows) if rows else frame
    return f"{shown.to_string(index=False)}\n{len(shown)} of {len(frame)} rows"


if __name__ == "__main__":
    main()
