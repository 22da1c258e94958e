# What the known sources say: where each map points, and how bright each source is in it.


rule fit_pointing:
    input:
        map="results/preprocessed/{map_id}.h5",
        catalog="results/inputs/catalog.h5",
    output:
        pointing="results/pointing/{map_id}.h5",
    log:
        "results/logs/fit_pointing/{map_id}.log",
    benchmark:
        "results/benchmarks/fit_pointing/{map_id}.tsv"
    wildcard_constraints:
        map_id=APART_ID,
    conda:
        "../envs/sotrp.yaml"
    resources:
        attempt=attempt_number,
    params:
        options=config["fit_pointing"],
        strip_mpix=config["maps"]["strip_mpix"],
        code=code("fit_pointing"),
    script:
        "../scripts/fit_pointing.py"


rule forced_photometry:
    input:
        map="results/preprocessed/{map_id}.h5",
        pointing="results/pointing/{map_id}.h5",
        catalog="results/inputs/catalog.h5",
    output:
        forced="results/forced_photometry/{map_id}.h5",
    log:
        "results/logs/forced_photometry/{map_id}.log",
    benchmark:
        "results/benchmarks/forced_photometry/{map_id}.tsv"
    wildcard_constraints:
        map_id=APART_ID,
    conda:
        "../envs/sotrp.yaml"
    resources:
        attempt=attempt_number,
    params:
        options=config["forced_photometry"],
        strip_mpix=config["maps"]["strip_mpix"],
        code=code("forced_photometry"),
    script:
        "../scripts/forced_photometry.py"
