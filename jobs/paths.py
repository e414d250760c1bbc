"""Places that flags name, as they hold on every machine."""

import os

import fsspec
from fsspec.implementations.local import LocalFileSystem
from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR

from spae.data.publishing import absolute


def place(flag: str, url: str) -> str:
    """A URL, independent of the working directory; ValueError where that would be a submitted job's temporary copy."""
    if not _is_relative(url):
        return absolute(url)
    if RAY_JOB_CONFIG_JSON_ENV_VAR in os.environ:  # set by `ray job submit`
        raise ValueError(
            f"{flag} {url} is relative, and a submitted job works in a temporary folder of the head node; give a URL "
            "such as gs://bucket/..., or the absolute path of a folder that all nodes share"
        )
    return absolute(url)


def place_or_name(flag: str, text: str) -> str:
    """The same of what may also be a name, such as a hub's id, which stays as it is."""
    file_system, path = fsspec.url_to_fs(text)
    return place(flag, text) if file_system.exists(path) else text


def _is_relative(url: str) -> bool:
    if not isinstance(fsspec.url_to_fs(url)[0], LocalFileSystem):
        return False
    return not os.path.isabs(os.path.expanduser(url.removeprefix("file://").removeprefix("local://")))
