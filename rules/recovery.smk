# How well a map is measured: sources of known flux injected into copies of it and recovered. Not part of `all`.


rule measure_recovery:
    input:
        given=ancient(given_files),
        made=made_files,
        instruments=INSTRUMENTS,
        shared=ancient(dated_of(masked_files)),
        map="results/preprocessed/{map_id}.h5",
        pointing="results/pointing/{map_id}.h5",
        detections="results/detections/{map_id}.h5",
        catalog="results/inputs/catalog.h5",
    output:
        recovery="results/recovery/{map_id}.h5",
    log:
        "results/logs/measure_recovery/{map_id}.log",
    benchmark:
        "results/benchmarks/measure_recovery/{map_id}.tsv"
    conda:
        "../envs/sotrp.yaml"
    resources:
        attempt=attempt_number,
    params:
        row=map_row,
        box=config["maps"]["box"],
        box_margin_arcmin=config["maps"]["box_margin_arcmin"],
        beams=own_beam,
        seed=config["seed"],
        options=config["measure_recovery"],
        preprocess=config["preprocess_map"],
        photometry=config["forced_photometry"],
        search=config["find_sources"],
        version=map_version,
        digests=digests_of(masked_files),
        code=code("measure_recovery"),
    script:
        "../scripts/measure_recovery.py"
