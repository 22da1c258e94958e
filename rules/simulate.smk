# A simulated sky: known sources, transients and a moving object, and the maps of the map table under results/simulated.


rule simulate_truth:
    input:
        objects=locate(config["simulate"]["objects"]),
        shared=from_outside(GEOMETRY_FILES),
    output:
        truth="results/simulated/truth.h5",
    log:
        "results/logs/simulate_truth.log",
    benchmark:
        "results/benchmarks/simulate_truth.tsv"
    conda:
        "../envs/sotrp.yaml"
    params:
        options=config["simulate"],
        seed=config["seed"],
        digests=file_digests(GEOMETRY_FILES),
        code=code("simulate_truth"),
    script:
        "../scripts/simulate_truth.py"


rule simulate_catalog:
    input:
        truth="results/simulated/truth.h5",
    output:
        catalog="results/simulated/catalog.csv",
        ephemeris="results/simulated/ephemeris.csv",
    log:
        "results/logs/simulate_catalog.log",
    benchmark:
        "results/benchmarks/simulate_catalog.tsv"
    conda:
        "../envs/sotrp.yaml"
    params:
        options=config["simulate"],
        seed=config["seed"],
        code=code("simulate_catalog"),
    script:
        "../scripts/simulate_catalog.py"


rule simulate_map:
    input:
        truth="results/simulated/truth.h5",
        instruments=INSTRUMENTS,
        shared=ancient(dated_of(simulate_files)),
    output:
        signal="results/simulated/{map_id}_map.fits",
        ivar="results/simulated/{map_id}_ivar.fits",
        time="results/simulated/{map_id}_time.fits",
        info="results/simulated/{map_id}_info.hdf",
    log:
        "results/logs/simulate_map/{map_id}.log",
    benchmark:
        "results/benchmarks/simulate_map/{map_id}.tsv"
    conda:
        "../envs/sotrp.yaml"
    params:
        row=map_row,
        options=config["simulate"],
        seed=config["seed"],
        beams=own_beam,
        digests=digests_of(simulate_files),
        code=code("simulate_map"),
    script:
        "../scripts/simulate_map.py"
