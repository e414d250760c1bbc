"""Faster networks: what of the words stays, where it is recorded, and that kinds are not mixed unawares."""

import dataclasses

import pytest
import torch

from jobs.tokens.plan import TokenPlan, make_plan, refuse_mixture
from jobs.tokens.precision import check_precision, computing_in, measure_agreement
from spae.data.records import load_index
from spae.data.token_table import FoundTokenTable, TokenTableFooter, read_token_table
from tests.tiny_shards import write_split
from tests.tiny_tokens import token_footer, token_job, tokenize_shard


def test_bfloat16_changes_few_words_and_the_footer_says_how_many(model, split, tmp_path):
    shard = load_index(split).shards[0]
    job = dataclasses.replace(token_job(model, tmp_path / "fast"), dtype="bfloat16")
    agreement = measure_agreement(shard, job)
    tokenize_shard(dataclasses.replace(job, agreement=agreement), shard)
    tokenize_shard(token_job(model, tmp_path / "exact"), shard)
    fast, footer = read_token_table(f"{tmp_path}/fast/{shard.name}.parquet")
    exact, of_exact = read_token_table(f"{tmp_path}/exact/{shard.name}.parquet")
    assert (footer.dtype, footer.agreement) == ("bfloat16", agreement)
    assert (of_exact.dtype, of_exact.agreement) == ("float32", None)
    same = sum((one == other).sum() for one, other in zip(fast.layers, exact.layers, strict=True))
    assert agreement == pytest.approx(same / sum(ids.size for ids in exact.layers))
    assert 0.8 < agreement < 1


def test_float32_agrees_with_itself_and_no_picture_with_nothing(model, split, tmp_path):
    job = token_job(model, tmp_path)
    assert measure_agreement(load_index(split).shards[0], job) == 1
    broken = write_split(tmp_path / "broken", [[("a", b"broken", 1)]])
    assert measure_agreement(load_index(broken).shards[0], job) is None


def test_footers_keep_the_agreement_and_float32s_are_as_before():
    fast = token_footer(dtype="bfloat16", agreement=0.9921875)
    metadata = {key.encode(): value.encode() for key, value in fast.to_metadata().items()}
    assert TokenTableFooter.from_metadata(metadata) == fast
    assert "spae.agreement" not in token_footer().to_metadata()


def test_settings_of_torch_are_as_before_behind_it():
    before = torch.backends.cuda.matmul.allow_tf32
    with computing_in("tf32", "cuda"):
        assert torch.backends.cuda.matmul.allow_tf32
        assert torch.backends.cudnn.allow_tf32
    assert torch.backends.cuda.matmul.allow_tf32 == before
    with computing_in("bfloat16", "cpu"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16


def test_tf32_is_refused_on_a_cpu():
    check_precision("tf32", "cuda")
    with pytest.raises(ValueError, match="give --device cuda, or another --dtype"):
        check_precision("tf32", "cpu")


@pytest.mark.parametrize(
    ("device", "dtype", "fits"),
    [("cpu", "float32", True), ("cpu", "bfloat16", False), ("cuda", "float32", False), ("cuda", "tf32", False)],
)
def test_kinds_that_differ_are_refused(split, device, dtype, fits):
    shards, identity = load_index(split).shards, {"model_fingerprint": "m"}
    footer = token_footer(source_sha256=shards[0].sha256)
    tables = {shards[0].name: FoundTokenTable(footer, 1), "cut": FoundTokenTable(None, 1)}
    plan = make_plan(shards, tables, identity, replace=False)
    if fits:
        refuse_mixture(tables, plan, device, dtype)
        return
    with pytest.raises(ValueError, match=r"test-000000.parquet was made on cpu in float32, .* or --allow-mixture"):
        refuse_mixture(tables, plan, device, dtype)
    refuse_mixture(tables, TokenPlan(todo=shards, done=()), device, dtype)


def test_the_first_shard_of_all_is_the_measure_whatever_is_done(split):
    shards, identity = load_index(split).shards, {"model_fingerprint": "m"}
    tables = {shards[0].name: FoundTokenTable(token_footer(source_sha256=shards[0].sha256), 1)}
    for known in ({}, tables):
        assert make_plan(shards, known, identity, replace=False).first == shards[0]
