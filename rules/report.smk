# What the run was and what came of it: the configuration, one page, and an exit status that tells of failed maps.


rule report:
    input:
        catalog="results/catalogs/catalog.h5",
        known="results/inputs/catalog.h5",
        maps=every("preprocessed"),
        pointing=every("pointing"),
        forced=every("forced_photometry"),
    output:
        page=report("results/report.html", category="Results"),
    params:
        options=config["report"],
        code=code("report"),
    log:
        "results/logs/report.log",
    benchmark:
        "results/benchmarks/report.tsv"
    conda:
        "../envs/sotrp.yaml"
    script:
        "../scripts/report.py"


rule dump_config:
    input:
        catalog="results/catalogs/catalog.h5",
    output:
        config="results/run_config.yaml",
    params:
        config=config,
        code=code("dump_config"),
    log:
        "results/logs/dump_config.log",
    benchmark:
        "results/benchmarks/dump_config.tsv"
    conda:
        "../envs/sotrp.yaml"
    script:
        "../scripts/dump_config.py"


rule check_maps:
    input:
        catalog="results/catalogs/catalog.h5",
        rest=CATALOGS,
    output:
        checked="results/maps_checked.txt",
    params:
        code=code("check_maps"),
    log:
        "results/logs/check_maps.log",
    benchmark:
        "results/benchmarks/check_maps.tsv"
    conda:
        "../envs/sotrp.yaml"
    script:
        "../scripts/check_maps.py"
