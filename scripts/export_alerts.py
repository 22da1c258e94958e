"""Write alerts of the confirmed candidates not announced before, and send them if the configuration says how."""

from sotrplib import alerts, logs, store


def main(job):
    tables = (store.read_table(job.input.candidates, name) for name in ("candidates", "measurements"))
    issued = alerts.issue(*tables, job.params.options)
    with store.atomic_path(job.output.alerts) as temporary:
        issued.to_csv(temporary, index=False, lineterminator="\n")


logs.run_job(snakemake, main)
