"""Simulate one depth-1 map as it would come from a telescope."""

from sotrplib import beams, logs, simulate, truth


def main(job):
    row, options, seed = job.params.row, simulate.on_geometry(job.params.options), job.params.seed
    instruments = beams.load_instruments(job.input.instruments)
    band = beams.band_info(instruments, row["instrument"], row["array"], row["band"], job.params.beams)
    sky = truth.read_truth(job.input.truth)
    simulated = simulate.simulate_map(row, sky, band, beams.band_beam(band), options, seed)
    simulate.write_depth1(
        job.output.signal.removesuffix("_map.fits"),
        simulated,
        unit=row["unit"] or "uK",
        gain=float(row["gain"] or 1),
        polarisation=simulate.simulate_polarisation(simulated, options, seed),
    )


logs.run_job(snakemake, main)
