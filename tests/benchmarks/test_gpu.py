import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.benchmarks import gpu

ROOT = Path(__file__).parents[2]
WITHOUT = """
import sys
for name in ("ray", "apache_beam", "av", "webdataset", "braceexpand", "open_clip", "transformers", "torchvision"):
    sys.modules[name] = None
import tests.benchmarks.gpu
"""


def test_the_script_needs_neither_cluster_nor_loaders():
    done = subprocess.run([sys.executable, "-c", WITHOUT], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_the_script_checks_and_measures_everything(device, tmp_path, capsys):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    gpu.main(["--device", device, "--small", "--output", str(tmp_path / "gpu.json")])
    found = json.loads((tmp_path / "gpu.json").read_text())
    names = [row["name"] for row in found["rows"]]
    for name in ("spae", "spae, autocast", "encode, bfloat16", "step, bfloat16"):
        assert name in names
    assert found["step_tflops, step, bfloat16"] > 0
    assert "open_clip, padded" in capsys.readouterr().out
