"""The built wheel works without the checkout and without the extras."""

import json
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from spae.data.sources.digits import DIGIT_NAMES, DigitsSource

ROOT = Path(__file__).parents[1]
EXTRAS = ("ray", "apache_beam", "tyro", "sklearn", "gguf", "openai")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built by setuptools from the files of the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("spae", "jobs", "pipelines"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    code = "from setuptools.build_meta import build_wheel; build_wheel('dist')"
    (folder / "dist").mkdir()
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, capture_output=True)
    (made,) = (folder / "dist").glob("*.whl")
    return made


@pytest.fixture(scope="module")
def spae_command(wheel, tmp_path_factory):
    """The `spae` command of an environment that holds the wheel and the plain library's dependencies alone."""
    folder = tmp_path_factory.mktemp("plain")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if path.name.split("-")[0] not in EXTRAS and "spae" not in path.name:
            (packages / path.name).symlink_to(path)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([*command, "--target", folder / "own", wheel], check=True)
    (packages / "own.pth").write_text(f"{folder / 'own'}\n")
    return [str(folder / "bin/python"), str(folder / "own/bin/spae")]


@pytest.mark.slow
def test_the_wheel_holds_the_model(wheel):
    shipped = ROOT / "spae/pretrained"
    with zipfile.ZipFile(wheel) as archive:
        for path in shipped.rglob("*"):
            if path.is_file():
                assert archive.read(path.relative_to(ROOT).as_posix()) == path.read_bytes()


@pytest.mark.slow
def test_the_plain_install_encodes_a_picture(spae_command, tmp_path):
    source = DigitsSource("test", 13)
    entries = list(source.entries())[:20]
    for entry in entries:
        (tmp_path / f"{entry.key}.png").write_bytes(source.read(entry, 1 << 20))
    names = [f"{entry.key}.png" for entry in entries]
    environment = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}  # no PYTHONPATH
    options = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True}
    done = subprocess.run([*spae_command, "encode", *names, "--json", "--output", "rebuilt.png"], **options)
    assert done.returncode == 0, done.stderr
    words = [json.loads(line)["words"][0][0][0] for line in done.stdout.splitlines()]
    right = sum(word == DIGIT_NAMES[entry.label] for word, entry in zip(words, entries, strict=True))
    assert right > len(entries) / 2
    code = "import spae, pathlib; print(pathlib.Path(spae.__file__).parents[1].name)"
    where = subprocess.run([spae_command[0], "-c", code], **options)
    assert where.stdout == "own\n"
    refused = subprocess.run([*spae_command, "train", "digits-32"], **options)
    assert refused.returncode == 2
    assert "pip install 'spae[ray]'" in refused.stderr
