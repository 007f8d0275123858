# SPDX-License-Identifier: Apache-2.0
"""Compiles tests/cuda/kernels/*.cu for each architecture and judges every kernel: no register may
spill, none may pass its budget, and what must be a tensor-core kernel must hold its instructions.

usage: cuda_kernels.py PROJECT_FOLDER NVCC OUTPUT_FOLDER [JOBS]
Prints a line for each kernel and architecture, writes kernels.json, ends with 1 when any fails.
"""
import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import sys

ARCHITECTURES = ["compute_80,code=sm_80", "compute_90a,code=sm_90a", "compute_120,code=sm_120"]
MOST_REGISTERS = 255  # of a thread; a kernel whose blocks would not fit an SM fails at its launch bound
# (pattern of a kernel's readable name, PTX instruction, least count); judged for compute_90a.
INSTRUCTIONS = [
    (r"attention.*mma", r"mma\.sync\.aligned\.m16n8k16", 8),
    (r"attention.*mma", r"cp\.async", 2),
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
    """{kernel: (registers, spilled bytes, stack)} of ptxas -v."""
    found, name, spilled, stack = {}, None, 0, 0
    for line in log.splitlines():
        if match := re.search(r"Compiling entry function '(\w+)'", line):
            name, spilled, stack = match.group(1), 0, 0
        elif match := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, "
                                r"(\d+) bytes spill loads", line):
            stack, spilled = int(match.group(1)), int(match.group(2)) + int(match.group(3))
        elif (match := re.search(r"Used (\d+) registers", line)) and name:
            found[name] = (int(match.group(1)), spilled, stack)
    return found


def compile_one(project, nvcc, out, source, architecture):
    target = architecture.rsplit("=", 1)[1]
    common = [nvcc, "-std=c++20", "-O3", f"-I{project}/include", f"-I{project}/tests",
              "-gencode", f"arch={architecture}", "-Xptxas", "-v,-warn-spills"]
    run = subprocess.run(common + ["-cubin", "-o", str(out / f"{source.stem}.{target}.cubin"),
                                   str(source)], capture_output=True, text=True)
    if run.returncode != 0:
        return source.stem, target, None, run.stdout + run.stderr, {}
    counts = {}
    if target == "sm_90a" and INSTRUCTIONS:
        ptx = out / f"{source.stem}.ptx"
        subprocess.run([nvcc, "-std=c++20", "-O3", f"-I{project}/include", f"-I{project}/tests",
                        "-arch=compute_90a", "-ptx", "-o", str(ptx), str(source)], check=True)
        counts = instructions(ptx.read_text())
    return source.stem, target, registers(run.stderr + run.stdout), "", counts


def instructions(ptx):
    """{kernel: text of its body}"""
    bodies = {}
    for match in re.finditer(r"\.entry (\w+)\(.*?\n\}\n", ptx, flags=re.S):
        bodies[match.group(1)] = match.group(0)
    return bodies


def main():
    project, nvcc, out = pathlib.Path(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3])
    jobs = int(sys.argv[4]) if len(sys.argv) > 4 else os.cpu_count() or 1
    out.mkdir(parents=True, exist_ok=True)
    sources = sorted((project / "tests/cuda/kernels").glob("*.cu"))
    work = [(project, nvcc, out, source, a) for source in sources for a in ARCHITECTURES]
    rows, faults = [], []
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for stem, target, kernels, text, bodies in pool.map(lambda w: compile_one(*w), work):
            if kernels is None:
                faults.append(f"{stem} for {target} does not compile:\n{text[-3000:]}")
                continue
            if not kernels:
                faults.append(f"{stem} for {target}: no kernel in it")
            names = readable(sorted(kernels))
            for mangled, (used, spilled, stack) in sorted(kernels.items()):
                name = names[mangled]
                rows.append({"file": stem, "target": target, "kernel": name, "registers": used,
                             "spilled": spilled, "stack": stack})
                print(f"{target:8} {used:4} registers {spilled:4} B spilled {stack:5} B stack  "
                      f"{name[:140]}")
                if spilled or used > MOST_REGISTERS:
                    faults.append(f"{name} for {target}: {used} registers, {spilled} bytes spilled")
                for pattern, instruction, least in INSTRUCTIONS if bodies else []:
                    count = len(re.findall(instruction, bodies.get(mangled, "")))
                    if re.search(pattern, name) and count < least:
                        faults.append(f"{name}: {count} times {instruction}, at least {least}")
    (out / "kernels.json").write_text(json.dumps(rows, indent=1) + "\n")
    for fault in faults:
        print("cuda_kernels:", fault)
    print(f"cuda_kernels: {len(rows)} kernels of {len(sources)} files for "
          f"{len(ARCHITECTURES)} architectures, {len(faults)} faults")
    return 1 if faults or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
