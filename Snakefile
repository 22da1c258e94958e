# From depth-1 maps to one catalogue of measured sources, light curves and transient candidates.
#
#   snakemake --cores all                                   the simulated nights of config/config.yaml
#   snakemake --cores all --configfile mine.yaml            your maps: see config/README.md
#   snakemake --cores all export_maps                       the filtered maps as FITS images
#   snakemake --cores all recovery                          how complete and how true each map is, by injected sources
#
# Every rule calls scripts/<rule>.py and reads the section of the configuration that has its name.

from snakemake.utils import min_version

min_version("9.27")


configfile: "config/config.yaml"


report: "rules/captions/workflow.rst"


include: "rules/common.smk"
include: "rules/simulate.smk"
include: "rules/preprocess.smk"
include: "rules/photometry.smk"
include: "rules/detection.smk"
include: "rules/coadd.smk"
include: "rules/catalogs.smk"
include: "rules/connect.smk"
include: "rules/report.smk"
include: "rules/recovery.smk"
include: "rules/maps.smk"


if not APART:

    include: "rules/together.smk"


localrules:
    all,
    recovery,
    export_maps,
    dump_config,
    check_maps,


rule all:
    default_target: True
    input:
        per_map=every("sifted"),
        coadds=COADDED,
        stacks=STACKS,
        catalogs=CATALOGS,
        checked="results/maps_checked.txt",
        maps=ALWAYS_EXPORTED,


rule recovery:
    input:
        every("recovery"),


rule export_maps:
    input:
        lambda wildcards: MAP_EXPORTS,
