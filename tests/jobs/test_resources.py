import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import ray
from ray.cluster_utils import Cluster
from ray.util import placement_group, remove_placement_group

from jobs.cluster import connect
from jobs.resources import ResourcesError, choose_device, wait_for_room
from jobs.tokenize_shards import TokenizeFlags
from tests.jobs.conftest import short_folder


@pytest.fixture(scope="module")
def cluster():
    """One that says that it has a GPU."""
    assert not connect("local", num_cpus=2, num_gpus=1)
    yield
    ray.shutdown()


def test_auto_takes_the_gpus_that_are_there_and_says_so(cluster, caplog):
    caplog.set_level("INFO")
    assert choose_device("auto") == "cuda"
    assert "the cluster has, or can start, 1 GPUs" in caplog.text
    assert choose_device("cpu") == "cpu"


def test_too_little_of_a_cluster_that_cannot_grow_is_one_error_at_once(cluster):
    began = time.monotonic()
    with pytest.raises(ValueError, match=r"has \{'CPU': 2.0, 'GPU': 1.0\}, too little for 2 workers of 1 CPU, 1 GPU"):
        wait_for_room(2, {"CPU": 1, "GPU": 1}, 600, may_grow=False)
    assert time.monotonic() - began < 5


def test_what_does_not_come_in_time_is_named(cluster, caplog):
    caplog.set_level("INFO")
    with pytest.raises(ResourcesError, match=r"no room for 2 workers of 1 GPU each within 0.5 s.*--wait-for-resources"):
        wait_for_room(2, {"CPU": 0, "GPU": 1}, 0.5, may_grow=True)
    assert re.search(r"waiting up to \d s for 2 workers of 1 GPU each", caplog.text)


def test_resources_in_use_are_waited_for_and_left_free(cluster, caplog):
    caplog.set_level("INFO")
    held = placement_group([{"GPU": 1}])
    assert held.wait(10)
    threading.Timer(2, lambda: remove_placement_group(held)).start()
    wait_for_room(1, {"CPU": 1, "GPU": 1}, 60, may_grow=False)
    assert "they are in use" in caplog.text
    wait_for_room(1, {"CPU": 1, "GPU": 1}, 60, may_grow=False)


@pytest.mark.parametrize(("patience", "waits"), [(None, False), (0.2, True)])
def test_tokenizing_takes_the_gpus_that_are_there(cluster, caplog, patience, waits):
    caplog.set_level("INFO")
    places = {"model": "m", "input": "i", "output": "o"}
    flags = TokenizeFlags(**places, device="cuda", workers=2, wait_for_resources=patience)
    assert flags.actors.fitting(may_grow=True) == 1
    assert "the cluster has room for 1 of 2 workers" in caplog.text
    assert ("waiting up to" in caplog.text) == waits


@pytest.mark.slow
def test_a_node_that_joins_is_waited_for(monkeypatch, caplog):
    caplog.set_level("INFO")
    ray.shutdown()
    grown = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "temp_dir": short_folder()})
    try:
        assert connect(grown.address)
        assert choose_device("auto") == "cpu"
        assert "give --device cuda where an autoscaler adds some" in caplog.text
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(wait_for_room, 1, {"CPU": 1, "GPU": 1}, 60, may_grow=True)
            time.sleep(2)
            grown.add_node(num_cpus=1, num_gpus=1)
            waiting.result()
        assert "has to add some" in caplog.text
    finally:
        ray.shutdown()
        grown.shutdown()
