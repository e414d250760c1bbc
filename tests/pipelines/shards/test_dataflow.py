"""The command on Dataflow, as far as that goes without an account: Beam's dry run against a storage emulator."""

import logging

import pytest
from apache_beam.options.pipeline_options import GoogleCloudOptions
from apache_beam.runners.dataflow.dataflow_runner import DataflowRunner
from apache_beam.runners.dataflow.internal import apiclient

from pipelines.flags import split_flags
from tests.pipelines.folders import digits

BEAM_FLAGS = [
    "--runner=DataflowRunner",
    "--project=spae-project",
    "--region=europe-west4",
    "--temp_location=gs://bucket/temp",
    "--staging_location=gs://bucket/staging",
    "--worker_machine_type=n2-standard-8",
    "--num_workers=3",
    "--max_num_workers=40",
    "--disk_size_gb=100",
    "--sdk_container_image=images.example/spae:1",
    "--service_account_email=shards@spae-project.iam.gserviceaccount.com",
    "--experiments=use_runner_v2",
]
DRY_RUN = ["--dry_run=True", "--no_auth", "--sdk_location=container"]


def test_flags_of_dataflow_are_passed_on():
    ours = ["--split", "val", "--seed", "3"]
    assert split_flags([*BEAM_FLAGS[:4], *ours, *BEAM_FLAGS[4:], *DRY_RUN]) == (ours, [*BEAM_FLAGS, *DRY_RUN])
    apart = [part for flag in BEAM_FLAGS for part in flag.split("=", 1)]
    assert split_flags([*ours, *apart]) == (ours, apart)


@pytest.fixture
def jobs(monkeypatch):
    """The jobs that Beam's dry run makes and does not submit."""
    made = []
    run = DataflowRunner.run_pipeline

    def kept(self, *arguments, **options):
        result = run(self, *arguments, **options)
        made.append(result.job)
        return result

    monkeypatch.setattr(DataflowRunner, "run_pipeline", kept)
    return made


def test_the_job_graph_of_a_split(google_storage, jobs, caplog):
    caplog.set_level(logging.WARNING, "gcp_storage_emulator")
    caplog.set_level(logging.INFO, "pipelines")
    assert digits("gs://bucket/shards", "--samples-per-shard", "10", *BEAM_FLAGS, *DRY_RUN) == 0
    assert "--dry_run checked the job of 27 shards" in caplog.text
    (job,) = jobs
    pipeline = job.proto_pipeline
    steps = [transform.unique_name for transform in pipeline.components.transforms.values()]
    for step in ("Plan", "Shards/Number", "Shards/Spread", "Shards/Write"):
        assert any(name.startswith(step) for name in steps)
    assert pipeline.ByteSize() < 100_000, "numbers of shards are sent, not inputs"
    (environment,) = pipeline.components.environments.values()
    assert b"images.example/spae:1" in environment.payload
    description = apiclient.Environment(
        packages=[],
        options=job.options,
        environment_version="3",
        proto_pipeline_staged_url="gs://x",
        proto_pipeline=pipeline,
    ).proto
    (pool,) = description.worker_pools
    assert (pool.machine_type, pool.num_workers, pool.disk_size_gb) == ("n2-standard-8", 3, 100)
    assert pool.autoscaling_settings.max_num_workers == 40
    assert description.service_account_email == "shards@spae-project.iam.gserviceaccount.com"
    google = job.options.view_as(GoogleCloudOptions)
    assert (google.project, google.region) == ("spae-project", "europe-west4")
