import dataclasses
import hashlib
import json
import os
import uuid

import duckdb
import pytest
import torch
from safetensors.torch import load_file, save_file

from spae.pyramid import TokenPyramid
from spae.vocabulary import Vocabulary
from spae.vocabulary.record import SemanticsRecord, VocabularyRecord
from spae.vocabulary.transforms import center_and_scale

SEMANTICS = SemanticsRecord(
    clip="ViT-L-14-quickgelu",
    clip_weights="openai",
    architecture_sha256="a" * 64,
    weights_sha256="b" * 64,
    activation="quick_gelu",
    image_size=224,
    mean=(0.48, 0.46, 0.41),
    std=(0.27, 0.26, 0.28),
    interpolation="bicubic",
    golden_cosine=0.2,
    template_set="imagenet-80",
    templates=("a photo of a {}.", "a tattoo of the {}."),
    templates_sha256="c" * 64,
)


@pytest.fixture
def vocabulary():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(7, 5, generator=generator)
    table, mean = center_and_scale(rows)
    record = VocabularyRecord(
        llm="tiny", llm_revision="1", embeddings_source="weight", counts={"kept": 7, "special": 2}, semantics=SEMANTICS
    )
    return Vocabulary(
        word_list=("zero", "one", "two", "Löwe", "四", " leading", 'quote"'),
        llm_ids=torch.tensor([10, 4, 8, 2, 6, 30_000, 1]),
        embeddings=table,
        semantics=torch.randn(7, 3, generator=generator),
        record=record,
        transform={"mean": mean},
    )


@pytest.fixture(params=["plain", "file", "memory"])
def url(request, tmp_path):
    return {
        "plain": str(tmp_path / "vocabulary"),
        "file": f"file://{tmp_path}/vocabulary/",
        "memory": f"memory://{uuid.uuid4()}/vocabulary",
    }[request.param]


def test_saving_and_loading_is_the_identity(vocabulary, url):
    vocabulary.save(url)
    loaded = Vocabulary.load(url)
    assert loaded.word_list == vocabulary.word_list
    assert torch.equal(loaded.llm_ids, vocabulary.llm_ids)
    assert torch.equal(loaded.embeddings, vocabulary.embeddings)
    assert torch.equal(loaded.semantics, vocabulary.semantics)
    assert torch.equal(loaded.transform["mean"], vocabulary.transform["mean"])
    assert loaded.record == vocabulary.record
    assert loaded.words_fingerprint == vocabulary.words_fingerprint
    assert loaded.semantics_fingerprint == vocabulary.semantics_fingerprint
    assert (len(loaded), loaded.width) == (7, 5)


def test_the_folder_is_what_the_contract_says(vocabulary, tmp_path):
    vocabulary.save(str(tmp_path))
    files = [
        "embeddings.safetensors",
        "semantics.safetensors",
        "transform.safetensors",
        "vocabulary.json",
        "words.parquet",
    ]
    assert sorted(os.listdir(tmp_path)) == files
    rows = duckdb.sql(f"select id, llm_id, word from '{tmp_path}/words.parquet' order by id").fetchall()
    assert rows == list(zip(range(7), [10, 4, 8, 2, 6, 30_000, 1], vocabulary.word_list, strict=True))
    description = json.loads((tmp_path / "vocabulary.json").read_text())
    assert description["format_version"] == 1
    assert (description["words"], description["width"], description["semantics_width"]) == (7, 5, 3)
    assert description["words_fingerprint"] == vocabulary.words_fingerprint
    assert description["semantics"]["templates"] == list(SEMANTICS.templates)
    assert set(load_file(tmp_path / "embeddings.safetensors")) == {"embeddings"}


def test_words_and_semantics_have_fingerprints_of_their_own(vocabulary):
    bare = vocabulary.without_semantics()
    assert bare.words_fingerprint == vocabulary.words_fingerprint
    assert bare.semantics is None
    assert bare.semantics_fingerprint is None
    assert bare.record.semantics is None

    def with_record(**changes):
        semantics = dataclasses.replace(SEMANTICS, **changes)
        return dataclasses.replace(vocabulary, record=dataclasses.replace(vocabulary.record, semantics=semantics))

    assert with_record(clip="local-dir:/elsewhere").semantics_fingerprint == vocabulary.semantics_fingerprint
    for change in (
        {"weights_sha256": "d" * 64},
        {"templates": ("{}",)},
        {"mean": (0.5, 0.5, 0.5)},
    ):
        other = with_record(**change)
        assert other.semantics_fingerprint != vocabulary.semantics_fingerprint
        assert other.words_fingerprint == vocabulary.words_fingerprint


@pytest.mark.parametrize("change", ["word", "order", "id", "embedding", "mean", "table"])
def test_every_part_enters_the_words_fingerprint(vocabulary, change):
    words, ids, table = list(vocabulary.word_list), vocabulary.llm_ids.clone(), vocabulary.embeddings.clone()
    transform, record = vocabulary.transform, vocabulary.record
    if change == "word":
        words[1] = "uno"
    elif change == "order":
        words[0], words[1] = words[1], words[0]
    elif change == "id":
        ids[0] = 11
    elif change == "embedding":
        table[3, 2] += 1e-6
    elif change == "mean":
        transform = {"mean": transform["mean"] + 1e-6}
    else:
        record = dataclasses.replace(record, table="raw")
    other = dataclasses.replace(
        vocabulary, word_list=tuple(words), llm_ids=ids, embeddings=table, transform=transform, record=record
    )
    assert other.words_fingerprint != vocabulary.words_fingerprint


def test_fingerprints_are_the_same_on_every_machine(vocabulary):
    """Written out once: a change of these values is a change of format, and all models lose their vocabulary."""
    exact = dataclasses.replace(
        vocabulary, embeddings=torch.arange(35.0).reshape(7, 5), transform={"mean": torch.arange(5.0)}
    )
    assert exact.words_fingerprint == "bbdbe004477b5eddb5b721ec1d53d69c150fec3d461544fcd653115cc393cb3e"
    assert exact.semantics_fingerprint == "9be5106f3fe8049106cf80887e521d34f9c68a3aac701651836c782ddd7aa0dd"


def test_words_come_layer_by_layer_in_raster_order(vocabulary):
    pyramid = TokenPyramid((torch.tensor([[[2]], [[6]]]), torch.tensor([[[0, 1], [2, 3]], [[4, 4], [5, 0]]])))
    assert vocabulary.words(pyramid, layers=1) == [["two"], ['quote"']]
    assert vocabulary.words(pyramid) == [
        ["two", "zero", "one", "two", "Löwe"],
        ['quote"', "四", "四", " leading", "zero"],
    ]
    with pytest.raises(ValueError, match="ids 0 to 7 are outside this vocabulary of 7 words"):
        vocabulary.words(TokenPyramid((torch.tensor([[[0, 7]]]),)))


def test_saving_without_semantics_leaves_no_old_semantics(vocabulary, url):
    vocabulary.save(url)
    vocabulary.without_semantics().save(url)
    loaded = Vocabulary.load(url)
    assert loaded.semantics is None
    assert loaded.record.semantics is None


TEXTS = {"not json": "{", "json list": "[1]", "deep": "[" * 100_000}
CHANGES = {
    "other format": {"format_version": 2},
    "words beyond number": {"words": 10**18},
    "fewer words told": {"words": 6},
    "other fingerprint": {"words_fingerprint": "0" * 64},
}


def damage(folder, part):  # noqa: C901
    record = folder / "vocabulary.json"
    description = json.loads(record.read_text())
    if part == "nothing here":
        for file in folder.iterdir():
            file.unlink()
    elif part == "unfinished":
        record.unlink()
    elif part in TEXTS:
        record.write_text(TEXTS[part])
    elif part in CHANGES:
        record.write_text(json.dumps({**description, **CHANGES[part]}))
    elif part == "field gone":
        del description["llm"]
        record.write_text(json.dumps(description))
    elif part == "file gone":
        (folder / "words.parquet").unlink()
    elif part == "truncated tensors":
        data = (folder / "embeddings.safetensors").read_bytes()
        (folder / "embeddings.safetensors").write_bytes(data[:-8])
    elif part == "truncated words":
        data = (folder / "words.parquet").read_bytes()
        (folder / "words.parquet").write_bytes(data[:-8])
    elif part == "huge file":
        with (folder / "embeddings.safetensors").open("ab") as file:
            file.truncate(50_000_000)
    elif part == "other semantics told":
        description["semantics"]["weights_sha256"] = "0" * 64
        record.write_text(json.dumps(description))
    elif part in ("NaN row", "other rows", "other shape"):
        table = load_file(folder / "embeddings.safetensors")["embeddings"]
        changed = {"NaN row": table.clone().fill_(torch.nan), "other rows": table * 2, "other shape": table[:6]}[part]
        save_file({"embeddings": changed.contiguous()}, folder / "embeddings.safetensors")
        sha256 = hashlib.sha256((folder / "embeddings.safetensors").read_bytes()).hexdigest()
        description["files"]["embeddings.safetensors"] = sha256
        record.write_text(json.dumps(description))


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ("nothing here", "No such file"),
        ("unfinished", "No such file"),
        ("not json", "Expecting property name"),
        ("json list", "list indices"),
        ("deep", "recursion"),
        ("words beyond number", "cannot fit"),
        ("other format", "format_version 2 is not 1"),
        ("field gone", "no 'llm' in it"),
        ("file gone", "No such file"),
        ("truncated tensors", "embeddings.safetensors .* is damaged"),
        ("truncated words", "words.parquet .* is damaged"),
        ("huge file", "larger than the"),
        ("fewer words told", "ids 0 to 5"),
        ("other fingerprint", "words_fingerprint"),
        ("other semantics told", "semantics_fingerprint"),
        ("NaN row", "row 0 holds NaN"),
        ("other rows", "words_fingerprint"),
        ("other shape", r"\(6, 5\)"),
    ],
)
def test_a_damaged_folder_is_one_clear_error(vocabulary, tmp_path, part, reason):
    vocabulary.save(str(tmp_path))
    damage(tmp_path, part)
    with pytest.raises(ValueError, match=f"(?s)not a usable vocabulary folder.*{reason}.*pipelines.vocabulary"):
        Vocabulary.load(str(tmp_path))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"word_list": ("a",) * 7}, "each once"),
        ({"llm_ids": torch.zeros(7, dtype=torch.int64)}, "each id once"),
        ({"llm_ids": torch.arange(7, dtype=torch.int32)}, "must be int64"),
        ({"embeddings": torch.zeros(6, 5)}, "embeddings"),
        ({"embeddings": torch.zeros(7, 5, dtype=torch.float64)}, "must be float32"),
        ({"semantics": torch.full((7, 3), torch.inf)}, "semantics row 0"),
        ({"semantics": None}, "belong together"),
    ],
)
def test_parts_that_do_not_fit_are_refused(vocabulary, changes, reason):
    with pytest.raises(ValueError, match=reason):
        dataclasses.replace(vocabulary, **changes)


def test_a_killed_save_leaves_no_folder_that_loads(vocabulary, tmp_path, monkeypatch):
    vocabulary.save(str(tmp_path))
    other = dataclasses.replace(vocabulary, llm_ids=vocabulary.llm_ids + 1)

    def killed(*arguments, **keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr("spae.vocabulary.folder._pack", killed)
    with pytest.raises(KeyboardInterrupt):
        other.save(str(tmp_path))
    monkeypatch.undo()
    assert Vocabulary.load(str(tmp_path)).words_fingerprint == vocabulary.words_fingerprint, "nothing was touched yet"

    from spae.vocabulary import folder as module

    published = []

    def killed_at_third(url, data):
        published.append(url)
        if len(published) == 3:
            raise KeyboardInterrupt
        publish(url, data)

    publish = module.publish
    monkeypatch.setattr(module, "publish", killed_at_third)
    with pytest.raises(KeyboardInterrupt):
        other.save(str(tmp_path))
    with pytest.raises(ValueError, match="not a usable vocabulary folder"):
        Vocabulary.load(str(tmp_path))
    monkeypatch.undo()
    other.save(str(tmp_path))
    assert Vocabulary.load(str(tmp_path)).words_fingerprint == other.words_fingerprint


def test_a_folder_from_before_projections_is_read(vocabulary, tmp_path):
    vocabulary.save(str(tmp_path))
    description = json.loads((tmp_path / "vocabulary.json").read_text())
    del description["projected_width"]
    (tmp_path / "vocabulary.json").write_text(json.dumps(description))
    assert Vocabulary.load(str(tmp_path)).record.projected_width is None
