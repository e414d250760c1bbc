import gzip

import pytest

from spae.data.records import ClassName
from spae.data.sources import SourceSettings
from spae.data.sources.synsets import load_annotations, shipped_names
from tests.image_layouts import (
    IDS,
    SYNSETS,
    development_kit,
    synset_tars,
    tar_bytes,
    train_pictures,
    val_pictures,
    write_files,
)

LIMIT = 1 << 24
WNIDS = sorted(SYNSETS)


def imagenet(url, annotations="", name="imagenet", **settings):
    return SourceSettings(name=name, url=str(url), split="train", annotations=str(annotations), **settings).open()


def sound(source):
    """What every image is: path, key, label, bytes."""
    entries = list(source.entries())
    assert not [entry.problem for entry in entries if entry.problem]
    return sorted((entry.path, entry.key, entry.label, source.read(entry, LIMIT)) for entry in entries)


TRAIN_FORMS = {
    "tar of tars": lambda folder, pictures: (
        write_files(folder, {"train.tar": tar_bytes(synset_tars(pictures).items())}) / "train.tar"
    ),
    "folder of tars": lambda folder, pictures: write_files(folder, synset_tars(pictures)),
    "folders": write_files,
    "tar of folders": lambda folder, pictures: (
        write_files(folder, {"all.tar": tar_bytes(pictures.items())}) / "all.tar"
    ),
}


@pytest.mark.parametrize("form", TRAIN_FORMS)
def test_every_form_of_the_training_images_gives_the_same(tmp_path, form):
    pictures = train_pictures()
    source = imagenet(TRAIN_FORMS[form](tmp_path / "images", pictures))
    rows = sound(source)
    assert {path: data for path, _, _, data in rows} == pictures
    assert all(path == f"{key.split('_')[0]}/{key}.JPEG" for path, key, _, _ in rows)
    assert all(label == WNIDS.index(path.split("/")[0]) for path, _, label, _ in rows)
    assert [row.wnid for row in source.classes()] == WNIDS


def test_class_names_are_the_first_synonyms(tmp_path):
    folder = write_files(tmp_path / "train", train_pictures())
    assert [row.name for row in imagenet(folder).classes()] == ["tench", "goldfish", "kit fox", "power drill"]
    names = write_files(tmp_path, {"LOC_synset_mapping.txt": b"n01440764 a fish, one\nn01443537 two\n"})
    classes = imagenet(folder, names / "LOC_synset_mapping.txt").classes()
    assert [(row.wnid, row.name) for row in classes] == [("n01440764", "a fish"), ("n01443537", "two")]


def test_names_that_ship_cover_all_classes_of_both_imagenets():
    names = shipped_names()
    assert len(names) > 21_800
    assert names["n00004475"] == "organism"


def test_unknown_synsets_and_stray_files_are_problems(tmp_path):
    folder = write_files(tmp_path / "train", {**train_pictures(1), "readme.txt": b"x", "dogs/a.JPEG": b"x"})
    mapping = write_files(tmp_path, {"synsets.txt": b"n01440764 449 tench\nn01443537 450 gold_fish\n"}) / "synsets.txt"
    source = imagenet(folder, mapping)
    assert [row.name for row in source.classes()] == ["tench", "gold fish"]
    assert {entry.path.split("/")[0]: entry.problem for entry in source.entries()} == {
        "n01440764": "",
        "n01443537": "",
        "n02119789": "unknown synset",
        "n03995372": "unknown synset",
        "readme.txt": "no synset",
        "dogs": "no synset folder",
    }


@pytest.fixture
def val(tmp_path):
    pictures, wnids = val_pictures()
    files = {"val.tar": tar_bytes(pictures.items()), **{f"flat/{name}": data for name, data in pictures.items()}}
    files |= {f"sorted/{wnid}/{name}": data for wnid, (name, data) in zip(wnids, pictures.items(), strict=True)}
    return write_files(tmp_path, files), pictures, wnids


@pytest.mark.parametrize("form", ["val.tar", "flat", "sorted"])
def test_every_form_of_the_validation_images_gives_the_same(val, form):
    root, pictures, wnids = val
    source = imagenet(root / form, development_kit(root / "devkit", wnids))
    rows = sound(source)
    found = {key: (label, data) for _, key, label, data in rows}
    expected = zip(pictures.items(), wnids, strict=True)
    assert found == {name.split(".")[0]: (WNIDS.index(wnid), data) for (name, data), wnid in expected}
    assert [(row.wnid, row.name) for row in source.classes()] == [(wnid, SYNSETS[wnid].split(",")[0]) for wnid in WNIDS]


def test_ground_truth_comes_in_several_forms(val):
    root, pictures, wnids = val
    rows = zip(pictures, wnids, strict=True)
    solution = "ImageId,PredictionString\n" + "".join(f"{n.split('.')[0]},{w} 1 2 3 4 {w} 1 2 3 4\n" for n, w in rows)
    files = {
        "one/LOC_val_solution.csv": solution,
        "two/imagenet_2012_validation_synset_labels.txt": "\n".join(wnids),
        "three/ILSVRC2012_validation_ground_truth.txt": "\n".join(str(IDS[wnid]) for wnid in wnids),
        "three/map_clsloc.txt": "".join(
            f"{wnid} {IDS[wnid]} {name.split(',')[0].replace(' ', '_')}\n" for wnid, name in SYNSETS.items()
        ),
    }
    write_files(root, {name: text.encode() for name, text in files.items()})
    labels = [
        [label for _, _, label, _ in sound(imagenet(root / "val.tar", root / form))]
        for form in ("one", "two", "three", "one/LOC_val_solution.csv")
    ]
    assert labels == [[WNIDS.index(wnid) for wnid in wnids]] * 4


def test_a_list_of_classes_is_no_ground_truth(val):
    root, _, wnids = val
    kit = development_kit(root / "kit", wnids)
    expected = imagenet(root / "val.tar", kit)
    entries, classes = list(expected.entries()), expected.classes()
    write_files(kit / "data", {"synsets.txt": "\n".join(reversed(WNIDS)).encode()})
    source = imagenet(root / "val.tar", kit)
    assert (list(source.entries()), source.classes()) == (entries, classes)
    assert imagenet(root / "val.tar", kit / "data" / "synsets.txt").classes()[0] == ClassName(0, "tench", "n01440764")


def test_unknown_ids_and_images_beyond_the_ground_truth_are_problems(val):
    root, _, wnids = val
    kit = development_kit(root / "devkit", wnids)
    truth = kit / "data" / "ILSVRC2012_validation_ground_truth.txt"
    truth.write_text("".join(["1001\n", *truth.read_text().splitlines(keepends=True)[1:7]]))
    problems = [entry.problem for entry in imagenet(root / "val.tar", kit).entries()]
    assert problems == ["unknown synset", *[""] * 6, "no synset"]


@pytest.mark.parametrize(
    ("files", "annotations", "message"),
    [
        ({"a/b.txt": b""}, "", "holds no n01440764.tar"),
        ({"x.txt": b"what is this"}, "x.txt", "is none of an annotation file"),
        ({"words.mat": b"no matrix"}, "words.mat", "is not the meta.mat"),
        ({"k/other.txt": b""}, "k", "LOC_synset_mapping.txt"),
        ({"t.txt": b"1\n2\n"}, "t.txt", "add meta.mat"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, files, annotations, message):
    write_files(tmp_path, files)
    with pytest.raises(ValueError, match=message):
        imagenet(tmp_path, annotations and tmp_path / annotations).classes()
    with pytest.raises(ValueError, match="does not exist"):
        imagenet(tmp_path / "nowhere").classes()


def test_21k_takes_the_synsets_that_are_there_and_names_from_a_list(tmp_path):
    tars = synset_tars(train_pictures(2))
    folder = write_files(tmp_path / "winter21", {**tars, "n00004475.tar": tar_bytes([]), "readme": b"x"})
    words = write_files(tmp_path, {"words.txt": b"n00001740\tentity\nn00004475\torganism, being\nn01440764\ta tench\n"})
    source = imagenet(folder, words / "words.txt", "imagenet21k")
    assert [row.wnid for row in source.classes()] == ["n00004475", *WNIDS]
    assert [row.name for row in source.classes()][:3] == ["organism", "a tench", "goldfish"]
    entries = list(source.entries())
    assert [entry.problem for entry in entries if entry.problem] == ["beside the tars of the synsets"]
    images = [entry for entry in entries if not entry.problem]
    assert [entry.label for entry in images] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert {entry.path: source.read(entry, LIMIT) for entry in images} == train_pictures(2)
    assert source.read(images[0], 10) == train_pictures(2)[images[0].path][:10]


def broken_train(folder):
    """The same tars in a folder and in a tar: one is none, one is cut."""
    tars = synset_tars(train_pictures(3))
    tars["n01443537.tar"] = b"no tar at all" * 100
    tars["n02119789.tar"] = tars["n02119789.tar"][: len(tars["n02119789.tar"]) // 3]
    write_files(folder, {"train.tar": tar_bytes(tars.items())})
    return write_files(folder / "tars", tars), folder / "train.tar"


def test_one_broken_tar_costs_one_entry_where_it_is_skipped(tmp_path, caplog):
    for url in broken_train(tmp_path):
        entries = list(imagenet(url, broken_containers="skip").entries())
        problems = sorted(entry.problem for entry in entries if entry.problem)
        assert problems == ["broken tar", "truncated tar"]
        assert len(entries) >= 3 + 1 + 1 + 3
        assert "2 containers cannot be read whole: n01443537.tar (broken tar: 0 members" in caplog.text
        caplog.clear()


def test_broken_tars_fail_unless_they_are_skipped(tmp_path):
    for url in broken_train(tmp_path):
        with pytest.raises(ValueError, match=r"2 containers .*n01443537.tar .broken.*n02119789.tar .truncated .*skip"):
            list(imagenet(url).entries())


def test_a_train_tar_that_is_cut_fails_and_says_what_was_read(tmp_path):
    whole = tar_bytes(synset_tars(train_pictures(3)).items())
    write_files(tmp_path, {"train.tar": whole[: len(whole) // 2]})
    with pytest.raises(ValueError, match=r"train.tar .truncated tar: [12] members, .* of .* bytes were read"):
        list(imagenet(tmp_path / "train.tar").entries())


@pytest.mark.parametrize("name", ["n01443537.tar.gz", "n01443537.tgz", "n01443537.tar"])
def test_compressed_tars_and_folders_beside_tars_fail(tmp_path, name):
    tars = synset_tars(train_pictures(2))
    tars[name] = gzip.compress(tars.pop("n01443537.tar"))
    with pytest.raises(ValueError, match=r"n01443537.tar .compressed tar: unpack it first"):
        list(imagenet(write_files(tmp_path, tars)).entries())


def test_a_synset_folder_beside_tars_fails(tmp_path):
    tars = synset_tars(train_pictures(2))
    folder = write_files(tmp_path, {**tars, "n01443538/a.JPEG": b"x"})
    with pytest.raises(ValueError, match=r"n01443538 .a folder beside the tars"):
        list(imagenet(folder).entries())


def test_another_number_of_classes_than_a_thousand_is_told(tmp_path, caplog):
    folder = write_files(tmp_path, train_pictures(1))
    list(imagenet(folder).entries())
    assert "ILSVRC2012 has 1000 classes, these are 4" in caplog.text
    caplog.clear()
    list(imagenet(folder, name="imagenet21k").entries())
    assert not caplog.text


def test_the_annotations_of_a_devkit_are_the_leaves(tmp_path):
    found = load_annotations(str(development_kit(tmp_path, ["n01440764"])))
    assert found.ids == {number: wnid for wnid, number in IDS.items()}
    assert found.truths == {1: 449}
