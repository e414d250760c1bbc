"""A plan as it stands in a split's folder: `plan.json`, by what and how it was made, beside the inputs in `plan/`."""

import json
from dataclasses import asdict, dataclass, replace

from pipelines.planning.entry_rows import determining
from pipelines.planning.files import PLAN_FOLDER
from pipelines.planning.plan import ShardSettings, SplitPlan
from spae.data.publishing import delete, join, list_files, publish, read_bytes
from spae.data.records import INDEX_FILE, PLAN_FILE


@dataclass(frozen=True)
class PlanRecord:
    """What `plan.json` says: enough to make the plan again, and to see whether the source still gives the same."""

    settings: ShardSettings
    limit: int | None
    shards: int
    inputs: int
    fingerprint: str


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


def settings_for(folder: str, settings: ShardSettings) -> ShardSettings:
    """The settings, in the format of the folder's own where that is a finished split of the same: it stays as it is."""
    record = load_plan_record(folder)
    if record is None or read_bytes(join(folder, INDEX_FILE)) is None:
        return settings
    older = replace(settings, format_version=record.settings.format_version)
    return older if determining(record.settings) == determining(older) else settings


def save_plan(plan: SplitPlan, record: PlanRecord, folder: str) -> None:
    """Put a plan that was just made into the split's folder, if it is not there: its files, and last plan.json."""
    files = join(folder, PLAN_FOLDER)
    if load_plan_record(folder) == record and list_files(files) == list_files(plan.files.url):
        return
    delete(join(folder, PLAN_FILE))  # at no time does it vouch for the inputs of another plan
    plan.files.publish(files)
    publish(join(folder, PLAN_FILE), (json.dumps(asdict(record), indent=1) + "\n").encode())
