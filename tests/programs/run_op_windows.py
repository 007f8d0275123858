# SPDX-License-Identifier: Apache-2.0
"""Cases of run_op: windows of images as rows, one row of each sequence, and their gradients."""
import math

import run_op_gradients
from run_op_cases import Case, normal

OFFSETS = [0, 3, 4, 9]
SPEC = {"height": 2, "width": 3, "down": 1, "across": 2}


def unfold(x, height, width, down, across):
    rows = []
    for image in x:
        tall, wide = len(image[0]), len(image[0][0])
        for r in range(0, tall - height + 1, down):
            for s in range(0, wide - width + 1, across):
                rows.append([channel[r + u][s + v] for channel in image for u in range(height)
                             for v in range(width)])
    return rows


def pool(x, how, offsets=None):
    rows = []
    for begin, end in zip(offsets or OFFSETS, (offsets or OFFSETS)[1:]):
        part = x[begin:end]
        if how == "mean":
            rows.append([math.fsum(c) / len(part) for c in zip(*part)])
        else:
            rows.append(list(part[0 if how == "first" else -1]))
    return rows


def cases(kind):
    case = Case("unfold", kind, SPEC, 0)
    case.expect("out", unfold(case.give("x", normal(1, 2, 3, 4, 7)), **SPEC))
    yield case
    case = Case("unfold", kind, {"height": 2, "width": 2}, 0, "patches")
    case.expect("out", unfold(case.give("x", normal(2, 3, 1, 4, 6)), 2, 2, 2, 2))
    yield case
    for how in ("first", "mean", "last"):
        case = Case("pool", kind, {"how": how}, 8, how)
        case.give("offsets", OFFSETS, "I64")
        case.expect("out", pool(case.give("x", normal(3, 9, 5)), how))
        yield case


def gradients():
    x = normal(4, 2, 2, 3, 5)
    sizes = {"images": 2, "channels": 2, "image_height": 3, "image_width": 5}
    case = run_op_gradients.case_of("unfold_backward", lambda x: unfold(x, **SPEC), {"x": x},
                                    {"dx": "x"}, {**SPEC, **sizes})
    del case.tensors["x"]
    yield case
    for how in ("first", "mean", "last"):
        case = run_op_gradients.case_of("pool_backward", lambda x: pool(x, how),
                                        {"x": normal(5, 9, 4)}, {"dx": "x"},
                                        {"how": how, "rows": 9},
                                        fixed=(("offsets", OFFSETS, "I64"),))
        del case.tensors["x"]
        yield case


def refusals():
    case = Case("unfold", "f32", {"height": 5, "width": 1})
    case.give("x", normal(1, 1, 1, 4, 4))
    yield "window too tall", case, 2, "shape_mismatch", ("5 x 1",)
    case = Case("pool", "f32", {"how": "mean"})
    case.give("x", normal(1, 4, 2))
    case.give("offsets", [0, 4, 4], "I64")
    yield "empty sequence", case, 2, "offsets", ("sequence 1",)
    case = Case("pool", "f32", {"how": "median"})
    case.give("x", normal(1, 4, 2))
    case.give("offsets", [0, 4], "I64")
    yield "unknown row", case, 2, "invalid_argument", ("median", "first, mean or last")
