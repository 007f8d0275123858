#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The pictures of docs/patterns.md, from the text that examples/18_patterns.cpp prints.

usage: draw.py PROGRAM FOLDER [TOKENS]     (build/bin/18_patterns docs/images)

Each picture is a grey PNG: one square for each pair of a query (down) and a key (across), dark where
the query may see the key.
"""
import pathlib
import struct
import subprocess
import sys
import zlib

SQUARE, GAP = 7, 1  # pixels
SHADES = {"#": 0x20, ".": 0xE4}
PAPER = 0xFF


def pictures(text):
    """(name, rows) of each: a line with the name, then lines of '#' and '.', then an empty one."""
    for part in text.strip().split("\n\n"):
        name, *rows = part.split("\n")
        yield name, rows


def pixels(rows):
    for row in rows:
        line = bytearray([PAPER] * GAP)
        for cell in row:
            line += bytes([SHADES[cell]] * SQUARE + [PAPER] * GAP)
        blank = bytes([PAPER]) * len(line)
        yield from [blank] * GAP + [bytes(line)] * SQUARE
    yield blank


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(lines):
    lines = list(lines)
    header = struct.pack(">IIBBBBB", len(lines[0]), len(lines), 8, 0, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + line for line in lines), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def main():
    program, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    tokens = sys.argv[3] if len(sys.argv) > 3 else "32"
    text = subprocess.run([program, tokens], capture_output=True, text=True, check=True).stdout
    for name, rows in pictures(text):
        path = folder / (name.replace(" ", "_") + ".png")
        path.write_bytes(png(pixels(rows)))
        print(path)


if __name__ == "__main__":
    main()
