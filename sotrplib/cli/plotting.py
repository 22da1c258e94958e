"""The commands of ``sotrp plot``: figures for papers and talks, and FITS images, from the results in this folder."""

from pathlib import Path

import click

FIELDS = ("snr", "flux", "flux_err")  # those of cli.figures.FIELDS, known here without its imports
OUTPUT = click.option(
    "-o", "--output", type=click.Path(dir_okay=False), help="File to write: .pdf, .png or .svg.  [default: a PDF here]"
)
IMAGE_OUTPUT = click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False),
    help="File to write: .pdf, .png or .svg, or .fits for the pixels with their coordinates.  [default: a PDF here]",
)
FIELD = click.option("--field", type=click.Choice(FIELDS), default="snr", show_default=True, help="What is shown.")


class _Box(click.ParamType):
    name = "RA_MIN,RA_MAX,DEC_MIN,DEC_MAX"

    def convert(self, value, param, ctx):
        try:
            numbers = [float(part) for part in value.split(",")]
            return dict(zip(("ra_min_deg", "ra_max_deg", "dec_min_deg", "dec_max_deg"), numbers, strict=True))
        except ValueError:
            self.fail(f"{value!r}; expected four numbers in degrees, as in 5,7,-12,-10", param, ctx)


@click.group()
def plot():
    """Figures of one source, one map or one place, as PDF, PNG or SVG; maps and places also as FITS images."""


@plot.command()
@click.argument("source")
@OUTPUT
def lightcurve(source, output):
    """Light curve of SOURCE, a source_id, candidate_id or name; what was not detected as 95 % upper limits."""
    _save(lambda figures: figures.draw_light_curve(source), output, f"lightcurve_{source}")


@plot.command("map")
@click.argument("map_id")
@click.option("--box", type=_Box(), help="Only this part, in degrees; RA_MIN > RA_MAX crosses RA 0.")
@FIELD
@IMAGE_OUTPUT
def map_command(map_id, box, field, output):
    """A filtered map, or the part of it in a box; masked pixels are grey."""
    if _is_fits(output):
        _write(lambda figures: figures.write_map(output, map_id, field, box), output)
    else:
        _save(lambda figures: figures.draw_map(map_id, field, box), output, f"map_{map_id}_{field}")


@plot.command()
@click.argument("map_id")
@click.argument("place")
@click.option("--size", "size_arcmin", type=float, default=20.0, show_default=True, help="Side in arcmin.")
@FIELD
@IMAGE_OUTPUT
def cutout(map_id, place, size_arcmin, field, output):
    """A filtered map around PLACE, which is RA,DEC in degrees (after -- if negative) or a source.

    A FITS image has the coordinates of the map as it came: its pointing offset, which is in the table `maps`, stays.
    """
    if _is_fits(output):
        _write(lambda figures: figures.write_cutout(output, map_id, field, place, size_arcmin), output)
    else:
        name = f"cutout_{map_id}_{place}_{field}"
        _save(
            lambda figures: figures.draw_cutout(map_id, field, figures.find_position(place), size_arcmin), output, name
        )


def _is_fits(output):
    return bool(output) and output.lower().endswith(".fits")


def _save(draw, output, name):
    """Draw a figure and write it."""
    from sotrplib import plots

    path = output or "".join(c if c.isalnum() or c in "+-._" else "_" for c in name) + ".pdf"
    if Path(path).suffix[1:].lower() not in plots.KINDS:
        raise click.BadParameter(
            f"{path}: expected a name that ends in {', '.join(plots.KINDS)}", param_hint="--output"
        )
    _write(lambda figures: plots.save(draw(figures), path), path)


def _write(write, path):
    """Call ``write`` with the module of the figures; what is wrong is said in one line."""
    from sotrplib.cli import figures

    try:
        write(figures)
    except (ValueError, KeyError) as error:
        raise click.ClickException(str(error.args[0] if error.args else error)) from error
    click.echo(f"wrote {path}")
