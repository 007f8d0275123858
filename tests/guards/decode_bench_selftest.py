# SPDX-License-Identifier: Apache-2.0
"""bench/decode is tested: the shape against the library's own counts, and a run of two programs that
only say what generate and llama-bench say.

usage: decode_bench_selftest.py PROJECT_FOLDER
"""
import json
import pathlib
import re
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
root = pathlib.Path(sys.argv[1])
sys.path.insert(0, str(root / "bench" / "decode"))
import page  # noqa: E402
import shape  # noqa: E402

OURS = """#!/bin/sh
echo "weights   9662.4 MiB, made in 1.0 s; 2.66 of 15.71 billion parameters meet a token
prefill   128 tokens, 150.00 tokens/s
decode    65 tokens, 24.00 tokens/s" >&2
"""
PEER = """#!/bin/sh
echo '[{{"n_gen": 0, "avg_ts": 100, {about}}}, {{"n_gen": 64, "avg_ts": 16, {about}}}]'
"""


def expect(what, got, wanted):
    if got != wanted:
        sys.exit(f"decode_bench_selftest: {what}: got {got!r}, wanted {wanted!r}")


def program(folder, name, text):
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def run(folder, parameters):
    size = shape.stored(shape.PEER) + shape.latent_up() * shape.PEER_COPY
    about = json.dumps({"model_n_params": parameters, "build_commit": "c", "cpu_info": "p",
                        "model_type": "t", "model_size": round(size), "mla_attn": 3})[1:-1]
    return subprocess.run(
        [sys.executable, str(root / "bench" / "decode" / "run.py"), str(folder),
         "--ours", program(folder, "ours", OURS), "--model", "m", "--threads", "2", "--turns", "2",
         "--peer", program(folder, "peer", PEER.format(about=about))],
        capture_output=True, text=True, check=False)


def main():
    counts = (root / "tests" / "models" / "counts.cpp").read_text()
    said = re.search(r"check<ds::v2_lite>\(\{(\d+), (\d+)", counts)
    expect("parameters", (shape.parameters(), shape.active_parameters()),
           (int(said[1]), int(said[2])))
    expect("blocks of 256", [shape.fitting("Q4_K", n) for n in (2048, 10944, 1408, 2816)],
           ["Q4_K", "Q4_0", "Q4_0", "Q4_K"])
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        done = run(folder, shape.parameters() + shape.latent_up())
        expect("a run", (done.returncode, done.stderr), (0, ""))
        data = json.loads((folder / "decode.json").read_text())
        expect("samples", [row["decode"] for row in data["rows"]], [[24.0, 24.0], [16, 16]])
        text = (folder / "decode.md").read_text()
        expect("ratios", re.findall(r"\*\*(\d[.\d]*)\*\*", text), ["1.50", "1.50"])
        expect("whose rows", text.count(f"| {page.OURS} |"), 1)
        other = run(folder, shape.parameters())
        expect("another model", (other.returncode, "parameters" in other.stderr), (1, True))
    print("decode_bench_selftest: ok")


if __name__ == "__main__":
    main()
