# The services around the workflow: sources from socat, maps from and back to mapcat, light curves to lightcurvedb.
# Each database is read or written by one job, here and not on a cluster; all jobs in between read files.


localrules:
    read_socat,
    claim_maps,
    write_mapcat,
    write_lightcurvedb,


rule read_socat:
    input:
        given=ancient(SKY_FILES["given"]),
        made=SKY_FILES["made"],
    output:
        sources=snapshots.SOURCES,
        moving=snapshots.MOVING,
    log:
        "results/logs/read_socat.log",
    benchmark:
        "results/benchmarks/read_socat.tsv"
    priority: 100
    conda:
        "../envs/sotrp.yaml"
    params:
        options=config["catalog"]["socat"],
        box=config["maps"]["box"],
        maps=SKY_FILES["all"],
        times=time_span(),
        code=code("read_socat"),
    script:
        "../scripts/read_socat.py"


rule claim_maps:
    output:
        done=CLAIMED,
    log:
        "results/logs/claim_maps.log",
    benchmark:
        "results/benchmarks/claim_maps.tsv"
    priority: 100
    conda:
        "../envs/sotrp.yaml"
    params:
        map_ids=list(MAPS),
        database=config["maps"]["mapcat"]["database"],
        instrument=config["maps"]["instrument"],
        code=code("claim_maps"),
    script:
        "../scripts/claim_maps.py"


rule write_mapcat:
    input:
        catalog="results/catalogs/catalog.h5",
        pointing=every("pointing"),
        claimed=CLAIMED,
    output:
        done="results/services/mapcat.txt",
    log:
        "results/logs/write_mapcat.log",
    benchmark:
        "results/benchmarks/write_mapcat.tsv"
    conda:
        "../envs/sotrp.yaml"
    params:
        map_ids=list(MAPS),
        database=config["maps"]["mapcat"]["database"],
        instrument=config["maps"]["instrument"],
        code=code("write_mapcat"),
    script:
        "../scripts/write_mapcat.py"


rule write_lightcurvedb:
    input:
        catalog="results/catalogs/catalog.h5",
        known="results/inputs/catalog.h5",
        snapshot=[snapshots.SOURCES] if config["catalog"]["kind"] == "socat" else [],
        maps=every("preprocessed"),
        pointing=every("pointing"),
        forced=every("forced_photometry"),
    output:
        done="results/services/lightcurvedb.txt",
    log:
        "results/logs/write_lightcurvedb.log",
    benchmark:
        "results/benchmarks/write_lightcurvedb.tsv"
    conda:
        "../envs/sotrp.yaml"
    params:
        map_ids=list(MAPS),
        options=config["write_lightcurvedb"] | {"cutout_arcmin": config["forced_photometry"]["cutout_arcmin"]},
        code=code("write_lightcurvedb"),
    script:
        "../scripts/write_lightcurvedb.py"
