#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The training step of bench/training_step.cpp by PyTorch on the CPU, in float32.

usage: bench/torch_training.py START.safetensors [--threads N] [--steps N] [--way NAME] [--check]

START is what build/bench/training_start writes. One JSON line: the seconds of each timed step.
--check: instead of timing makes the steps of ours from the same weights on the same batches and
compares losses and gradient norms (exit status 1: they differ). Ways: eager, eager-grouped
(F.grouped_mm in place of a loop over experts), compiled, compiled-grouped (torch.compile).
"""
import argparse
import json
import math
import pathlib
import sys
import time

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).parent / "training"))
import torch_model  # noqa: E402

WARM_UP, TOTAL, PEAK, FLOOR = 18, 358, 3e-3, 3e-3 / 20  # the demo's, of 340 steps
STEPS_ALIKE, LIMIT = 8, 1e-4  # relative


def learning_rate(step):
    if step < WARM_UP:
        return PEAK * step / WARM_UP
    part = min(1, (step - WARM_UP) / (TOTAL - WARM_UP))
    return FLOOR + (PEAK - FLOOR) * (1 + math.cos(math.pi * part)) / 2


def optimizer_of(model):
    """Norms are not decayed, nor anything else that starts at a fixed value."""
    groups = [{"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.1},
              {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=torch.tensor(0.0), betas=(0.9, 0.98), eps=1e-8, fused=True)


def further_targets(targets):
    return F.pad(targets[:, 1:], (0, 1), value=-100)


class Training:
    def __init__(self, tensors, way):
        if "grouped" in way:
            torch_model.Experts.run = staticmethod(torch_model.experts_grouped)
        self.model = torch_model.load(tensors)
        self.blocks = [*self.model.layers, self.model.further]
        self.optimizer = optimizer_of(self.model)
        batches = tensors["batches"].long()
        self.batches = batches.unflatten(-1, (-1, torch_model.WINDOW))
        self.losses = torch.compile(self.losses_of) if "compiled" in way else self.losses_of
        self.steps = 0

    def losses_of(self, ids, targets, further):
        """Mean loss, and that of the drafts by the same number of tokens."""
        logits, drafts = self.model(ids)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        drafted = F.cross_entropy(drafts.flatten(0, 1), further.flatten(), reduction="sum")
        return loss, drafted / targets.numel()

    def step(self):
        """loss, loss of the drafts, norm of the gradient"""
        ids, targets = self.batches[self.steps % len(self.batches)]
        loss, drafted = self.losses(ids, targets, further_targets(targets))
        (loss + 0.3 * drafted).backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1)
        for group in self.optimizer.param_groups:
            group["lr"].fill_(learning_rate(self.steps))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            for block in self.blocks:
                block.ffn.move_bias()
        self.steps += 1
        return loss.item(), drafted.item(), norm.item()


def check(training, theirs):
    """Both begin alike; later steps drift apart where a rounding decides which expert is taken."""
    worst = 0
    for step, want in enumerate(theirs.tolist()):
        got = training.step()
        apart = [abs(a / b - 1) for a, b in zip(got, want)]
        print(f"step {step}: loss {got[0]:.6f} ours {want[0]:.6f}, drafts {got[1]:.6f} "
              f"{want[1]:.6f}, norm {got[2]:.5f} {want[2]:.5f}; apart {max(apart):.1e}")
        if step < STEPS_ALIKE:
            worst = max(worst, *apart)
    print(f"the first {STEPS_ALIKE} steps are apart by {worst:.1e}, allowed {LIMIT:.0e}")
    return worst <= LIMIT


def timed(training, steps):
    for _ in range(3):
        training.step()
    seconds = []
    for _ in range(steps):
        begin = time.perf_counter()
        last = training.step()
        seconds.append(time.perf_counter() - begin)
    return seconds, last[0]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("start")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--way", default="eager", choices=[
        "eager", "eager-grouped", "compiled", "compiled-grouped"])
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tensors = load_file(options.start)
    training = Training(tensors, options.way)
    if options.check:
        sys.exit(0 if check(training, tensors["losses"]) else 1)
    seconds, loss = timed(training, options.steps)
    print(json.dumps({"library": "PyTorch", "version": torch.__version__, "way": options.way,
                      "threads": options.threads, "seconds": seconds, "last_loss": loss,
                      "parameters": sum(p.numel() for p in training.model.parameters())}))


if __name__ == "__main__":
    main()
