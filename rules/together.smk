# All stages of a map in one job, in place of one each: their outputs, logs and scripts are the same. Coadds stay apart.


rule process_map:
    input:
        given=ancient(given_files),
        made=filter_made_files,
        instruments=INSTRUMENTS,
        shared=ancient(dated_of(filter_files)),
        catalog="results/inputs/catalog.h5",
        moving=from_outside(MOVING_FILES),
        moving_made=[path for path in MOVING_FILES if is_made(path)],
    output:
        preprocess_map="results/preprocessed/{map_id}.h5",
        fit_pointing="results/pointing/{map_id}.h5",
        forced_photometry="results/forced_photometry/{map_id}.h5",
        find_sources="results/detections/{map_id}.h5",
        sift_candidates="results/sifted/{map_id}.h5",
        view_map="results/views/{map_id}.h5",
        sheet=report(
            "results/figures/{map_id}.png",
            caption="captions/map.rst",
            category="Maps",
            subcategory=band_of,
            labels=labels_of,
        ),
    log:
        "results/logs/process_map/{map_id}.log",
        **{stage: f"results/logs/{stage}/{{map_id}}.log" for stage in STAGES},
    benchmark:
        "results/benchmarks/process_map/{map_id}.tsv"
    wildcard_constraints:
        map_id=mapgroups.SINGLE_ID,
    conda:
        "../envs/sotrp.yaml"
    resources:
        attempt=attempt_number,
    params:
        stages=params_of_stages,
        code=code("process_map"),
        scripts=scripts_of_stages(),
    script:
        "../scripts/process_map.py"
