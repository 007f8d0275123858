#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the tiny checkpoints and their logits that tests/parity/*.cpp compare with.

  python3 -m venv /tmp/parity
  /tmp/parity/bin/pip install torch==2.10.0 transformers==5.24.0 numpy==2.4.6 safetensors==0.8.0
  /tmp/parity/bin/python tests/parity/make_checkpoints.py tests/parity/golden

Each case is a random model of a published class, written by that class in the Hugging Face layout,
and its logits at every position of two prompts, computed in float32 (eager attention, whole prompt
at once). A name that ends in _bf16 holds the weights rounded to bfloat16; its `logits` are those of
the rounded weights in float32, its `bf16_logits` what the class itself gives in bfloat16. Weights are drawn so that every branch matters: a wrong rotation,
scale or gate moves the logits by far more than the tests allow (the script prints by how much).
Prompts are grown token by token so that no choice of an expert hangs on a rounding error.
"""
import argparse
import copy
import json
import pathlib
import shutil

import numpy
import torch
import transformers
from safetensors.torch import load_file, save_file

LENGTHS = (16, 7)  # of the two prompts
MARGIN = 0.04  # smallest relative gap between a choice and what it leaves
SMALL = dict(vocab_size=48, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
             max_position_embeddings=64, bos_token_id=0, eos_token_id=1, pad_token_id=None)
DENSE = dict(SMALL, num_key_value_heads=2, intermediate_size=40)
LATENT = dict(SMALL, num_hidden_layers=3, num_key_value_heads=4, intermediate_size=40,
              moe_intermediate_size=12, n_routed_experts=8, n_shared_experts=2,
              first_k_dense_replace=1, kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=4,
              v_head_dim=6)


def yarn(mscale):
    # Bounds that lie inside four rotary dimensions need a short original context.
    return dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=16, beta_fast=32,
                beta_slow=1, mscale=mscale, mscale_all_dim=mscale, rope_theta=100.0)


# name -> (class, config, files of at most so many bytes)
CASES = {
    "llama_llama3": ("Llama", dict(DENSE, rms_norm_eps=1e-5, rope_parameters=dict(
        rope_type="llama3", rope_theta=100.0, factor=8.0, low_freq_factor=1.0,
        high_freq_factor=4.0, original_max_position_embeddings=16)), None),
    "llama_linear": ("Llama", dict(DENSE, head_dim=8, rms_norm_eps=1e-6, rope_parameters=dict(
        rope_type="linear", rope_theta=100000.0, factor=4.0)), 10000),
    "qwen2": ("Qwen2", dict(DENSE, rms_norm_eps=1e-6, tie_word_embeddings=False,
                            rope_parameters=dict(rope_type="default", rope_theta=10000.0)), None),
    "qwen2_tied": ("Qwen2", dict(DENSE, rms_norm_eps=1e-6, tie_word_embeddings=True,
                                 rope_parameters=dict(rope_type="default", rope_theta=10000.0)),
                   None),
    "deepseek_v2_lite": ("DeepseekV2", dict(
        LATENT, q_lora_rank=None, topk_method="greedy", num_experts_per_tok=3, n_group=1,
        topk_group=1, routed_scaling_factor=1.0, norm_topk_prob=False,
        rope_parameters=yarn(0.707)), None),
    "deepseek_v2": ("DeepseekV2", dict(
        LATENT, q_lora_rank=20, topk_method="group_limited_greedy", num_experts_per_tok=3,
        n_group=4, topk_group=2, routed_scaling_factor=16.0, norm_topk_prob=False,
        rope_parameters=yarn(0.707)), 60000),
    "deepseek_v3": ("DeepseekV3", dict(
        LATENT, q_lora_rank=20, num_experts_per_tok=3, n_group=4, topk_group=2,
        routed_scaling_factor=2.5, norm_topk_prob=True, num_nextn_predict_layers=1,
        rope_parameters=yarn(1.0)), None),
    "deepseek_v32": ("DeepseekV32", dict(
        LATENT, num_hidden_layers=2, q_lora_rank=20, num_experts_per_tok=3, n_group=4,
        topk_group=2, routed_scaling_factor=2.5, norm_topk_prob=True, index_n_heads=2,
        index_head_dim=8, index_topk=6, rope_parameters=yarn(1.0)), None),
}
NO_BF16 = {"llama_linear", "qwen2_tied", "deepseek_v32"}  # kept small
FP8 = {"deepseek_v3"}  # also in blocks of 8-bit floats
FP8_BLOCK = 16


def make_config(kind, values):
    return getattr(transformers, kind + "Config")(**copy.deepcopy(values))


def make_model(kind, values, seed):
    config = make_config(kind, values)
    config._attn_implementation = config._experts_implementation = "eager"
    model = getattr(transformers, kind + "ForCausalLM")(config).float().eval()
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in list(model.named_parameters()) + list(model.named_buffers()):
            if "inv_freq" in name:
                continue
            noise = torch.randn(tensor.shape, generator=draw)
            if "norm" in name:
                tensor.copy_(1 + 0.2 * noise)
            elif name.endswith("bias"):
                tensor.copy_(0.2 * noise)  # also below zero where it selects experts
            elif "embed" in name:
                tensor.copy_(noise)
            else:
                tensor.copy_(noise / tensor.shape[-1] ** 0.5)
            if "o_proj" in name or "down_proj" in name:  # a branch adds about half of the stream
                routed = values.get("routed_scaling_factor", 1) if "experts.down" in name else 1
                tensor.mul_(0.5 / routed)
    return model


def logits_of(model, prompts):
    with torch.no_grad():
        return [model(torch.tensor([p])).logits[0].contiguous() for p in prompts]


def distance(a, b):
    return max((torch.linalg.norm(x - y) / torch.linalg.norm(y)).item() for x, y in zip(a, b))


class last_choices:
    """While it is entered: the smallest relative gap at a top-k in the last row that met one."""

    def __enter__(self):
        self.gap, self.true_topk, self.method = float("inf"), torch.topk, torch.Tensor.topk

        def topk(x, k, *more, **named):
            row = torch.sort(x.detach().flatten(0, -2)[-1], descending=True).values
            if k < row.numel() and torch.isfinite(row[k]):
                size = row[k - 1].abs().item()  # 0 where an indexer's heads all gave 0: a tie
                self.gap = min(self.gap, (row[k - 1] - row[k]).item() / size if size > 0 else 0)
            return self.true_topk(x, k, *more, **named)

        torch.topk = torch.Tensor.topk = topk
        return self

    def __exit__(self, *_):
        torch.topk, torch.Tensor.topk = self.true_topk, self.method


def grow_prompt(models, length, draw):
    prompt = []
    while len(prompt) < length:
        longer = prompt + [int(torch.randint(SMALL["vocab_size"], (), generator=draw))]
        with last_choices() as seen:
            for model in models:
                logits_of(model, [longer])
        if seen.gap > MARGIN:
            prompt = longer
    return prompt


def rounded_to_bf16(model):
    """As files hold it: every weight rounded, the bias that selects experts kept in float32."""
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for tensor in copied.parameters():
            tensor.copy_(tensor.bfloat16().float())
    return copied


def computing_in_bf16(model):
    """The class's own bfloat16 arithmetic, as its loader sets it up: tables and biases in float32."""
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    copied = copy.deepcopy(model).bfloat16()
    for name, value in buffers.items():
        owner, _, last = name.rpartition(".")
        copied.get_submodule(owner).register_buffer(last, value)
    return copied


def add_mtp_layer(tensors, config):
    """The next layer index, as the published files have it: main models skip it."""
    last = f"model.layers.{config.num_hidden_layers - 1}."
    new = f"model.layers.{config.num_hidden_layers}."
    for name in [n for n in tensors if n.startswith(last)]:
        tensors[new + name[len(last):]] = tensors[name].clone()
    width, some = config.hidden_size, tensors["model.norm.weight"]
    for name in ("enorm", "hnorm", "shared_head.norm"):
        tensors[f"{new}{name}.weight"] = some.clone()
    tensors[new + "eh_proj.weight"] = torch.zeros(width, 2 * width, dtype=some.dtype)
    tensors[new + "shared_head.head.weight"] = tensors["lm_head.weight"].clone()
    tensors[new + "embed_tokens.weight"] = tensors["model.embed_tokens.weight"].clone()


def complete_v3(path, model):
    """What the class does not write: float32 selection biases, the layer of multi-token
    prediction."""
    tensors = load_file(path)
    for name, value in model.named_buffers():
        if name.endswith("e_score_correction_bias"):
            tensors[name] = value.float()
    add_mtp_layer(tensors, model.config)
    save_file(tensors, path, metadata={"format": "pt"})


def write(folder, model, dtype, prompts, longest_file):
    shutil.rmtree(folder, ignore_errors=True)
    copy.deepcopy(model).to(dtype).save_pretrained(folder, max_shard_size=longest_file or 10**9)
    (folder / "generation_config.json").unlink(missing_ok=True)
    if model.config.model_type == "deepseek_v3":
        complete_v3(folder / "model.safetensors", model)
    write_logits(folder, model, dtype, prompts)


def write_logits(folder, model, dtype, prompts):
    out = {}
    for i, (prompt, logits) in enumerate(zip(prompts, logits_of(model, prompts))):
        out[f"prompt.{i}"] = torch.tensor(prompt, dtype=torch.int32)
        out[f"logits.{i}"] = logits
    if dtype == torch.bfloat16:
        for i, logits in enumerate(logits_of(computing_in_bf16(model), prompts)):
            out[f"bf16_logits.{i}"] = logits.bfloat16()
    save_file(out, folder.parent / (folder.name + ".logits.safetensors"))


def fp8_blocks(weight):
    """(e4m3, scale of each block): amax / 448, divided, as DeepSeek's kernel has it."""
    rows, columns = (-(-n // FP8_BLOCK) for n in weight.shape)
    padded = torch.zeros(rows * FP8_BLOCK, columns * FP8_BLOCK)
    padded[: weight.shape[0], : weight.shape[1]] = weight
    blocks = padded.view(rows, FP8_BLOCK, columns, FP8_BLOCK).transpose(1, 2)
    scale = blocks.abs().amax(dim=(2, 3)).clamp(min=1e-4) / 448
    codes = (blocks / scale[:, :, None, None]).clamp(-448, 448).to(torch.float8_e4m3fn)

    def cut(values):
        joined = values.transpose(1, 2).reshape(padded.shape)
        return joined[: weight.shape[0], : weight.shape[1]].contiguous()

    return cut(codes), scale, cut(codes.float() * scale[:, :, None, None])


def with_fp8_weights(folder):
    """Rewrites a float32 folder in 8 bits; returns the model of the weights that it then holds."""
    path, config = folder / "model.safetensors", folder / "config.json"
    tensors, held = load_file(path), {}
    for name, value in list(tensors.items()):
        if value.ndim == 2 and "_proj" in name and "eh_proj" not in name:
            tensors[name], tensors[name + "_scale_inv"], held[name] = fp8_blocks(value)
    plain = {n: held.get(n, v) for n, v in tensors.items() if not n.endswith("_scale_inv")}
    save_file(plain, path, metadata={"format": "pt"})
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager",
        experts_implementation="eager").eval()
    save_file(tensors, path, metadata={"format": "pt"})
    values = json.loads(config.read_text())
    values["quantization_config"] = {"quant_method": "fp8", "fmt": "e4m3",
                                     "activation_scheme": "dynamic",
                                     "weight_block_size": [FP8_BLOCK, FP8_BLOCK]}
    config.write_text(json.dumps(values, indent=2) + "\n")
    return model


def sensitivity(kind, values, model, prompts):
    """How far the logits move if what the tests are about were ignored."""
    said = []
    for key, without in (("rope_parameters", dict(rope_type="default", rope_theta=10000.0)),
                         ("rms_norm_eps", 0.1), ("routed_scaling_factor", 1.5),
                         ("topk_group", values.get("n_group"))):
        if key in values and values[key] != without:
            other = make_model(kind, dict(values, **{key: without}), 0)
            other.load_state_dict(model.state_dict())
            moved = distance(logits_of(other, prompts), logits_of(model, prompts))
            said.append(f"{key} {moved:.1e}")
    return ", ".join(said)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("golden", type=pathlib.Path)
    arguments.add_argument("--only", help="make just this case")
    given = arguments.parse_args()
    given.golden.mkdir(parents=True, exist_ok=True)
    for name, (kind, values, longest_file) in CASES.items():
        if given.only and given.only != name:
            continue
        model = make_model(kind, values, seed=1)
        rounded = rounded_to_bf16(model)
        draw = torch.Generator().manual_seed(2)
        prompts = [grow_prompt((model, rounded), length, draw) for length in LENGTHS]
        print(f"{name}: moved by {sensitivity(kind, values, model, prompts)}")
        write(given.golden / name, model, torch.float32, prompts, longest_file)
        if name not in NO_BF16:
            write(given.golden / (name + "_bf16"), rounded, torch.bfloat16, prompts, longest_file)
        if name in FP8:
            folder = given.golden / (name + "_fp8")
            write(folder, model, torch.float32, prompts, longest_file)
            held = with_fp8_weights(folder)
            with last_choices() as seen:
                for prompt in prompts:
                    for length in range(1, len(prompt) + 1):
                        logits_of(held, [prompt[:length]])
            assert seen.gap > 1e-3, "a choice of the 8-bit weights hangs on rounding"
            write_logits(folder, held, torch.float32, prompts)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__,
                "numpy": numpy.__version__}
    (given.golden / "versions.json").write_text(json.dumps(versions, indent=2) + "\n")


if __name__ == "__main__":
    main()
