#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes a GGUF file of DeepSeek-V2-Lite's shape with random weights in 4 bits, for a peer to run.

usage: bench/decode/make_gguf.py FILE.gguf [--kind Q4_0|Q4_K] [--seed 1]

Needs numpy and gguf (PyPI). The file has 8.3 GiB and no vocabulary. Codes are uniform; scales give
weights the standard deviation 1 / sqrt(inputs), so that logits stay finite. One tensor is in memory
at a time.
"""
import argparse
import sys

import gguf
import numpy

sys.dont_write_bytecode = True  # no folder of it beside the sources
import shape  # noqa: E402

# Standard deviation of a weight where the block's scale is 1, and the second scale over the first.
# Q4_0: w = d (q - 8). Q4_K: w = d s q - dmin m with s and m in 6 bits; dmin = 7.5 d centres it.
SPREAD = {"Q4_0": 4.64, "Q4_K": 258}
SECOND_SCALE = {"Q4_K": 7.5}


def scales(kind, inputs, times=1.0):
    """256 scales of half precision around the wanted one, as their bits."""
    middle = times / (SPREAD[kind] * inputs ** 0.5)
    return (middle * numpy.linspace(0.75, 1.25, 256)).astype(numpy.float16).view(numpy.uint16)


def random_blocks(rng, kind, shape_of):
    """Bytes [..., bytes of a row]: random blocks, whose scales a random byte chooses."""
    numbers, size = shape.BLOCKS[kind]
    row = shape_of[-1] // numbers * size
    wanted = int(numpy.prod(shape_of[:-1])) * row
    drawn = rng.integers(0, 2**64 - 1, size=-(-wanted // 8), dtype=numpy.uint64, endpoint=True)
    blocks = drawn.view(numpy.uint8)[:wanted].view(numpy.uint16).reshape(-1, size // 2)
    blocks[:, 0] = scales(kind, shape_of[-1])[blocks[:, 0] & 255]
    if kind in SECOND_SCALE:
        blocks[:, 1] = scales(kind, shape_of[-1], SECOND_SCALE[kind])[blocks[:, 1] & 255]
    return blocks.view(numpy.uint8).reshape(*shape_of[:-1], row)


def values(rng, tensor, kind):
    if tensor.role == "norm":
        return numpy.ones(tensor.shape, numpy.float32)
    if tensor.role == "router":
        deviation = tensor.shape[-1] ** -0.5
        return (rng.standard_normal(tensor.shape) * deviation).astype(numpy.float32)
    return random_blocks(rng, shape.fitting(kind, tensor.shape[-1]), tensor.shape)


def declare(writer, tensor, kind):
    if tensor.role in ("norm", "router"):
        return writer.add_tensor_info(tensor.name, tensor.shape, numpy.dtype(numpy.float32),
                                      tensor.count * 4)
    stored = shape.fitting(kind, tensor.shape[-1])
    numbers, size = shape.BLOCKS[stored]
    row = tensor.shape[-1] // numbers * size
    return writer.add_tensor_info(tensor.name, (*tensor.shape[:-1], row), numpy.dtype(numpy.uint8),
                                  tensor.count // numbers * size,
                                  gguf.GGMLQuantizationType[stored])


def describe(writer):
    writer.add_name("random weights, the shape of DeepSeek-V2-Lite")
    writer.add_vocab_size(shape.VOCABULARY)
    writer.add_context_length(shape.CONTEXT)
    writer.add_embedding_length(shape.DIM)
    writer.add_block_count(shape.LAYERS)
    writer.add_leading_dense_block_count(shape.DENSE_LAYERS)
    writer.add_feed_forward_length(shape.HIDDEN)
    writer.add_layer_norm_rms_eps(shape.EPS)
    writer.add_head_count(shape.HEADS)
    writer.add_head_count_kv(shape.HEADS)
    writer.add_kv_lora_rank(shape.KV_RANK)
    writer.add_key_length(shape.NOPE + shape.ROPE)
    writer.add_value_length(shape.VALUE)
    writer.add_rope_dimension_count(shape.ROPE)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(shape.ROPE_FACTOR)
    writer.add_rope_scaling_orig_ctx_len(shape.ROPE_ORIGINAL)
    writer.add_rope_scaling_yarn_log_mul(0.1 * shape.ROPE_MSCALE)
    writer.add_expert_count(shape.ROUTED)
    writer.add_expert_used_count(shape.ACTIVE)
    writer.add_expert_shared_count(shape.SHARED)
    writer.add_expert_feed_forward_length(shape.EXPERT_HIDDEN)
    writer.add_expert_weights_scale(1.0)
    writer.add_expert_weights_norm(False)
    writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SOFTMAX)
    writer.add_tokenizer_model("no_vocab")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("--kind", choices=shape.BLOCKS, default="Q4_0")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    writer = gguf.GGUFWriter(options.file, "deepseek2")
    describe(writer)
    writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{options.kind}" +
                                            ("_S" if options.kind == "Q4_K" else "")])
    for tensor in shape.tensors():
        declare(writer, tensor, options.kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    rng = numpy.random.default_rng(options.seed)
    for tensor in shape.tensors():
        writer.write_tensor_data(values(rng, tensor, options.kind))
    writer.close()
    print(f"{options.file}: {shape.parameters()} parameters, "
          f"{shape.stored(shape.PEER) / 2**30:.2f} GiB")


if __name__ == "__main__":
    main()
