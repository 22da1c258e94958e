"""Say which maps failed and why, after everything else was made; the exit status is 1 if there are any."""

import logging
import sys
from pathlib import Path

from sotrplib import logs, store, tries


def main(job):
    maps = store.read_table(job.input.catalog, "maps", columns=["map_id", "status", "reason"])
    failed = maps[maps["status"] != "ok"]
    summary = f"{len(maps)} maps, {len(failed)} of them failed"
    reasons = dict(zip(failed["map_id"], failed["reason"], strict=True))
    more = [*job.input.searches, *(path for path in job.input.views if Path(path).stem not in reasons)]
    others = {path: store.read_attrs(path) for path in more}
    reasons |= {path: attrs["reason"] for path, attrs in others.items() if attrs["status"] != "ok"}
    lines = [summary, *(f"  {name}: {reason}" for name, reason in reasons.items())]
    logging.info("\n".join(lines))
    if reasons:
        lines += ["The catalogue was made from the rest; see results/logs, by rule and map."]
        return "\n".join([*lines, *forget(reasons, Path(job.output.checked).parent)])
    with store.atomic_path(job.output.checked) as path:
        path.write_text(summary + "\n")
    return None


def forget(reasons, folder):
    given_up = {Path(name).stem: reason for name, reason in reasons.items() if tries.is_given_up(reason)}
    for map_id, reason in given_up.items():
        tries.forget(folder, map_id, reason)
    return [f"The same command tries {len(given_up)} of them again."] if given_up else []


sys.exit(logs.run_job(snakemake, main))
