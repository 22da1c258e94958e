# All maps together: candidates confirmed or not, one catalogue, light curves, exports.


rule confirm_candidates:
    input:
        maps=every("preprocessed"),
        pointing=every("pointing"),
        forced=every("forced_photometry"),
        sifted=every("sifted"),
        sealed=ancient(SEALED_FILES),
        searches=SEARCHES,
        shared=from_outside(EXTERNAL_FILES),
        made=[path for path in EXTERNAL_FILES if is_made(path)],
    output:
        candidates="results/catalogs/candidates.h5",
    log:
        "results/logs/confirm_candidates.log",
    benchmark:
        "results/benchmarks/confirm_candidates.tsv"
    conda:
        "../envs/sotrp.yaml"
    threads: 2
    params:
        options=config["confirm_candidates"],
        photometry=config["forced_photometry"],
        digests=file_digests(EXTERNAL_FILES),
        sealed=[digests.shared_digest(path) for path in SEALED_FILES],
        code=code("confirm_candidates"),
    script:
        "../scripts/confirm_candidates.py"


rule merge_catalogs:
    input:
        forced=every("forced_photometry"),
        sifted=every("sifted"),
        sealed=ancient(SEALED_FILES),
        candidates="results/catalogs/candidates.h5",
    output:
        catalog="results/catalogs/catalog.h5",
    log:
        "results/logs/merge_catalogs.log",
    benchmark:
        "results/benchmarks/merge_catalogs.tsv"
    conda:
        "../envs/sotrp.yaml"
    params:
        options=config["merge_catalogs"],
        reference_ghz=config["catalog"]["freq_ghz"],
        code=code("merge_catalogs"),
    script:
        "../scripts/merge_catalogs.py"


rule build_lightcurves:
    input:
        catalog="results/catalogs/catalog.h5",
    output:
        lightcurves="results/lightcurves/lightcurves.h5",
    log:
        "results/logs/build_lightcurves.log",
    benchmark:
        "results/benchmarks/build_lightcurves.tsv"
    conda:
        "../envs/sotrp.yaml"
    params:
        options=config["build_lightcurves"],
        code=code("build_lightcurves"),
    script:
        "../scripts/build_lightcurves.py"


rule export_catalogs:
    input:
        catalog="results/catalogs/catalog.h5",
    output:
        [path for path in EXPORTS if path not in TABLES_SHOWN],
        [
            report(
                path,
                caption="captions/table.rst",
                category="Catalogue",
                labels={"table": Path(path).stem},
            )
            for path in TABLES_SHOWN
        ],
    log:
        "results/logs/export_catalogs.log",
    benchmark:
        "results/benchmarks/export_catalogs.tsv"
    conda:
        "../envs/sotrp.yaml"
    params:
        options=config["export_catalogs"],
        code=code("export_catalogs"),
    script:
        "../scripts/export_catalogs.py"


rule export_alerts:
    input:
        candidates="results/catalogs/candidates.h5",
    output:
        alerts="results/exports/alerts.csv",
    log:
        "results/logs/export_alerts.log",
    benchmark:
        "results/benchmarks/export_alerts.tsv"
    conda:
        "../envs/sotrp.yaml"
    params:
        options=config["export_alerts"],
        code=code("export_alerts"),
    script:
        "../scripts/export_alerts.py"


rule seal_period:
    input:
        maps=in_period("preprocessed"),
        pointing=in_period("pointing"),
        forced=in_period("forced_photometry"),
        detections=in_period("detections"),
        sifted=in_period("sifted"),
        searches=searches_in_period,
    output:
        tables="results/periods/{period}.h5",
        maps="results/periods/{period}.csv",
    log:
        "results/logs/seal_period/{period}.log",
    benchmark:
        "results/benchmarks/seal_period/{period}.tsv"
    wildcard_constraints:
        period=periods.open_pattern(SEALED),
    conda:
        "../envs/sotrp.yaml"
    params:
        rows=rows_in_period,
        code=code("seal_period"),
    script:
        "../scripts/seal_period.py"
