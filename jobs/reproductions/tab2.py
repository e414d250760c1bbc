"""Tab. 2: how well words rebuild pictures (section 4.1)."""

from jobs.reproductions.reconstructions import ReconstructionTable

TABLE = ReconstructionTable(
    title="Tab. 2: reconstruction",
    layers=(5, 6),
    published={
        5: {
            "FID": {"SPAE, 128": 9.49},
            "IS": {"SPAE, 128": 109.46},
            "LPIPS": {"SPAE, 128": 0.17},
            "FVD": {"SPAE, 128": 52.28},
        },
        6: {
            "FID": {"SPAE, 128": 4.41, "SPAE, 256": 3.60, "SPAE of ImageNet-21k, 256": 3.08},
            "IS": {"SPAE, 128": 133.03, "SPAE, 256": 168.50, "SPAE of ImageNet-21k, 256": 173.79},
            "LPIPS": {"SPAE, 128": 0.12, "SPAE, 256": 0.19, "SPAE of ImageNet-21k, 256": 0.19},
            "FVD": {"SPAE, 128": 6.35},
        },
    },
    notes=(
        "Figures of other judges than Inception-v3 and LPIPS stand under their own names, without the paper's.",
        "The paper's VQGAN of 256 tokens has FID 5.48, IS 119.69, LPIPS 0.13 and FVD 6.79 at 128, and FID 4.04, IS "
        "163.95, LPIPS 0.21 at 256.",
        "FVD is of clips: give a video model, shards of videos and --judges i3d-kinetics-400 in a run of its own.",
    ),
)
