import io
import json
import os
import shutil
import tarfile

import pyarrow.parquet as pq
import pytest

from pipelines.images import main as images
from pipelines.verify import main as verify
from spae.data.publishing import delete, list_files
from spae.data.records import load_index
from tests.pipelines.folders import add_garbage, digit_folder, tree_hashes


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A split with dead letters in it: 60 samples and 7 errors in four shards."""
    root = tmp_path_factory.mktemp("sound")
    source = digit_folder(root / "images", 60)
    add_garbage(source)
    flags = ["--source", "folder", "--split", "train", "--input", str(source), "--output", str(root / "shards")]
    assert images([*flags, "--samples-per-shard", "20", "--max-error-share", "1"]) == 0
    return root / "shards" / "train"


@pytest.fixture
def split(sound, tmp_path):
    return shutil.copytree(sound, tmp_path / "train")


def rewrite_tar(path, change):
    """Write a tar anew with what `change` makes of its (name, data) list."""
    with tarfile.open(path) as tar:
        content = [(member.name, tar.extractfile(member).read()) for member in tar]
    with tarfile.open(path, "w") as tar:
        for name, data in change(content):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def replaced(suffix, new):
    """The change of the first member with a suffix."""

    def change(content):
        place = next(i for i, (name, _) in enumerate(content) if name.endswith(suffix))
        content[place] = (content[place][0], new)
        return content

    return change


def flip_byte(split):
    data = bytearray((split / "train-000001.tar").read_bytes())
    data[len(data) // 2] ^= 1
    (split / "train-000001.tar").write_bytes(data)


def cut_tar(split):
    os.truncate(split / "train-000001.tar", 30_000)


def wrong_count(split):
    path = split / "train-000001.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "samples": values["samples"] + 1, "inputs": values["inputs"] + 1}))


def other_hash_in_index(split):
    path = split / "index.json"
    path.write_text(path.read_text().replace(load_index(str(split)).shards[2].sha256, "0" * 64))


def lose_an_error(split):
    path = next((split / "errors").iterdir())
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def swap_sidecars(split):
    shutil.copy(split / "train-000002.json", split / "train-000001.json")


def remove(name):
    return lambda split: (split / name).unlink()


def rewrite(change):
    return lambda split: rewrite_tar(split / "train-000001.tar", change)


def double_key(split):
    with tarfile.open(split / "train-000000.tar") as tar:
        stolen = [(member.name, tar.extractfile(member).read()) for member in list(tar)[:4]]
    rewrite_tar(split / "train-000001.tar", lambda content: content[4:] + stolen)


REPAIRABLE = {
    "flipped byte": (flip_byte, "train-000001: its sidecar says sha256"),
    "cut tar": (cut_tar, "train-000001: its sidecar says bytes"),
    "missing shard": (remove("train-000002.tar"), "train-000002: its tar is missing"),
    "missing sidecar": (remove("train-000003.json"), "train-000003: its sidecar is missing or damaged"),
    "missing last tar": (remove("train-000003.tar"), "train-000003: its tar is missing"),
    "sidecar of another": (swap_sidecars, "train-000001: its sidecar is missing or damaged"),
    "wrong count": (wrong_count, "its sidecar says samples"),
    "lost error": (lose_an_error, "its sidecar says errors"),
    "missing index": (remove("index.json"), "index.json is missing"),
    "missing table": (remove("index.parquet"), "index.parquet is missing"),
    "damaged table": (lambda split: (split / "index.parquet").write_bytes(b"x"), "index.parquet does not say"),
    "wrong index": (other_hash_in_index, "index.json does not say what the sidecars say"),
    "wrong sizes": (lambda split: (split / "sizes.json").write_text("{}"), "sizes.json does not say"),
    "missing classes": (remove("classes.parquet"), "classes.parquet is missing or damaged"),
    "damaged classes": (
        lambda split: (split / "classes.parquet").write_bytes(b"x"),
        "classes.parquet is missing or damaged",
    ),
    "leftover": (
        lambda split: (split / "train-000001.tar.tmp-12").write_bytes(b""),
        "stray file train-000001.tar.tmp-12",
    ),
    "mark of a try": (
        lambda split: (split / "train-000001.attempt").write_text("{}"),
        "stray file train-000001.attempt",
    ),
    "wrong label": (rewrite(replaced(".cls", b"7777")), "label '7777' is not in classes.parquet"),
    "wrong name": (rewrite(replaced(".txt", b"cat")), "txt says b'cat', classes.parquet"),
    "no json": (rewrite(replaced(".json", b"{")), "json says sha256 None"),
    "no pixels": (rewrite(replaced(".png", b"words")), "no image"),
    "member lost": (rewrite(lambda content: content[1:]), "are not one of jpg, png, mp4 with cls, txt and json"),
    "unsafe key": (
        rewrite(lambda content: [(f"../{content[0][0]}", content[0][1]), *content[1:]]),
        "must be 1 to 90 ASCII",
    ),
    "key in two shards": (double_key, "is not planned here"),
    "lost key": (double_key, "is neither a sample nor an error"),
    "other order": (rewrite(lambda content: content[4:] + content[:4]), "its samples are not in the planned order"),
    "missing plan part": (remove("plan/part-00000.parquet"), "plan/ does not hold the inputs that plan.json says"),
    "damaged plan part": (
        lambda split: (split / "plan/part-00000.parquet").write_bytes(b"PAR1"),
        "plan/ does not hold the inputs that plan.json says: 4 shards unknown",
    ),
}


def test_a_sound_split_has_no_deviation(sound, caplog):
    assert verify([str(sound)]) == 0
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("damage", REPAIRABLE)
def test_every_deviation_is_named_and_repaired_to_the_same_bytes(damage, split, sound, caplog):
    harm, message = REPAIRABLE[damage]
    harm(split)
    assert verify([str(split)]) == 1
    assert message in caplog.text
    assert verify([str(split), "--repair"]) == 0
    assert tree_hashes(split) == tree_hashes(sound)


@pytest.mark.parametrize("lost", ["train-000001.tar", "classes.parquet", "plan/part-00000.parquet", "index.json"])
def test_repair_touches_sound_shards_not_at_all(split, lost):
    kept = os.stat(split / "train-000000.tar").st_ino
    os.remove(split / lost)
    assert verify([str(split), "--repair"]) == 0
    assert os.stat(split / "train-000000.tar").st_ino == kept


def test_strangers_are_named_and_left_alone(split, caplog):
    (split / "train-000017.tar").write_bytes(b"not ours")
    (split / "below").mkdir()
    (split / "below" / "notes").write_text("mine")
    assert verify([str(split), "--repair"]) == 1
    assert "stray file train-000017.tar" in caplog.text
    assert (split / "below" / "notes").read_text() == "mine"


def test_a_split_without_its_plan_is_checked_but_not_repaired(split, caplog):
    os.remove(split / "plan.json")
    assert verify([str(split)]) == 1
    assert "plan.json is missing or damaged" in caplog.text
    assert "60 samples, 7 errors; 1 deviations, 0 broken" in caplog.text
    flip_byte(split)
    assert verify([str(split), "--repair"]) == 1
    assert "rerun `python -m pipelines.images`" in caplog.text


def test_without_a_plan_keys_of_two_shards_are_seen(split, caplog):
    double_key(split)
    os.remove(split / "plan.json")
    assert verify([str(split)]) == 1
    assert "train-000001: 1 of its keys occur again, or in an earlier shard" in caplog.text


def test_a_vanished_input_is_lost_to_its_own_shard_only_and_named(tmp_path, caplog):
    source = digit_folder(tmp_path / "images", 30)
    flags = ["--source", "folder", "--split", "train", "--input", str(source), "--output", str(tmp_path / "shards")]
    assert images([*flags, "--samples-per-shard", "10"]) == 0
    split = tmp_path / "shards/train"
    rows = pq.ParquetFile(split / "plan/part-00000.parquet").read_row_group(1).to_pylist()
    os.remove(source / rows[0]["path"])
    before = tree_hashes(split)
    os.remove(split / "train-000002.tar")
    assert verify([str(split), "--repair"]) == 0
    assert tree_hashes(split) == before
    os.remove(split / "train-000001.tar")
    assert verify([str(split), "--repair"]) == 0
    assert "train-000001 has other bytes than before" in caplog.text
    assert load_index(str(split)).shards[1].errors == 1


def test_a_changed_source_is_not_mixed_into_old_shards(tmp_path, caplog):
    source = digit_folder(tmp_path / "images", 30)
    flags = ["--source", "folder", "--split", "train", "--input", str(source), "--output", str(tmp_path / "shards")]
    assert images([*flags, "--samples-per-shard", "10"]) == 0
    next(source.glob("*/*.png")).unlink()
    os.remove(tmp_path / "shards/train/train-000001.tar")
    os.remove(tmp_path / "shards/train/plan/part-00000.parquet")
    assert verify([str(tmp_path / "shards/train"), "--repair"]) == 1
    assert "no longer holds the inputs of this split" in caplog.text


def test_a_repair_to_other_bytes_is_named(tmp_path, caplog):
    source = digit_folder(tmp_path / "images", 20)
    flags = ["--source", "folder", "--split", "train", "--input", str(source), "--output", str(tmp_path / "shards")]
    assert images(flags) == 0
    before = load_index(str(tmp_path / "shards/train")).shards[0]
    picture = next(source.glob("*/*.JPEG"))
    data = picture.read_bytes()
    picture.write_bytes(data[:-40] + bytes([data[-40] ^ 1]) + data[-39:])
    os.remove(before.url)
    assert verify([str(tmp_path / "shards/train"), "--repair"]) == 0
    assert "train-000000 has other bytes than before" in caplog.text
    assert load_index(str(tmp_path / "shards/train")).shards[0].sha256 != before.sha256


def test_a_root_with_one_split_is_verified_and_with_several_names_them(split, sound, caplog):
    assert verify([str(split.parent)]) == 0
    assert "4 shards, 60 samples, 7 errors; 0 deviations" in caplog.text
    os.remove(split / "index.json")
    assert verify([str(split.parent)]) == 1
    assert verify([str(split.parent), "--repair"]) == 0
    assert tree_hashes(split) == tree_hashes(sound)
    shutil.copytree(split, split.parent / "val")
    assert verify([str(split.parent)]) == 2
    assert f"{split.parent} holds the splits train, val" in caplog.text


@pytest.mark.parametrize("arguments", [["/nowhere/at/all"], ["memory://nothing"]])
def test_nothing_to_verify_ends_with_status_2(arguments, caplog):
    assert verify(arguments) == 2
    assert "does not exist or is empty" in caplog.text


@pytest.mark.parametrize("arguments", [[], ["x", "--repare"]])
def test_unusable_arguments_end_with_status_2(arguments):
    with pytest.raises(SystemExit) as ended:
        verify(arguments)
    assert ended.value.code == 2


def test_a_split_in_memory_is_verified_and_repaired(tmp_path):
    url = f"memory://{tmp_path.name}"
    assert images(["--source", "digits", "--split", "test", "--output", url, "--samples-per-shard", "100"]) == 0
    before = list_files(f"{url}/test")
    delete(f"{url}/test/test-000001.tar")
    assert verify([f"{url}/test"]) == 1
    assert verify([f"{url}/test", "--repair"]) == 0
    assert list_files(f"{url}/test") == before
