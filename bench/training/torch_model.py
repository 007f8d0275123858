# SPDX-License-Identifier: Apache-2.0
"""The demo's model (examples/demo/net.hpp) in PyTorch: latent attention, eight experts and a shared
one, a layer of multi-token prediction. Written as PyTorch is used where speed counts: few large
products, fused attention, rows sorted by expert, gate and up projections in one matrix.
"""
import torch
import torch.nn.functional as F
from torch import nn

DIM, HEADS, RANK, NOPE, ROPE, VALUE = 192, 6, 64, 32, 16, 32
EXPERTS, ACTIVE, HIDDEN, LAYERS, BYTES, WINDOW = 8, 2, 256, 4, 256, 256


def linear(inputs, outputs):
    return nn.Linear(inputs, outputs, bias=False)


def norm(dim=DIM):
    return nn.RMSNorm(dim, eps=1e-6)


def rotations():
    """cosine and sine [WINDOW, ROPE / 2], of pairs of neighbours"""
    frequency = 1e4 ** (-2 * torch.arange(ROPE // 2, dtype=torch.float64) / ROPE)
    angle = torch.arange(WINDOW, dtype=torch.float64)[:, None] * frequency
    return angle.cos().float(), angle.sin().float()


def rotated(x, cos, sin):
    """x [batch, WINDOW, heads, ROPE]"""
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = cos[:, None], sin[:, None]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2)


class Attention(nn.Module):
    padded = True  # values as wide as keys: then the fused kernel takes them

    def __init__(self):
        super().__init__()
        self.wq = linear(DIM, HEADS * (NOPE + ROPE))
        self.wkv_a = linear(DIM, RANK + ROPE)
        self.kv_norm = norm(RANK)
        self.wkv_b = linear(RANK, HEADS * (NOPE + VALUE))
        self.wo = linear(HEADS * VALUE, DIM)

    def forward(self, x, cos, sin):
        q = self.wq(x).unflatten(-1, (HEADS, NOPE + ROPE))
        q_nope, q_rope = q.split((NOPE, ROPE), dim=-1)
        latent, k_rope = self.wkv_a(x).split((RANK, ROPE), dim=-1)
        kv = self.wkv_b(self.kv_norm(latent)).unflatten(-1, (HEADS, NOPE + VALUE))
        k_nope, v = kv.split((NOPE, VALUE), dim=-1)
        k_rope = rotated(k_rope.unsqueeze(2), cos, sin).expand(-1, -1, HEADS, -1)
        q = torch.cat((q_nope, rotated(q_rope, cos, sin)), dim=-1).transpose(1, 2)
        k = torch.cat((k_nope, k_rope), dim=-1).transpose(1, 2)
        v = v.transpose(1, 2)
        if self.padded:
            v = F.pad(v, (0, NOPE + ROPE - VALUE))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)[..., :VALUE]
        return self.wo(y.transpose(1, 2).flatten(-2))


class SwiGLU(nn.Module):
    def __init__(self):
        super().__init__()
        self.w13 = linear(DIM, 2 * HIDDEN)
        self.w2 = linear(HIDDEN, DIM)

    def forward(self, x):
        gate, up = self.w13(x).chunk(2, dim=-1)
        return self.w2(F.silu(gate) * up)


@torch.compiler.disable  # the numbers of rows change from step to step: each would be compiled
def experts_split(x, counts, w13, w2):
    """One expert after the other, each on its own rows of x."""
    out = []
    for e, rows in enumerate(x.split(counts.tolist())):
        gate, up = F.linear(rows, w13[e]).chunk(2, dim=-1)
        out.append(F.linear(F.silu(gate) * up, w2[e]))
    return torch.cat(out)


def experts_grouped(x, counts, w13, w2):
    """PyTorch's grouped products."""
    ends = counts.cumsum(0).to(torch.int32)
    gate, up = F.grouped_mm(x, w13.transpose(1, 2), offs=ends).chunk(2, dim=-1)
    return F.grouped_mm(F.silu(gate) * up, w2.transpose(1, 2), offs=ends)


class Experts(nn.Module):
    run = staticmethod(experts_split)

    def __init__(self):
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(EXPERTS, DIM))
        self.w13 = nn.Parameter(torch.zeros(EXPERTS, 2 * HIDDEN, DIM))
        self.w2 = nn.Parameter(torch.zeros(EXPERTS, DIM, HIDDEN))
        self.shared = SwiGLU()
        self.register_buffer("bias", torch.zeros(EXPERTS))
        self.counts = None

    def choose(self, x):
        """weights [tokens, ACTIVE], rows sorted by expert and the tokens' places among them"""
        scores = torch.sigmoid(F.linear(x, self.gate))
        ids = (scores.detach() + self.bias).topk(ACTIVE, dim=-1).indices
        weights = scores.gather(1, ids)
        order = ids.flatten().argsort(stable=True)
        return weights / (weights.sum(-1, keepdim=True) + 1e-20), ids, order

    def forward(self, x):
        x = x.flatten(0, 1)
        weights, ids, order = self.choose(x)
        self.counts = torch.bincount(ids.flatten(), minlength=EXPERTS)
        tokens = order // ACTIVE
        y = self.run(x.index_select(0, tokens), self.counts, self.w13, self.w2)
        y = y * weights.flatten().index_select(0, order)[:, None]
        return self.shared(x).index_add(0, tokens, y)

    def move_bias(self, step=1e-2):
        counts = self.counts.float()
        self.bias += step * torch.sign(counts.mean() - counts)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn_norm, self.attn, self.ffn_norm, self.ffn = norm(), Attention(), norm(), Experts()

    def forward(self, x, cos, sin):
        x = x + self.attn(self.attn_norm(x), cos, sin)
        return x + self.ffn(self.ffn_norm(x)).view_as(x)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(BYTES, DIM)
        self.layers = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = norm()
        self.head = linear(DIM, BYTES)
        self.enorm, self.hnorm, self.eh_proj = norm(), norm(), linear(2 * DIM, DIM)
        self.further, self.further_norm = Block(), norm()
        for name, value in zip(("cos", "sin"), rotations()):
            self.register_buffer(name, value, persistent=False)

    def forward(self, ids):
        """ids [batch, WINDOW]; logits of the next byte and of the one after it"""
        h = self.embed(ids)
        for layer in self.layers:
            h = layer(h, self.cos, self.sin)
        logits = self.head(self.norm(h))
        after = self.embed(F.pad(ids[:, 1:], (0, 1)))
        pair = self.eh_proj(torch.cat((self.enorm(after), self.hnorm(h)), dim=-1))
        further = self.further(pair, self.cos, self.sin)
        return logits, self.head(self.further_norm(further))


# ---- from the names of training_start

def renamed_tensors(tensors, prefix):
    """{name here: tensor} of one block or of the whole."""
    renamed = {}
    for name, tensor in tensors.items():
        if not name.startswith(prefix) or name.endswith(("gate.load", ".w3.weight")):
            continue
        name = name.removeprefix(prefix)
        if name.endswith("w1.weight"):
            up = tensors[prefix + name.replace("w1.", "w3.")]
            tensor, name = torch.cat((tensor, up), dim=-2), name.replace("w1.", "w13.")
        for old, new in (("shared_experts", "shared"), ("experts.w13.weight", "w13"),
                         ("experts.w2.weight", "w2"), ("ffn.gate.weight", "ffn.gate"),
                         ("ffn.gate.bias", "ffn.bias"), ("mtp.0.norm", "further_norm"),
                         ("mtp.0.attn", "further.attn"), ("mtp.0.ffn", "further.ffn"),
                         ("mtp.0.", "")):
            name = name.replace(old, new)
        renamed[name] = tensor
    return renamed


def load(tensors):
    """The model with the weights of a file of training_start, in PyTorch's own memory."""
    model = Model()
    model.load_state_dict(renamed_tensors(tensors, "model."))
    return model
