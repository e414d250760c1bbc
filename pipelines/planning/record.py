"""A plan as it stands in a split's folder: `plan.json`, by what and how it was made, beside the inputs in `plan/`."""

import json
from dataclasses import asdict, dataclass

from pipelines.planning.entry_rows import determining
from pipelines.planning.files import PLAN_FOLDER
from pipelines.planning.plan import PLAN_VERSION, ShardSettings, SplitPlan
from spae.data.publishing import delete, join, list_files, publish, read_bytes
from spae.data.records import PLAN_FILE


@dataclass(frozen=True)
class PlanRecord:
    """What `plan.json` says: enough to make the plan again, and to see whether the source still gives the same."""

    settings: ShardSettings
    limit: int | None
    shards: int
    inputs: int
    fingerprint: str
    version: int = 1
    """PLAN_VERSION when the plan was made; files that do not say it are of the first."""


def load_plan_record(folder: str) -> PlanRecord | None:
    """The folder's plan.json; None where there is none; ValueError where it cannot be read."""
    data = read_bytes(join(folder, PLAN_FILE))
    if data is None:
        return None
    try:
        values = json.loads(data)
        return PlanRecord(**{**values, "settings": ShardSettings.from_values(values["settings"])})
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{join(folder, PLAN_FILE)} is damaged ({error}); delete it and rerun the sharding") from error


def version_for(folder: str, settings: ShardSettings) -> int:
    """How to cut the plan of these settings: as the folder's own was, so that what it holds is continued, or anew."""
    record = load_plan_record(folder)
    return record.version if record and determining(record.settings) == determining(settings) else PLAN_VERSION


def save_plan(plan: SplitPlan, record: PlanRecord, folder: str) -> None:
    """Put a plan that was just made into the split's folder, if it is not there: its files, and last plan.json."""
    files = join(folder, PLAN_FOLDER)
    if load_plan_record(folder) == record and list_files(files) == list_files(plan.files.url):
        return
    delete(join(folder, PLAN_FILE))  # at no time does it vouch for the inputs of another plan
    plan.files.publish(files)
    publish(join(folder, PLAN_FILE), (json.dumps(asdict(record), indent=1) + "\n").encode())
