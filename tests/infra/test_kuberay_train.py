"""The manifest of a training against KubeRay's own schema, and against what the command and the image say."""

import shlex

import jsonschema
import yaml

from jobs.train import _worker_range, parse_flags
from tests.infra.test_kuberay import MANIFEST as TOKENIZING
from tests.infra.test_kuberay import ROOT, SCHEMA, resources, strict

MANIFEST = yaml.safe_load((ROOT / "infra/kuberay/train.yaml").read_text())
(POOL,) = MANIFEST["spec"]["rayClusterSpec"]["workerGroupSpecs"]


def parsed():
    python, dash, module, *flags = shlex.split(MANIFEST["spec"]["entrypoint"])
    assert (python, dash, module) == ("python", "-m", "jobs.train")
    return parse_flags(flags)


def test_the_manifest_is_a_ray_job_on_the_pinned_ray():
    assert not list(jsonschema.Draft202012Validator(strict(SCHEMA)).iter_errors(MANIFEST))
    versions = {one["spec"]["rayClusterSpec"]["rayVersion"] for one in (MANIFEST, TOKENIZING)}
    assert len(versions) == 1


def test_one_node_is_enough_and_all_are_used():
    gpus = int(resources(POOL)["limits"]["nvidia.com/gpu"])
    assert _worker_range(parsed().workers) == (gpus, gpus * POOL["maxReplicas"])
    assert POOL["minReplicas"] <= POOL["replicas"] <= POOL["maxReplicas"]
    assert resources(POOL)["requests"] == resources(POOL)["limits"]


def test_processors_and_disk_suffice():
    flags, spec = parsed(), POOL["template"]["spec"]
    processes = int(resources(POOL)["limits"]["nvidia.com/gpu"]) * (flags.threads + flags.loader_workers)
    assert processes <= int(resources(POOL)["limits"]["cpu"])
    sizes = {one["name"]: int(one["emptyDir"]["sizeLimit"].removesuffix("Gi")) << 30 for one in spec["volumes"]}
    mounts = {one["mountPath"]: one["name"] for one in spec["containers"][0]["volumeMounts"]}
    assert sizes[mounts[flags.cache]] >= flags.cache_bytes


def test_a_retry_goes_on_with_the_same_run_in_the_bucket():
    assert MANIFEST["spec"]["backoffLimit"] > 0
    assert parsed().run.startswith("gs://BUCKET/")
    assert not parsed().replace
