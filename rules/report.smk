# What the run was and what came of it: the configuration, one page, and an exit status that tells of failed maps.


rule view_map:
    input:
        map="results/preprocessed/{map_id}.h5",
        pointing="results/pointing/{map_id}.h5",
        forced="results/forced_photometry/{map_id}.h5",
        sifted="results/sifted/{map_id}.h5",
    output:
        view="results/views/{map_id}.h5",
        sheet=report(
            "results/figures/{map_id}.png",
            caption="captions/map.rst",
            category="Maps",
            subcategory=band_of,
            labels=labels_of,
        ),
    log:
        "results/logs/view_map/{map_id}.log",
    benchmark:
        "results/benchmarks/view_map/{map_id}.tsv"
    wildcard_constraints:
        map_id=APART_SINGLE_ID,
    conda:
        "../envs/sotrp.yaml"
    resources:
        attempt=attempt_number,
    params:
        strip_mpix=config["maps"]["strip_mpix"],
        code=code("view_map"),
    script:
        "../scripts/view_map.py"


rule report:
    input:
        catalog="results/catalogs/catalog.h5",
        known="results/inputs/catalog.h5",
        maps=every("preprocessed"),
        views=every("views"),
        lightcurves="results/lightcurves/lightcurves.h5",
        recovery=RECOVERY,
    output:
        page=report(
            "results/report.html",
            caption="captions/night.rst",
            category="Night",
            labels={"what": "the page"},
        ),
    log:
        "results/logs/report.log",
    benchmark:
        "results/benchmarks/report.tsv"
    conda:
        "../envs/sotrp.yaml"
    threads: 2
    params:
        observation_gap_s=config["confirm_candidates"]["observation_gap_s"],
        reference={key: config["catalog"][key] for key in ("freq_ghz", "spectral_index")},
        code=code("report"),
    script:
        "../scripts/report.py"


rule dump_config:
    input:
        catalog="results/catalogs/catalog.h5",
    output:
        config=report(
            "results/run_config.yaml",
            caption="captions/config.rst",
            category="Provenance",
            labels={"what": "configuration and commit"},
        ),
    log:
        "results/logs/dump_config.log",
    benchmark:
        "results/benchmarks/dump_config.tsv"
    conda:
        "../envs/sotrp.yaml"
    params:
        config=config,
        code=code("dump_config"),
    script:
        "../scripts/dump_config.py"


rule check_maps:
    input:
        catalog="results/catalogs/catalog.h5",
        rest=[*CATALOGS, *ALWAYS_EXPORTED, *COADDED, *STACKS],
        searches=SEARCHES,
        views=every("views"),
    output:
        checked="results/maps_checked.txt",
    log:
        "results/logs/check_maps.log",
    benchmark:
        "results/benchmarks/check_maps.tsv"
    retries: 0  # it fails to tell of failed maps
    conda:
        "../envs/sotrp.yaml"
    params:
        code=code("check_maps"),
    script:
        "../scripts/check_maps.py"


onstart:  # or n jobs cost the engine n * n looks at those that wait
    from sotrplib import pacing

    pacing.calm(workflow.scheduler)


onerror:  # whichever job failed: the same command tries again what was given up for want of memory, time or disk
    from sotrplib import tries

    tries.forget_all("results")
