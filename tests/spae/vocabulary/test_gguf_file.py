"""The header of GGUF files, sound, cut and hostile."""

import contextlib
import functools
import struct
import sys
import tracemalloc

import gguf
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spae.vocabulary.embedding_files import read_table_file
from spae.vocabulary.gguf_file import GgufFile
from tests.tiny_gguf import LAYERS, save_gguf

KINDS = {
    Kind.F32: 0.0,
    Kind.F16: 1e-3,
    Kind.BF16: 1e-2,
    Kind.Q8_0: 0.02,
    Kind.Q5_0: 0.3,
    Kind.Q4_0: 0.6,
    Kind.Q4_1: 0.6,
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    save_gguf(path, Kind.F16)
    return path


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_rows_are_those_that_were_written_as_far_as_their_type_goes(kind, tmp_path):
    rows = torch.from_numpy(save_gguf(tmp_path / "tiny.gguf", kind))
    name, table = read_table_file(tmp_path / "tiny.gguf")
    assert (name, table.dtype, table.shape) == ("token_embd.weight", torch.float32, rows.shape)
    assert GgufFile(tmp_path / "tiny.gguf").kind(name) == kind.name
    assert (table - rows).abs().max() <= KINDS[kind]
    assert torch.equal(table, torch.from_numpy(gguf.dequantize(gguf.quantize(rows.numpy(), kind), kind)))


def test_the_header_is_what_the_librarys_own_reader_finds(sound):
    ours, theirs = GgufFile(sound), gguf.GGUFReader(sound)
    assert list(ours.tensors) == [tensor.name for tensor in theirs.tensors]
    for tensor in theirs.tensors:
        found = ours.tensors[tensor.name]
        assert found.shape == tuple(int(size) for size in reversed(tensor.shape))
        assert (found.kind, found.start, found.size) == (tensor.tensor_type, tensor.data_offset, tensor.n_bytes)
    arrays = {name for name, field in theirs.fields.items() if gguf.GGUFValueType.ARRAY in field.types}
    single = {name: field for name, field in theirs.fields.items() if not name.startswith("GGUF.")}
    assert ours.fields == {name: field.contents() for name, field in single.items() if name not in arrays}
    assert ours.fields["llama.block_count"] == LAYERS
    assert {"tokenizer.ggml.tokens", "tokenizer.ggml.merges"} <= arrays


def written(sound, data):
    path = sound.parent / "other.gguf"
    path.write_bytes(data)
    return path


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_that_is_cut_anywhere_is_refused(sound, share):
    data = sound.read_bytes()
    with pytest.raises(ValueError, match=r"other\.gguf is"):
        GgufFile(written(sound, data[: int(share * len(data))]))


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), value=st.binary(min_size=1, max_size=8))
def test_a_damaged_header_is_read_or_refused(sound, place, value):
    data = bytearray(sound.read_bytes())
    start = int(place * GgufFile(sound).tensors["token_embd.weight"].start)
    data[start : start + len(value)] = value
    with contextlib.suppress(ValueError):
        _, rows = read_table_file(written(sound, data))
        assert rows.ndim == 2


def text(value):
    return struct.pack("<Q", len(value)) + value


def header(fields=b"", tensors=b"", field_count=1, tensor_count=0, version=3):
    return b"GGUF" + struct.pack("<IQQ", version, tensor_count, field_count) + fields + tensors


def tensor(name, shape, kind, offset=0):
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


one_tensor = functools.partial(header, field_count=0, tensor_count=1)
ALIGNED = functools.partial(struct.pack, "<II")
HOSTILE = {
    "array without end": (header(text(b"x") + struct.pack("<IIQ", 9, 4, 2**40)), "more than 4194304"),
    "array beyond the file": (header(text(b"x") + struct.pack("<IIQ", 9, 12, 2**21)), "would reach byte"),
    "array of arrays": (header(text(b"x") + struct.pack("<IIQ", 9, 9, 1)), "an array of type 9"),
    "endless name": (header(struct.pack("<Q", 2**63)), "a text of"),
    "unknown field": (header(text(b"x") + struct.pack("<I", 13)), "a field of type 13"),
    "many fields": (header(field_count=2**62), "more than 4194304"),
    "many tensors": (header(field_count=0, tensor_count=2**62), "more than 4194304"),
    "many dimensions": (one_tensor(tensors=text(b"t") + struct.pack("<I", 2**31)), "dimensions, over 4"),
    "huge tensor": (one_tensor(tensors=tensor(b"token_embd.weight", (2**40, 2**20), 8)), "would end at byte"),
    "far tensor": (one_tensor(tensors=tensor(b"token_embd.weight", (32, 1), 0, 2**62)), "would end at byte"),
    "no alignment": (header(text(b"general.alignment") + ALIGNED(4, 0)), "general.alignment 0"),
    "version 1": (header(version=1), "version 1"),
    "other byte order": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "version 50331648"),
    "no UTF-8": (header(text(b"\xff") + ALIGNED(4, 1)), "utf-8"),
    "tensor twice": (header(tensors=tensor(b"t", (1,), 0) * 2, field_count=0, tensor_count=2) + bytes(64), "twice"),
}


@pytest.mark.parametrize("how", HOSTILE)
def test_what_a_file_promises_is_held_against_its_size_first(how, tmp_path):
    data, reason = HOSTILE[how]
    (tmp_path / "x.gguf").write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=rf"x\.gguf is a damaged GGUF file.*{reason}"):
            GgufFile(tmp_path / "x.gguf")
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("shape", "kind", "reason"),
    [
        ((2**31, 1, 2), 999, "is no table of at most"),  # of an unknown type, whose size is not held against the file's
        ((2**20, 2**12), 999, "is no table of at most"),
        ((32, 3), 999, "999 is not a valid"),
        ((33, 32), Kind.Q8_0, "not made of whole blocks"),
        ((4, 4), Kind.I32, "not yet implemented"),
        ((32, 0), Kind.F32, "is no table"),
        ((32,), Kind.F32, "is no table"),
    ],
)
def test_a_tensor_that_is_no_table_is_one_clear_error(shape, kind, reason, tmp_path):
    data = one_tensor(tensors=tensor(b"token_embd.weight", shape, int(kind))) + bytes(8192)
    (tmp_path / "x.gguf").write_bytes(data)
    with pytest.raises(ValueError, match=reason):
        read_table_file(tmp_path / "x.gguf")


def test_what_is_no_gguf_file_and_a_missing_library_are_named(sound, tmp_path, monkeypatch):
    for data in (b"", b"GG", b"PK\x03\x04 and so on"):
        (tmp_path / "x.gguf").write_bytes(data)
        with pytest.raises(ValueError, match="is no GGUF file"):
            GgufFile(tmp_path / "x.gguf")
    with pytest.raises(ValueError, match="no tensor 'nowhere' among"):
        read_table_file(sound, "nowhere")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ImportError, match=r"install the extra `spae\[llm\]`"):
        GgufFile(sound)
