# SPDX-License-Identifier: Apache-2.0
"""The tensors of DeepSeek-V2-Lite: their shapes, who stores them how, and what of them a token meets.

A tensor has the name that it has in a GGUF file. Its role decides how each program stores it:
"linear" in 4 bits, "norm" and "router" in float, "kv_b" and "embedding" as the program likes.
"""
import dataclasses
import math

DIM, LAYERS, DENSE_LAYERS, HIDDEN, VOCABULARY, CONTEXT = 2048, 27, 1, 10944, 102400, 163840
HEADS, KV_RANK, NOPE, ROPE, VALUE = 16, 512, 128, 64, 128
ROUTED, ACTIVE, SHARED, EXPERT_HIDDEN = 64, 6, 2, 1408
EPS, ROPE_FACTOR, ROPE_ORIGINAL, ROPE_MSCALE = 1e-6, 40.0, 4096, 0.707


@dataclasses.dataclass(frozen=True)
class Tensor:
    name: str
    shape: tuple  # experts if any, outputs, inputs
    role: str = "linear"

    @property
    def count(self):
        return math.prod(self.shape)

    @property
    def met(self):
        """How many of its numbers are read for one token."""
        if self.role == "embedding":
            return self.shape[-1]
        return self.count * ACTIVE // ROUTED if len(self.shape) == 3 else self.count


def feed_forward(at, kind, hidden, experts=()):
    return [Tensor(f"{at}.ffn_gate{kind}.weight", (*experts, hidden, DIM)),
            Tensor(f"{at}.ffn_up{kind}.weight", (*experts, hidden, DIM)),
            Tensor(f"{at}.ffn_down{kind}.weight", (*experts, DIM, hidden))]


def block(layer):
    at = f"blk.{layer}"
    yield from (Tensor(f"{at}.attn_norm.weight", (DIM,), "norm"),
                Tensor(f"{at}.attn_q.weight", (HEADS * (NOPE + ROPE), DIM)),
                Tensor(f"{at}.attn_kv_a_mqa.weight", (KV_RANK + ROPE, DIM)),
                Tensor(f"{at}.attn_kv_a_norm.weight", (KV_RANK,), "norm"),
                Tensor(f"{at}.attn_kv_b.weight", (HEADS * (NOPE + VALUE), KV_RANK), "kv_b"),
                Tensor(f"{at}.attn_output.weight", (DIM, HEADS * VALUE)),
                Tensor(f"{at}.ffn_norm.weight", (DIM,), "norm"))
    if layer < DENSE_LAYERS:
        yield from feed_forward(at, "", HIDDEN)
        return
    yield Tensor(f"{at}.ffn_gate_inp.weight", (ROUTED, DIM), "router")
    yield from feed_forward(at, "_exps", EXPERT_HIDDEN, (ROUTED,))
    yield from feed_forward(at, "_shexp", EXPERT_HIDDEN * SHARED)


def tensors():
    """All, in the order of the file."""
    return [Tensor("token_embd.weight", (VOCABULARY, DIM), "embedding"),
            *(tensor for layer in range(LAYERS) for tensor in block(layer)),
            Tensor("output_norm.weight", (DIM,), "norm"),
            Tensor("output.weight", (VOCABULARY, DIM))]


def parameters():
    return sum(tensor.count for tensor in tensors())


def active_parameters():
    """Those of a token as the library counts them: the whole embedding among them."""
    return sum(t.count if t.role == "embedding" else t.met for t in tensors())


# ---- bytes of one number

OURS = {"linear": 19 / 32,  # int4 in groups of 32: 16 bytes, a zero point, a scale of two bytes
        "kv_b": 2, "norm": 4, "router": 4, "embedding": 4}
PEER = {"linear": 18 / 32, "kv_b": 18 / 32, "norm": 4, "router": 4, "embedding": 18 / 32}
# What the peer makes of kv_b when it loads and reads in each step: keys in Q8_0, values as stored.
PEER_COPY = (34 / 32 + 18 / 32) / 2
BLOCKS = {"Q4_0": (32, 18), "Q4_K": (256, 144)}  # numbers and bytes of a block of the peer's


def fitting(kind, inputs):
    """Q4_K needs rows of whole blocks of 256; where they are not, Q4_0."""
    return kind if inputs % BLOCKS[kind][0] == 0 else "Q4_0"


def stored(bytes_of):
    return sum(t.count * bytes_of[t.role] for t in tensors())


def met(bytes_of):
    """Bytes of weights that a program reads for one token."""
    return sum(t.met * bytes_of[t.role] for t in tensors())


def latent_up():
    """Numbers of all kv_b, which the peer holds twice."""
    return sum(t.count for t in tensors() if t.role == "kv_b")
