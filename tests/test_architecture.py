"""What workers that only write shards must never load."""

import subprocess
import sys

import pytest

FLOOR = ("order", "publishing", "records", "sidecars", "tar_writer", "media", "video", "mp4", "sources")
LIGHT = ("spae", "spae.config", "spae.presets", "spae.data", *(f"spae.data.{name}" for name in FLOOR))


@pytest.mark.parametrize(
    "modules", [LIGHT, ("pipelines.images", "pipelines.videos", "pipelines.verify")], ids=["floor 0", "pipelines"]
)
def test_sharding_leaves_torch_out(modules):
    heavy = ("torch", "torchvision", "open_clip", "transformers", "webdataset", "ray")
    code = f"import sys, {', '.join(modules)}; print([name for name in {heavy} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_verify_needs_no_beam():
    code = "import sys, pipelines.verify; print('apache_beam' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_open_clip_is_loaded_only_where_a_clip_is():
    """It brings torchvision and torch's compiler: 8 s in every process of a cluster."""
    modules = "spae.clip.features, jobs.train, jobs.report, pipelines.vocabulary"
    code = f"import sys, {modules}; print('open_clip' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
