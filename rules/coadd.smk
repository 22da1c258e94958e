# Maps together: coadds of groups of maps, which go through the same stages as maps do, and searches of several maps
# whose detections join those of single maps in confirm_candidates; stacks at a list of positions.


rule coadd_maps:
    input:
        maps=members("preprocessed"),
        pointing=members("pointing"),
        forced=members("forced_photometry"),
        sifted=members("sifted"),
    output:
        map="results/preprocessed/{map_id}.h5",
    log:
        "results/logs/coadd_maps/{map_id}.log",
    benchmark:
        "results/benchmarks/coadd_maps/{map_id}.tsv"
    wildcard_constraints:
        map_id=mapgroups.COADD_ID,
    conda:
        "../envs/sotrp.yaml"
    resources:
        attempt=attempt_number,
    params:
        options={key: config["coadd_maps"][key] for key in COADD_OPTIONS},
        spectral_index=lambda wildcards: COADDS[wildcards.map_id].spectral_index,
        code=code("coadd_maps"),
    script:
        "../scripts/coadd_maps.py"


rule search_jointly:
    input:
        maps=observed("preprocessed"),
        pointing=observed("pointing"),
        forced=observed("forced_photometry"),
        sifted=observed("sifted"),
        catalog="results/inputs/catalog.h5",
        shared=from_outside(MOVING_FILES),
        made=[path for path in MOVING_FILES if is_made(path)],
    output:
        found="results/joint/{map_id}.h5",
    log:
        "results/logs/search_jointly/{map_id}.log",
    benchmark:
        "results/benchmarks/search_jointly/{map_id}.tsv"
    conda:
        "../envs/sotrp.yaml"
    threads: JOINT_THREADS
    resources:
        attempt=attempt_number,
    params:
        sections={name: config[name] for name in JOINT_SECTIONS},
        ephemerides=EPHEMERIDES,
        digests=file_digests(MOVING_FILES),
        code=code("search_jointly"),
    script:
        "../scripts/search_jointly.py"


rule search_difference:
    input:
        map=changing("preprocessed"),
        pointing=changing("pointing"),
        forced=changing("forced_photometry"),
        sifted=changing("sifted"),
        other_maps=unchanged("preprocessed"),
        other_pointing=unchanged("pointing"),
        other_forced=unchanged("forced_photometry"),
        other_sifted=unchanged("sifted"),
        reference=made_references,
        given=ancient(given_references),
        catalog="results/inputs/catalog.h5",
    output:
        found="results/difference/{map_id}.h5",
    log:
        "results/logs/search_difference/{map_id}.log",
    benchmark:
        "results/benchmarks/search_difference/{map_id}.tsv"
    conda:
        "../envs/sotrp.yaml"
    resources:
        attempt=attempt_number,
    params:
        sections={name: config[name] for name in DIFFERENCE_SECTIONS},
        reference=reference_path,
        digests=digests_of(given_references),
        code=code("search_difference"),
    script:
        "../scripts/search_difference.py"


rule stack_sources:
    input:
        maps=every("preprocessed"),
        pointing=every("pointing"),
        forced=every("forced_photometry"),
        sealed=ancient(SEALED_FILES),
        positions=from_outside([STACKED]),
        made=[STACKED] if is_made(STACKED) else [],
    output:
        stacks="results/stacks/stacks.h5",
    log:
        "results/logs/stack_sources.log",
    benchmark:
        "results/benchmarks/stack_sources.tsv"
    conda:
        "../envs/sotrp.yaml"
    params:
        options=config["stack_sources"],
        photometry=config["forced_photometry"],
        digests=file_digests([STACKED]),
        code=code("stack_sources"),
    script:
        "../scripts/stack_sources.py"
