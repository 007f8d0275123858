# SPDX-License-Identifier: Apache-2.0
"""Compiles tests/cuda/kernels/*.cu for each architecture and judges every kernel: registers and
spilled bytes stay in their budgets, and what must be a tensor-core kernel must hold its instructions.

usage: cuda_kernels.py PROJECT_FOLDER NVCC OUTPUT_FOLDER [JOBS]
Prints a line for each kernel and architecture, writes kernels.json, ends with 1 when any fails.
"""
import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

ARCHITECTURES = ["compute_80,code=sm_80", "compute_90a,code=sm_90a", "compute_120,code=sm_120"]
TARGETS = [a.rsplit("=", 1)[1] for a in ARCHITECTURES]
# Bytes that a kernel may spill, by its readable name; every other kernel: none. Attention holds as
# much of a tile in registers as a thread has, and ptxas spills a few words at the edges of loops.
# CUB's sort is CUB's own.
MOST_SPILLED = [(r"^cuda_attention::(tensor_|latent_|group_forward)", 160), (r"^void cub::", 32)]
# Of nvcc, and of ptxas where products of warp groups wait for each other or keep their registers.
WARNINGS = r"warning #|error|Potential Performance Loss|setmaxnreg.*ignored"
MOST_REGISTERS = 255  # of a thread; a kernel whose blocks would not fit an SM fails at its launch bound
# (pattern of a kernel's readable name, PTX instruction, least count); judged for compute_90a.
INSTRUCTIONS = [
    (r"^cuda_attention::tensor_forward", r"mma\.sync\.aligned\.m16n8k16", 32),
    (r"^cuda_attention::tensor_forward", r"cp\.async", 2),
    (r"^cuda_attention::tensor_forward", r"ldmatrix", 8),
    # Of heads of 64: 4 products of scores, 4 of values, a copy each of q, k, v; of 128: 8, 4, 2 each.
    (r"^cuda_attention::group_forward", r"wgmma\.mma_async\.sync\.aligned\.m64n64k16", 8),
    (r"^cuda_attention::group_forward.*tensor_shape<\w+, 128,", r"wgmma\.mma_async\S*m64n128k16", 4),
    (r"^cuda_attention::group_forward", r"wgmma\.wait_group", 2),
    (r"^cuda_attention::group_forward.*tensor_shape<\w+, 64,", r"cp\.async\.bulk\.tensor\.3d", 3),
    (r"^cuda_attention::group_forward.*tensor_shape<\w+, 128,", r"cp\.async\.bulk\.tensor\.3d", 6),
    (r"^cuda_attention::group_forward", r"mbarrier\.try_wait", 7),
    (r"^cuda_attention::group_forward", r"setmaxnreg", 2),
    # A tile has width / 16 products of scores, 4 of values; a copy each of q and k for 64 columns.
    (r"^cuda_attention::group_latent_forward.*tensor_shape<\w+, 576,", r"wgmma\.mma_async\S*m64n64k16", 36),
    (r"^cuda_attention::group_latent_forward.*tensor_shape<\w+, 512,", r"wgmma\.mma_async\S*m64n64k16", 32),
    (r"^cuda_attention::group_latent_forward", r"wgmma\.mma_async\.sync\.aligned\.m64n256k16", 4),
    (r"^cuda_attention::group_latent_forward", r"wgmma\.wait_group", 2),
    (r"^cuda_attention::group_latent_forward", r"fence\.proxy\.async", 1),
    (r"^cuda_attention::group_latent_forward.*tensor_shape<\w+, 576,", r"cp\.async\.bulk\.tensor\.3d", 18),
    (r"^cuda_attention::group_latent_forward.*tensor_shape<\w+, 512,", r"cp\.async\.bulk\.tensor\.3d", 16),
    (r"^cuda_attention::group_latent_forward", r"mbarrier\.try_wait", 7),
    (r"^cuda_attention::group_latent_forward", r"setmaxnreg", 2),
    # A step of 64 has 4 products; x in one copy, W in one (outputs are rows) or four.
    (r"^cuda_tensor::group_product", r"wgmma\.mma_async\.sync\.aligned\.m64n256k16", 4),
    (r"^cuda_tensor::group_product", r"wgmma\.wait_group", 2),
    (r"^cuda_tensor::group_product.*plain_rows", r"cp\.async\.bulk\.tensor\.3d", 2),
    (r"^cuda_tensor::group_product.*plain_columns", r"cp\.async\.bulk\.tensor\.3d", 5),
    (r"^cuda_tensor::group_product", r"mbarrier\.try_wait", 5),
    (r"^cuda_tensor::group_product", r"setmaxnreg", 2),
    (r"cuda_tensor::(few|many)_rows", r"mma\.sync\.aligned\.m16n8k16", 4),
    (r"cuda_tensor::many_rows", r"mma\.sync\.aligned\.m16n8k16", 16),
    (r"cuda_tensor::(few|many)_rows", r"cp\.async\.cg", 2),
    (r"cuda_tensor::weight_gradient", r"mma\.sync\.aligned\.m16n8k16", 64),
    (r"cuda_tensor::weight_gradient", r"cp\.async\.cg", 2),
    (r"^cuda_attention::latent_forward", r"mma\.sync\.aligned\.m16n8k16", 32),
    (r"^cuda_attention::latent_forward", r"cp\.async", 2),
    (r"^cuda_attention::latent_forward", r"ldmatrix", 8),
    # A row that a cluster shares: its sums, and a last barrier; each element in 16 bytes.
    (r"^each_wide_row", r"barrier\.cluster\.arrive", 2),
    (r"^each_wide_row", r"barrier\.cluster\.wait", 2),
    (r"^each_wide_row", r"ld\.shared::cluster", 1),
    (r"^each_wide_row", r"ld\.(?:global\.)?v4", 4),
    (r"score_tiles", r"mma\.sync\.aligned\.m16n8k16", 16),
    (r"score_tiles", r"cp\.async", 2),
    (r"score_tiles", r"ldmatrix", 8),
]


def readable(names):
    """Mangled names to a short readable form."""
    text = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True,
                          check=True).stdout.splitlines()
    out = {}
    for name, line in zip(names, text):
        line = re.sub(r"^void deepseek::run_kernel<(.*)>\(.*\)$", r"\1", line)
        out[name] = line.replace("deepseek::", "")
    return out


def registers(log):
    """{(kernel, target): (registers, spilled bytes, stack)} of ptxas -v."""
    found, name, spilled, stack = {}, None, 0, 0
    for line in log.splitlines():
        if match := re.search(r"Compiling entry function '(\w+)' for '(\w+)'", line):
            name, spilled, stack = match.groups(), 0, 0
        elif match := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, "
                                r"(\d+) bytes spill loads", line):
            stack, spilled = int(match.group(1)), int(match.group(2)) + int(match.group(3))
        elif (match := re.search(r"Used (\d+) registers", line)) and name:
            found[name] = (int(match.group(1)), spilled, stack)
    return found


def bodies_of(ptx):
    """{kernel: text of its body}"""
    return {m.group(1): m.group(0) for m in re.finditer(r"\.entry (\w+)\(.*?\n\}\n", ptx, flags=re.S)}


def compile_one(project, nvcc, out, source):
    """(source, kernels, error, bodies): all architectures in one run of nvcc, no host code."""
    folder = out / source.stem
    folder.mkdir(exist_ok=True)
    command = [nvcc, "-std=c++20", "-O3", f"-I{project}/include", f"-I{project}/tests",
               "-Xptxas", "-v,-warn-spills", "-fatbin", "--keep", "--keep-dir", str(folder),
               "-o", str(folder / "all.fatbin"), str(source)]
    for architecture in ARCHITECTURES:
        command += ["-gencode", f"arch={architecture}"]
    run = subprocess.run(command, capture_output=True, text=True)
    text = run.stdout + run.stderr
    bodies = {}
    for ptx in folder.glob("*compute_90a.ptx"):
        bodies = bodies_of(ptx.read_text())
    shutil.rmtree(folder)  # what nvcc keeps is large
    if run.returncode != 0:
        return source.stem, None, text, {}
    return source.stem, registers(text), "\n".join(
        line for line in text.splitlines() if re.search(WARNINGS, line)), bodies


def judge(stem, kernels, bodies):
    """(rows, faults) of one file."""
    rows, faults = [], []
    names = readable(sorted({mangled for mangled, _ in kernels}))
    for (mangled, target), (used, spilled, stack) in sorted(kernels.items()):
        name = names[mangled]
        rows.append({"file": stem, "target": target, "kernel": name, "registers": used,
                     "spilled": spilled, "stack": stack})
        allowed = max((most for pattern, most in MOST_SPILLED if re.search(pattern, name)), default=0)
        if spilled > allowed or used > MOST_REGISTERS:
            faults.append(f"{name} for {target}: {used} registers, {spilled} bytes spilled")
        for pattern, instruction, least in INSTRUCTIONS if target == "sm_90a" else []:
            count = len(re.findall(instruction, bodies.get(mangled, "")))
            if re.search(pattern, name) and count < least:
                faults.append(f"{name}: {count} times {instruction}, at least {least}")
    for target in TARGETS:
        if not any(t == target for _, t in kernels):
            faults.append(f"{stem} for {target}: no kernel in it")
    return rows, faults


def main():
    project, nvcc, out = pathlib.Path(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3])
    jobs = int(sys.argv[4]) if len(sys.argv) > 4 else os.cpu_count() or 1
    out.mkdir(parents=True, exist_ok=True)
    sources = sorted((project / "tests/cuda/kernels").glob("*.cu"))
    rows, faults = [], []
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for stem, kernels, text, bodies in pool.map(
                lambda source: compile_one(project, nvcc, out, source), sources):
            if kernels is None:
                faults.append(f"{stem} does not compile:\n{text[-3000:]}")
                continue
            if text:
                faults.append(f"{stem}: nvcc warns:\n{text[:1000]}")
            more, wrong = judge(stem, kernels, bodies)
            rows += more
            faults += wrong
    for row in rows:
        print(f"{row['target']:8} {row['registers']:4} registers {row['spilled']:4} B spilled "
              f"{row['stack']:5} B stack  {row['kernel'][:140]}")
    (out / "kernels.json").write_text(json.dumps(rows, indent=1) + "\n")
    for fault in faults:
        print("cuda_kernels:", fault)
    print(f"cuda_kernels: {len(rows)} kernels of {len(sources)} files for "
          f"{len(ARCHITECTURES)} architectures, {len(faults)} faults")
    return 1 if faults or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
