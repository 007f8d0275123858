# SPDX-License-Identifier: Apache-2.0
"""run_op against numbers computed here in double, for every op of its table, type and backend; and
how it refuses what it cannot do.

usage: test_run_op.py PROGRAM
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import run_op_cases
import run_op_oracle
import safetensors

TIMEOUT = 60
# Unit roundoff; the bound of a case is this times its factor.
ROUNDOFF = {"f64": 2.0 ** -53, "f32": 2.0 ** -24, "bf16": 2.0 ** -8, "f16": 2.0 ** -11}
MACHINES = (["--backend", "reference"], ["--backend", "cpu", "--threads", "1"],
            ["--backend", "cpu", "--threads", "3"])


CUDA = ["--backend", "cuda"]
HOST_ONLY = {"int8_gemm", "int4_int8_gemm", "grouped_int4_int8_gemm"}  # docs/run_op.md


class Runner:
    def __init__(self, program, folder):
        self.program, self.folder = program, pathlib.Path(folder)
        self.cases, self.faults, self.on_device = 0, [], 0
        self.device = self.has_device()

    def call(self, arguments):
        run = subprocess.run([self.program, *map(str, arguments)], capture_output=True, text=True,
                             timeout=TIMEOUT)
        return run.returncode, run.stderr

    def has_device(self):
        """Whether this build and machine run on a GPU."""
        case = run_op_cases.small_softmax("f32")
        source, target = self.folder / "case.safetensors", self.folder / "out.safetensors"
        safetensors.write(source, case.metadata(), case.tensors)
        status, _ = self.call([source, target, *CUDA])
        return status == 0

    def fault(self, name, text):
        self.faults.append(f"{name}: {text}")

    def results(self, case, machine):
        source, target = self.folder / "case.safetensors", self.folder / "out.safetensors"
        target.unlink(missing_ok=True)
        safetensors.write(source, case.metadata(), case.tensors)
        status, said = self.call([source, target, *machine])
        if status != 0:
            self.fault(case.name, f"{machine}: status {status}: {said.strip()}")
            return None
        return safetensors.read(target)

    def compare(self, case):
        """Results are near the expected ones and the same bits for any number of threads."""
        self.cases += 1
        by_machine = [self.results(case, machine) for machine in MACHINES]
        if any(r is None for r in by_machine):
            return
        if {n: t.raw() for n, t in by_machine[1].items()} != \
                {n: t.raw() for n, t in by_machine[2].items()}:
            self.fault(case.name, "1 and 3 threads give other bits")
        self.compare_on_device(case)
        for got in by_machine[:2]:
            for name, wanted in case.expected.items():
                reason = self.difference(case, got.get(name), wanted)
                if reason:
                    self.fault(case.name, f"{name}: {reason}")

    def compare_on_device(self, case):
        if not self.device or case.op in HOST_ONLY:
            return
        got = self.results(case, CUDA)
        self.on_device += 1
        for name, wanted in case.expected.items() if got is not None else []:
            reason = self.difference(case, got.get(name), wanted)
            if reason:
                self.fault(case.name, f"cuda: {name}: {reason}")

    @staticmethod
    def difference(case, got, wanted):
        if got is None:
            return "is not there"
        if (got.dtype, got.shape) != (wanted.dtype, wanted.shape):
            return f"is {got.dtype}{got.shape}, expected {wanted.dtype}{wanted.shape}"
        unit = 0 if wanted.dtype == "I64" else ROUNDOFF.get(case.kind, 0) * case.factor
        largest = max([abs(x) for x in wanted.data if abs(x) < 1e300] or [0])
        for i, (x, y) in enumerate(zip(got.data, wanted.data)):
            if x != y and not abs(x - y) <= unit * max(largest, 1):
                return f"element {i} is {x!r}, expected {y!r}"
        return None

    def refuse(self, name, arguments, status, code, *words):
        """Ends with that status, and the last line says the code and the words."""
        self.cases += 1
        got, said = self.call(arguments)
        try:
            line = json.loads(said.strip().splitlines()[-1])
        except (ValueError, IndexError):
            return self.fault(name, f"status {got}, no JSON line at the end: {said!r}")
        if (got, line.get("error")) != (status, code):
            self.fault(name, f"status {got}, {line}; expected {status}, {code}")
        for word in words:
            if word not in line.get("message", ""):
                self.fault(name, f"{line['message']!r} does not say {word!r}")


def refusals(runner):
    folder = runner.folder
    out = folder / "refused.safetensors"
    for name, case, status, code, words in run_op_cases.refusals():
        path = folder / "refusal.safetensors"
        safetensors.write(path, case.metadata(), case.tensors)
        runner.refuse(name, [path, out], status, code, *words)
    good = run_op_cases.small_softmax("f32")
    path = folder / "good.safetensors"
    safetensors.write(path, good.metadata(), good.tensors)
    if not runner.device:
        beside = (pathlib.Path(runner.program).parent / "run_op_cuda").exists()
        runner.refuse("cuda", [path, out, *CUDA], 77, "device" if beside else "unsupported",
                      "no device" if beside else "reference and cpu")
    runner.refuse("backend", [path, out, "--backend", "gpu"], 2, "invalid_argument")
    runner.refuse("threads", [path, out, "--backend", "cpu", "--threads", "0"], 2,
                  "invalid_argument", "threads is 0")
    runner.refuse("no file", [folder / "absent.safetensors", out], 2, "io", "absent")
    runner.refuse("no folder", [path, folder / "absent" / "out.safetensors"], 2, "io")
    runner.refuse("no arguments", [], 2, "invalid_argument")
    bytes_of = path.read_bytes()
    for name, text, code in (("cut", bytes_of[:-1], "truncated"),
                             ("longer", bytes_of + b"x", "coverage"),
                             ("empty", b"", "truncated"),
                             ("foreign", b"GGUF\x03\0\0\0\xff\xff\xff\xff", "not_this_format")):
        bad = folder / "bad.safetensors"
        bad.write_bytes(text)
        runner.refuse(name, [bad, out], 2, code)
    if out.exists():
        runner.fault("refusals", "a refused case wrote a result")


def main():
    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(sys.argv[1], folder)
        ops = set()
        for case in run_op_cases.cases(run_op_oracle):
            runner.compare(case)
            ops.add(case.op)
        refusals(runner)
    for fault in runner.faults[:40]:
        print(fault)
    print(f"run_op: {runner.cases} cases of {len(ops)} ops, {runner.on_device} of them on a GPU, "
          f"{len(runner.faults)} faults")
    return 1 if runner.faults else 0


if __name__ == "__main__":
    sys.exit(main())
