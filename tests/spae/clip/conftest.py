import pytest

from spae.clip import load_clip
from tests.tiny_models import causal_clip, hugging_face_clip, save_bert


@pytest.fixture(scope="module")
def causal(tmp_path_factory):
    return load_clip(causal_clip(tmp_path_factory.mktemp("causal")))


@pytest.fixture(scope="module")
def hugging_face(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return load_clip(hugging_face_clip(folder / "clip", save_bert(folder / "bert")))


@pytest.fixture(params=["causal", "hugging_face"])
def guide(request):
    return request.getfixturevalue(request.param)
