# From the maps and the catalogue as given to one form: rho, kappa, time and mask of each map, one table of known sources.


rule read_catalog:
    input:
        catalog=CATALOG_INPUT,
        shared=from_outside(config["catalog"]["additional"]),
        made=[path for path in config["catalog"]["additional"] if is_made(path)],
    output:
        catalog="results/inputs/catalog.h5",
    log:
        "results/logs/read_catalog.log",
    benchmark:
        "results/benchmarks/read_catalog.tsv"
    conda:
        "../envs/sotrp.yaml"
    params:
        options=config["catalog"],
        digest=file_digest(CATALOG_PATH),
        digests=file_digests(config["catalog"]["additional"]),
        code=code("read_catalog"),
    script:
        "../scripts/read_catalog.py"


rule preprocess_map:
    input:
        given=ancient(given_files),
        made=filter_made_files,
        instruments=INSTRUMENTS,
        shared=ancient(dated_of(filter_files)),
    output:
        map="results/preprocessed/{map_id}.h5",
    log:
        "results/logs/preprocess_map/{map_id}.log",
    benchmark:
        "results/benchmarks/preprocess_map/{map_id}.tsv"
    wildcard_constraints:
        map_id=APART_SINGLE_ID,
    conda:
        "../envs/sotrp.yaml"
    resources:
        attempt=attempt_number,
    params:
        row=map_row,
        box=config["maps"]["box"],
        box_margin_arcmin=config["maps"]["box_margin_arcmin"],
        box_cut=config["maps"]["box_cut"],
        beams=own_beam,
        options=config["preprocess_map"],
        strip_mpix=config["maps"]["strip_mpix"],
        ephemerides=MASKED,
        version=map_version,
        digest_mode=config["maps"]["digest"],
        digests=digests_of(filter_files),
        code=code("preprocess_map"),
    script:
        "../scripts/preprocess_map.py"
