"""Tab. 2: how well words rebuild pictures (section 4.1)."""

from jobs.reproductions.reconstructions import ReconstructionTable

TABLE = ReconstructionTable(
    title="Tab. 2: reconstruction",
    layers=(5, 6),
    published={
        5: {"FID": {"SPAE, 128": 9.49}, "IS": {"SPAE, 128": 109.46}, "LPIPS": {"SPAE, 128": 0.17}},
        6: {
            "FID": {"SPAE, 128": 4.41, "SPAE, 256": 3.60, "SPAE of ImageNet-21k, 256": 3.08},
            "IS": {"SPAE, 128": 133.03, "SPAE, 256": 168.50, "SPAE of ImageNet-21k, 256": 173.79},
            "LPIPS": {"SPAE, 128": 0.12, "SPAE, 256": 0.19, "SPAE of ImageNet-21k, 256": 0.19},
        },
    },
    notes=(
        "Figures of other judges than Inception-v3 and LPIPS stand under their own names, without the paper's.",
        "The paper's VQGAN of 256 tokens has FID 5.48, IS 119.69, LPIPS 0.13 at 128, and 4.04, 163.95, 0.21 at 256. "
        "Its FVD (52.28 of 5 layers, 6.35 of 6) is of clips, which `jobs.evaluate` does not read.",
    ),
)
