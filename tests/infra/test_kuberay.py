"""The manifest against KubeRay's own schema, and against what the command and the image say."""

import gzip
import json
import re
import shlex
from pathlib import Path

import jsonschema
import pytest
import tyro
import yaml

from jobs.tokenize_shards import TokenizeFlags

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads(gzip.decompress((Path(__file__).parent / "schemas/rayjobs.v1.schema.json.gz").read_bytes()))
"""OpenAPI schema of KubeRay's RayJob v1 of 2026-08, without descriptions (Apache-2.0)."""
MANIFEST = yaml.safe_load((ROOT / "infra/kuberay/tokenize.yaml").read_text())
IMAGE = (ROOT / "infra/docker/Dockerfile").read_text()


def strict(schema):
    """The schema, in which a field that it does not name is an error."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: strict(one) for name, one in schema.items()}
    if "properties" in schema and schema["properties"] and "additionalProperties" not in schema:
        closed["additionalProperties"] = False
    return closed


def groups():
    return {one["groupName"]: one for one in MANIFEST["spec"]["rayClusterSpec"]["workerGroupSpecs"]}


def resources(group):
    (container,) = group["template"]["spec"]["containers"]
    return container["resources"]


def test_the_manifest_is_a_ray_job_and_a_misspelt_field_would_be_found():
    validator = jsonschema.Draft202012Validator(strict(SCHEMA))
    assert not list(validator.iter_errors(MANIFEST))
    wrong = json.loads(json.dumps(MANIFEST))
    wrong["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["maxReplica"] = 3
    with pytest.raises(jsonschema.ValidationError, match="maxReplica"):
        validator.validate(wrong)


def test_the_entrypoint_is_understood_and_fits_the_pools():
    python, dash, module, *flags = shlex.split(MANIFEST["spec"]["entrypoint"])
    assert (python, dash, module) == ("python", "-m", "jobs.tokenize_shards")
    parsed = tyro.cli(TokenizeFlags, args=flags)
    gpus = groups()["encode"]
    assert parsed.device == "cuda"
    assert parsed.workers <= gpus["maxReplicas"] * int(resources(gpus)["limits"]["nvidia.com/gpu"])
    assert "nvidia.com/gpu" not in resources(groups()["decode"])["limits"]


def test_pools_grow_from_nothing_and_requests_are_limits():
    assert MANIFEST["spec"]["rayClusterSpec"]["enableInTreeAutoscaling"] is True
    for group in groups().values():
        assert group["minReplicas"] == 0 <= group["replicas"] <= group["maxReplicas"]
        assert resources(group)["requests"] == resources(group)["limits"]


def test_ray_is_the_pinned_one_everywhere():
    (ray,) = re.findall(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert f"ARG RAY_VERSION={ray}\n" in IMAGE
    assert MANIFEST["spec"]["rayClusterSpec"]["rayVersion"] == ray
    copied = re.findall(r"^COPY --chown=\S+ (.+) \S+$", IMAGE, re.MULTILINE)
    assert copied
    assert all((ROOT / name).exists() for names in copied for name in names.split())
