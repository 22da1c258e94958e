# The filtered maps as FITS images for other programs: `snakemake export_maps`, or with every run if the configuration asks.


rule export_map:
    input:
        map="results/preprocessed/{map_id}.h5",
    output:
        MAP_FIELDS,
    log:
        "results/logs/export_map/{map_id}.log",
    benchmark:
        "results/benchmarks/export_map/{map_id}.tsv"
    conda:
        "../envs/sotrp.yaml"
    params:
        options=config["export_map"],
        code=code("export_map"),
    script:
        "../scripts/export_map.py"
