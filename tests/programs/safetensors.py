# SPDX-License-Identifier: Apache-2.0
"""Safetensors files and element types for the tests of programs, in plain Python."""
import json
import math
import struct

FORMAT = {"F64": "d", "F32": "f", "I64": "q", "I32": "i", "I8": "b", "U8": "B"}


class Tensor:
    """A name's dtype, shape and flat list of numbers, the last extent the fastest."""

    def __init__(self, dtype, shape, data):
        self.dtype, self.shape, self.data = dtype, list(shape), list(data)

    def raw(self):
        return struct.pack(f"<{len(self.data)}{FORMAT[self.dtype]}", *self.data)


def write(path, metadata, tensors):
    header, blob = ({"__metadata__": metadata} if metadata is not None else {}), b""
    for name, t in tensors.items():
        raw = t.raw()
        header[name] = {"dtype": t.dtype, "shape": t.shape,
                        "data_offsets": [len(blob), len(blob) + len(raw)]}
        blob += raw
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + blob)


def read(path):
    with open(path, "rb") as file:
        raw = file.read()
    length, = struct.unpack("<Q", raw[:8])
    header, data = json.loads(raw[8:8 + length]), raw[8 + length:]
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        letter = FORMAT[entry["dtype"]]
        count = (end - begin) // struct.calcsize(letter)
        tensors[name] = Tensor(entry["dtype"], entry["shape"],
                               struct.unpack(f"<{count}{letter}", data[begin:end]))
    return tensors


def round_to(kind, x):
    """x rounded once to f64, f32, bf16 or f16, as a Python number."""
    if kind == "f64" or math.isnan(x) or math.isinf(x):
        return x
    if kind == "f32":
        return struct.unpack("<f", struct.pack("<f", x))[0]
    if kind == "f16":
        return struct.unpack("<e", struct.pack("<e", x))[0]
    bits, = struct.unpack("<I", struct.pack("<f", x))
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000
    return struct.unpack("<f", struct.pack("<I", bits))[0]
