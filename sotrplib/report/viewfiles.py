"""The files of :mod:`mapviews` as the page reads them: words and numbers of every map, pictures of some."""

import zlib
from dataclasses import dataclass, field

from sotrplib import geometry, plots, pointing, store


@dataclass(frozen=True, eq=False)
class MapView:
    """What the page shows of one map, and what it says of the instrument.

    ``pointing`` is the model of the map, ``extent`` of :func:`coverage.measure_extent`; ``images`` (data URIs) and
    ``figures`` (SVG, with what is said below them) are empty where the page shows a small image, ``thumbnail`` (data
    URI), or nothing; ``stamps`` are by candidate.
    """

    map_id: str
    warnings: list
    numbers: dict
    extent: dict | None
    shape_arcmin: tuple
    pointing: pointing.PointingModel
    masked: str = ""
    images: dict = field(default_factory=dict)
    figures: list = field(default_factory=list)
    stamps: dict = field(default_factory=dict)
    thumbnail: str = ""


def read_view(path):
    """What a file of a map says in words and numbers (MapView without images and figures), None of a failed map."""
    attrs = store.read_attrs(path)
    if attrs.get("status") == "failed":
        return None
    names = ("map_id", "warnings", "numbers", "extent", "shape_arcmin")
    return MapView(**{name: attrs[name] for name in names}, pointing=pointing.from_dict(attrs["pointing"]))


def read_in_full(path):
    """Fields of MapView of a map that the page shows in full."""
    attrs = store.read_attrs(path)
    pictures, figures = (store.read_arrays(path, group) for group in ("images", "figures"))
    images = {name: plots.to_uri(pictures[name].tobytes()) for name in ("snr", "flux", "flat") if name in pictures}
    svgs = {name: zlib.decompress(figure.tobytes()).decode() for name, figure in figures.items()}
    return {
        "masked": attrs["masked"],
        "images": images | attrs["levels"],
        "figures": [{"svg": svgs[name], "caption": caption} for name, caption in attrs["figures"]],
    }


def read_thumbnail(path):
    """Small image of the SNR of a map, a data URI."""
    return plots.to_uri(store.read_array(path, "images/thumbnail").tobytes())


def read_footprint(path):
    """Usable blocks of pixels of a map (ny, nx) bool, the pixels along a block, the WCS of the pixels."""
    attrs = store.read_attrs(path)
    return store.read_array(path, "footprint").astype(bool), attrs["factor"], geometry.text_to_wcs(attrs["wcs"])


def read_compared(path):
    """Forced and catalogue fluxes of the sources of a map that are measured well (table ``compared``)."""
    return store.read_table(path, "compared")
