import re
import sys
from pathlib import Path

from pipelines.flags import split_flags
from pipelines.words.plan import VocabularyFlags

ROOT = Path(__file__).parents[2]
IMAGE = (ROOT / "infra/dataflow/Dockerfile").read_text()


def test_beam_in_the_image_is_the_one_that_submits():
    (beam,) = re.findall(r"^apache-beam(?:\[gcp\])?==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert f"ARG BEAM_VERSION={beam}\n" in IMAGE
    (python,) = re.findall(r"^ARG PYTHON_VERSION=(.+)$", IMAGE, re.MULTILINE)
    assert f'requires-python = ">={python}"' in (ROOT / "pyproject.toml").read_text()


def test_all_that_is_copied_is_there():
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", IMAGE, re.MULTILINE)
    assert copied
    assert all((ROOT / name).exists() for names in copied for name in names.split())


def test_the_line_that_bakes_weights_in_is_python(tmp_path, monkeypatch):
    (program,) = re.findall(r'python -c "([^"]+)"', IMAGE)
    given = []
    monkeypatch.setattr("spae.clip.load_clip", lambda *arguments: given.append(arguments))
    for arguments in (["ViT-L-14-quickgelu", "openai"], ["hf-hub:someone/clip", ""]):
        monkeypatch.setattr(sys, "argv", ["-c", *arguments])
        exec(program)
    assert given == [("ViT-L-14-quickgelu", "openai"), ("hf-hub:someone/clip",)]


def test_flags_that_the_image_names_exist():
    flags = re.findall(r"--[a-z][a-z_-]+", IMAGE.split("ARG PYTHON_VERSION")[0])
    ours, _ = split_flags([flag for flag in flags if flag not in ("--build-arg", "--build-context", "--from")])
    fields = {f"--{name.replace('_', '-')}" for name in VocabularyFlags.__dataclass_fields__}
    assert set(ours) <= fields
