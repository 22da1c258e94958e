# What the maps hold besides the known sources, sorted into known, flare, transient, moving and noise.


rule find_sources:
    input:
        map="results/preprocessed/{map_id}.h5",
        pointing="results/pointing/{map_id}.h5",
        forced="results/forced_photometry/{map_id}.h5",
    output:
        detections="results/detections/{map_id}.h5",
    log:
        "results/logs/find_sources/{map_id}.log",
    benchmark:
        "results/benchmarks/find_sources/{map_id}.tsv"
    wildcard_constraints:
        map_id=APART_ID,
    conda:
        "../envs/sotrp.yaml"
    resources:
        attempt=attempt_number,
    params:
        options=config["find_sources"],
        strip_mpix=config["maps"]["strip_mpix"],
        code=code("find_sources"),
    script:
        "../scripts/find_sources.py"


rule sift_candidates:
    input:
        map="results/preprocessed/{map_id}.h5",
        pointing="results/pointing/{map_id}.h5",
        forced="results/forced_photometry/{map_id}.h5",
        detections="results/detections/{map_id}.h5",
        catalog="results/inputs/catalog.h5",
        shared=from_outside(MOVING_FILES),
        made=[path for path in MOVING_FILES if is_made(path)],
    output:
        sifted="results/sifted/{map_id}.h5",
    log:
        "results/logs/sift_candidates/{map_id}.log",
    benchmark:
        "results/benchmarks/sift_candidates/{map_id}.tsv"
    wildcard_constraints:
        map_id=APART_ID,
    conda:
        "../envs/sotrp.yaml"
    resources:
        attempt=attempt_number,
    params:
        options=config["sift_candidates"],
        strip_mpix=config["maps"]["strip_mpix"],
        ephemerides=EPHEMERIDES,
        digests=file_digests(MOVING_FILES),
        code=code("sift_candidates"),
    script:
        "../scripts/sift_candidates.py"
