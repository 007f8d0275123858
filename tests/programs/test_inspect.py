# SPDX-License-Identifier: Apache-2.0
"""inspect on files written here: names, types, shapes and hashes, and its refusals.

usage: test_inspect.py PROGRAM
"""
import hashlib
import json
import pathlib
import struct
import subprocess
import sys
import tempfile

faults = []


def write(path, tensors):
    header, data = {}, b""
    for name, kind, shape, raw in tensors:
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def call(path):
    run = subprocess.run([sys.argv[1], str(path)], capture_output=True, text=True, timeout=60)
    return run.returncode, run.stdout, run.stderr


def lines_of(tensors):
    return [{"name": n, "dtype": k, "shape": s, "sha256": hashlib.sha256(r).hexdigest()}
            for n, k, s, r in tensors]


def expect(name, path, tensors):
    status, out, err = call(path)
    got = [json.loads(line) for line in out.splitlines()]
    if status != 0 or got != lines_of(tensors):
        faults.append(f"{name}: status {status}, {got}, {err.strip()}")


def refused(name, path, code):
    status, out, err = call(path)
    line = json.loads(err.strip().splitlines()[-1]) if err.strip() else {}
    if status != 2 or line.get("error") != code or out:
        faults.append(f"{name}: status {status}, {line}, wanted {code}")


def main():
    one = [("a", "F32", [2, 3], bytes(range(24))), ("empty", "I64", [0], b""), ("s", "BF16", [], b"\1\2")]
    two = [("b", "U8", [5], b"hello")]
    with tempfile.TemporaryDirectory() as folder_name:
        folder = pathlib.Path(folder_name)
        write(folder / "one.safetensors", one)
        write(folder / "two.safetensors", two)
        expect("one file", folder / "one.safetensors", one)
        expect("a folder", folder, one + two)
        (folder / "cut.safetensors").write_bytes((folder / "two.safetensors").read_bytes()[:-1])
        refused("cut", folder / "cut.safetensors", "truncated")
        refused("absent", folder / "absent", "io")
        (folder / "text").write_bytes(b"no tensors here")
        refused("text", folder / "text", "header_too_large")
    for fault in faults:
        print("FAULT", fault)
    print(f"inspect: {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
