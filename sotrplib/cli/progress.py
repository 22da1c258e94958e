"""How far the maps of a run are, told from the files under ``results/``."""

from dataclasses import dataclass
from pathlib import Path

from sotrplib import store

STAGES = {
    "preprocessed": "preprocess_map",
    "pointing": "fit_pointing",
    "forced_photometry": "forced_photometry",
    "detections": "find_sources",
    "sifted": "sift_candidates",
    "views": "view_map",
}
STATES = {
    "merged": "in the catalogue",
    "sifted": "through all stages, not in the catalogue (coadds never are)",
    "started": "between two stages",
    "failed": "cannot be used",
    "waiting": "not begun",
}


@dataclass(frozen=True)
class MapState:
    """How far one map is: a name of ``STATES``, the last rule that is done, and why it failed."""

    map_id: str
    state: str
    rule: str = ""
    reason: str = ""


def find_maps(results):
    """Names of all maps that have any file of any stage below ``results``, sorted."""
    return sorted({path.stem for stage in STAGES for path in Path(results, stage).glob("[!.]*.h5")})


def map_states(results, map_ids):
    """State of each map.

    Parameters
    ----------
    results : path
    map_ids : list of str

    Returns
    -------
    list of MapState
    """
    catalog = Path(results, "catalogs", "catalog.h5")
    merged = set(store.read_table(catalog, "maps", columns=["map_id"])["map_id"]) if catalog.is_file() else set()
    merged_ns = catalog.stat().st_mtime_ns if merged else 0
    return [_map_state(Path(results), map_id, merged_ns if map_id in merged else 0) for map_id in map_ids]


def _map_state(results, map_id, merged_ns):
    paths = {stage: results / stage / f"{map_id}.h5" for stage in STAGES}
    done = [stage for stage, path in paths.items() if path.is_file()]
    if not done:
        return MapState(map_id, "waiting")
    last = done[-1]
    attrs = store.read_attrs(paths[last])
    if attrs.get("status") == "failed":
        return MapState(map_id, "failed", STAGES[last], attrs["reason"])
    if "sifted" not in done:
        return MapState(map_id, "started", STAGES[last])
    whole = paths["sifted"].stat().st_mtime_ns <= merged_ns  # the page alone needs the view
    return MapState(map_id, "merged" if whole else "sifted", STAGES[last])


def describe(states):
    """Text for people: how many maps are in each state, and which ones are not through."""
    counts = {name: sum(one.state == name for one in states) for name in STATES}
    lines = [f"{len(states)} maps"]
    lines += [f"  {name:<8}{counts[name]:>7}  {meaning}" for name, meaning in STATES.items() if counts[name]]
    odd = [one for one in states if one.state in ("failed", "started")]
    lines += [f"{one.map_id}: {_why(one)}" for one in odd]
    return "\n".join(lines)


def _why(one):
    return f"failed: {one.reason}" if one.state == "failed" else f"done with {one.rule}"
