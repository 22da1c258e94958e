# Maps together: coadds of groups of maps, which go through the same stages as maps do.


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
    params:
        options={key: config["coadd_maps"][key] for key in COADD_OPTIONS},
        spectral_index=lambda wildcards: COADDS[wildcards.map_id].spectral_index,
        code=code("coadd_maps"),
    script:
        "../scripts/coadd_maps.py"
