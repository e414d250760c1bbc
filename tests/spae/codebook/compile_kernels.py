"""Compile the kernels for devices that need not be there; prints each one's shared memory in bytes.

A program of its own: whether Triton compiles or interprets is decided where it is first imported.
"""

import sys

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from spae.codebook import kernels

SEARCH_TYPES = [*["*fp16"] * 2, *["*fp32"] * 3, "*i32", "*fp32", *["i32"] * 4]
SOFTMAX_TYPES = [*["*fp32"] * 2, "*i64", "*fp32", "i32"]


def compile_for(capability: int, kernel, types: list[str], constants: dict[str, int], **options: int) -> int:
    names = kernel.arg_names[: len(types)]
    signature = dict(zip(names, types, strict=True)) | dict.fromkeys(constants, "constexpr")
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options).metadata.shared


def main() -> None:
    for capability, tiles in ((80, kernels.LARGE), (90, kernels.LARGE), (89, kernels.SMALL)):
        constants = {"BLOCK_ROWS": tiles.rows, "BLOCK_WORDS": tiles.words, "BLOCK_COLUMNS": tiles.columns}
        options = {"num_warps": tiles.warps, "num_stages": tiles.stages}
        shared = compile_for(capability, kernels._best_words, SEARCH_TYPES, constants, **options)
        softmax = compile_for(capability, kernels._softmax_and_losses, SOFTMAX_TYPES, {"BLOCK_WORDS": 4_096})
        sys.stdout.write(f"{capability} {shared} {softmax}\n")


if __name__ == "__main__":
    main()
