# SPDX-License-Identifier: Apache-2.0
"""Everything that needs a GPU, in one go: builds for this machine's device, runs all device tests,
runs them on few cases under compute-sanitizer, and writes one JSON and one Markdown page.

usage: on_gpu.py PROJECT_FOLDER BUILD_FOLDER OUTPUT_FOLDER [--prefix FOLDER] [--limit SECONDS]
                 [--built] [--no-sanitizer]
--prefix: where Eigen and doctest are, if not installed (cmake/carry.sh makes such a folder).
--limit: of all together; what tells most comes first (first.txt), tests run while the next programs
are compiled, and the results so far are written after each, so that a run cut short leaves them.
Tests that are not among the first share programs (tests/CMakeLists.txt), each a suite and a process.
--built: the programs are in BUILD_FOLDER/bin already; nothing is compiled.
Ends with 1 when a test fails, does not compile or was not reached, 77 when there is no device.
"""
import argparse
import concurrent.futures
import contextlib
import datetime
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time

FIRST = (pathlib.Path(__file__).parent / "first.txt").read_text().split()
# Those whose barriers, asynchronous copies and clusters the simulation shows least of.
CHECKED = """
device_ops_attention_groups device_ops_grouped_gemm_groups device_ops_attention_latent_groups
device_ops_grouped_gemm device_ops_attention device_ops_clusters device_ops_cluster_norms
device_ops_attention_backward device_ops_gate device_ops_quant_gemm
""".split()
# What a tool says when it has seen all and found nothing.
CLEAN = {"memcheck": "ERROR SUMMARY: 0 errors", "racecheck": "RACECHECK SUMMARY: 0 hazards",
         "synccheck": "ERROR SUMMARY: 0 errors", "initcheck": "ERROR SUMMARY: 0 errors"}
FEW_CASES = "--case=1"  # of the case tables, those whose text holds a 1
TOGETHER = 4  # programs on the device at a time
PER_PROGRAM = 6  # tests that share a program, at most
PROGRAM_SECONDS, SANITIZER_SECONDS = 180, 120
NOT_BEGUN = "no time was left"


def said(command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def machine():
    query = "name,driver_version,clocks.max.sm,clocks.max.mem,power.limit"
    gpu = said(["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"])
    nvcc = said([shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc", "--version"])
    version = re.search(r"release ([\d.]+), V([\d.]+)", nvcc)
    return {"date": datetime.date.today().isoformat(), "gpu": gpu.splitlines()[0] if gpu else "",
            "nvcc": version.group(2) if version else "", "host": said(["uname", "-m"])}


def architecture():
    """A Hopper GPU by its name: native need not mean sm_90a and its warp groups."""
    capability = said(["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"])
    return "90a-real" if capability.splitlines()[:1] == ["9.0"] else "native"


def run(command, seconds, **more):
    """The exit status (None: it took longer, and was killed with all it started) and the text."""
    if seconds <= 0:
        return None, NOT_BEGUN
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   text=True, errors="replace", start_new_session=True, **more)
    except OSError as error:
        return 127, str(error)
    try:
        text, _ = process.communicate(timeout=seconds)
        return process.returncode, text
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        text, _ = process.communicate()
        return None, text


def shortened(text):
    """The first fault tells most: after an illegal access all else fails too."""
    return text if len(text) < 6000 else text[:4000] + "\n...\n" + text[-1500:]


class Run:
    def __init__(self, args):
        self.project, self.folder = args.project.resolve(), args.build.resolve()
        self.output, self.built, self.prefix = args.output, args.built, args.prefix
        self.begin, self.limit = time.monotonic(), args.limit
        self.results = {"machine": machine(), "seconds": {}, "tests": {}, "sanitizer": {},
                        "compiling": {}}
        self.device = threading.Semaphore(TOGETHER)
        self.writing, self.ninja = threading.Lock(), threading.Lock()
        self.batches = self.read_batches()

    def left(self):
        return self.limit - (time.monotonic() - self.begin)

    def programs(self):
        """All: those of FIRST, then attention's, which take longest to compile."""
        room = self.project / "tests"
        names = [f"cuda_{s.stem}_cuda" for s in (room / "cuda").glob("*.cu")]
        for kind in ("ops", "layers"):
            names += [f"device_{s.stem}" for s in (room / "simulation").glob(f"{kind}_*.cpp")]
        if self.built:
            names = [n for n in names if self.program(n).exists()]
        return sorted(names, key=lambda n: (FIRST.index(n) if n in FIRST else len(FIRST),
                                            "attention" not in n, n))

    def read_batches(self):
        """The programs and suites of tests that share one; it is written where cmake configures."""
        path = self.folder / "bin" / "device_batches.txt"
        lines = path.read_text().splitlines() if path.exists() else []
        return {name: (program, suite) for name, program, suite in map(str.split, lines)}

    def target(self, name):
        return self.batches[name][0] if name in self.batches else f"test_{name}"

    def program(self, name):
        return self.folder / "bin" / self.target(name)

    def step(self, name):
        self.results["seconds"][name] = round(time.monotonic() - self.begin, 1)
        self.write()

    def write(self):
        self.output.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.results, indent=1) + "\n"
        (self.output / "device_tests.json").write_text(text)
        (self.output / "device_tests.md").write_text(page(self.results))

    def configure(self):
        command = ["cmake", "-S", str(self.project), "-B", str(self.folder), "-G", "Ninja",
                   "-DCMAKE_BUILD_TYPE=Release", "-DDEEPSEEK_CUDA=ON", "-DDEEPSEEK_EXAMPLES=OFF",
                   "-DDEEPSEEK_BENCH=OFF", f"-DCMAKE_CUDA_ARCHITECTURES={architecture()}",
                   f"-DDEEPSEEK_TESTS_PER_PROGRAM={PER_PROGRAM}", "--log-level=WARNING"]
        if self.prefix:
            command.append(f"-DCMAKE_PREFIX_PATH={pathlib.Path(self.prefix).resolve()}")
        status, text = run(command, self.left())
        if status != 0:
            print(text, file=sys.stderr)
            raise SystemExit("on_gpu: configuring failed")
        self.batches = self.read_batches()

    def shared(self):
        """What all programs link, and the commands that no longer need to run."""
        objects = ["test_support", "test_managed"]
        status, text = run(["cmake", "--build", str(self.folder), "--target", *objects],
                           self.left())
        if status != 0:
            print(text, file=sys.stderr)
            raise SystemExit("on_gpu: what all tests link does not compile")
        return set(self.commands(*objects))

    def commands(self, *targets):
        ninja = shutil.which("ninja") or "ninja"
        status, text = run([ninja, "-C", str(self.folder), "-t", "commands", *targets], 60)
        lines = [line for line in text.splitlines() if line and not line.startswith("ninja: ")]
        return lines if status == 0 else [f"echo {shlex.quote(text)}; false"]

    # Not by the build tool, which has its own order and would end with the slowest of each lot: a
    # program is compiled, linked and run by one of as many workers as there are processors.
    def build(self, target, names, done):
        begin = time.monotonic()
        commands = [c for c in self.commands(target) if c not in done]
        if any(".rsp" in c for c in commands):  # files that ninja writes
            commands = [f"cmake --build . --target {target}"]
        for command in commands:
            for made in re.findall(r" -o (\S+)", command):
                (self.folder / made).parent.mkdir(parents=True, exist_ok=True)
            with self.ninja if command.startswith("cmake ") else contextlib.nullcontext():
                status, text = run(["sh", "-c", command], self.left(), cwd=self.folder)
            if status != 0:
                word = "not reached" if status is None else "failed"
                for name in names:
                    entry = {"status": word, "seconds": 0, "text": shortened(text)}
                    self.note("tests", name, entry)
                return False
        self.results["compiling"][target] = round(time.monotonic() - begin, 1)
        return True

    def build_and_test(self, target, names, done):
        if self.built or self.build(target, names, done):
            for name in names:
                with self.device:
                    self.test(name)

    def test(self, name):
        begin = time.monotonic()
        command = [str(self.program(name))]
        if name.startswith("device_"):
            command.append("--test-case-exclude=*reference*")
        if name in self.batches:
            command.append(f"--test-suite={self.batches[name][1]}")
        reports = self.folder / "reports"
        reports.mkdir(parents=True, exist_ok=True)
        status, text = run(command, min(PROGRAM_SECONDS, self.left()), cwd=self.project,
                           env={**os.environ, "DEEPSEEK_REPORT_DIR": str(reports)})
        word = {0: "passed", 77: "skipped"}.get(status, "failed")
        if status is None:
            word = "not reached" if text == NOT_BEGUN else "timed out"
        entry = {"status": word, "seconds": round(time.monotonic() - begin, 1)}
        if word not in ("passed", "skipped"):
            entry.update(exit=status, text=shortened(text))
        self.note("tests", name, entry)

    def note(self, kind, name, entry):
        with self.writing:
            self.results[kind][name] = entry
            print(f"on_gpu: {name} {entry['status']} ({self.limit - self.left():.0f} s)",
                  flush=True)
            self.write()

    def tests(self):
        targets, done = {}, set()
        for name in self.programs():
            targets.setdefault(self.target(name), []).append(name)
        if not self.built:
            done = self.shared()
            self.step("what all link")
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 4) as pool:
            for one in [pool.submit(self.build_and_test, target, names, done)
                        for target, names in targets.items()]:
                one.result()

    def sanitizer(self):
        tool = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
        if not os.path.exists(tool):
            self.results["sanitizer"]["compute-sanitizer"] = {"status": "not installed"}
            return
        for which in CLEAN:
            for name in CHECKED:
                if not self.program(name).exists():
                    continue
                status, text = run([tool, "--tool", which, "--error-exitcode", "99",
                                    str(self.program(name)), "--test-case-exclude=*reference*",
                                    FEW_CASES], min(SANITIZER_SECONDS, self.left()),
                                   cwd=self.project)
                entry = {"status": "clean"}
                if status is None:
                    entry["status"] = "not reached" if text == NOT_BEGUN else "timed out"
                elif status == 99 or CLEAN[which] not in text:
                    entry = {"status": "not clean", "exit": status, "text": shortened(text)}
                self.note("sanitizer", f"{name} {which}", entry)


def page(results):
    about, tests, sanitizer = results["machine"], results["tests"], results["sanitizer"]
    words = [t["status"] for t in tests.values()]
    counts = ", ".join(f"{words.count(w)} {w}" for w in sorted(set(words))) or "none"
    lines = [f"# Device tests, {about['date']}", "",
             f"{about['gpu']}; nvcc {about['nvcc']}. Programs: {counts}.", "",
             "| program | result | seconds |", "| --- | --- | --- |"]
    lines += [f"| {name} | {t['status']} | {t['seconds']:.1f} |" for name, t in tests.items()]
    bad = {name: s for name, s in sanitizer.items() if s["status"] != "clean"}
    lines += ["", f"compute-sanitizer: {len(sanitizer)} runs, {len(bad)} not clean."]
    lines += [f"- {name}: {s['status']}" for name, s in bad.items()]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("project", type=pathlib.Path)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("output", type=pathlib.Path)
    parser.add_argument("--prefix")
    parser.add_argument("--limit", type=float, default=1e6)
    parser.add_argument("--built", action="store_true")
    parser.add_argument("--no-sanitizer", action="store_true")
    args = parser.parse_args()
    all_of_it = Run(args)
    if not all_of_it.results["machine"]["gpu"]:
        print("on_gpu: skipped: nvidia-smi finds no device", file=sys.stderr)
        return 77
    if not args.built:
        all_of_it.configure()
        all_of_it.step("configured")
    all_of_it.tests()
    all_of_it.step("tested")
    if not args.no_sanitizer:
        all_of_it.sanitizer()
    all_of_it.step("done")
    fine = ("passed", "skipped", "clean", "not installed")
    bad = {kind: [f"{name} ({r['status']})" for name, r in all_of_it.results[kind].items()
                  if r["status"] not in (*fine, "not reached")] for kind in ("tests", "sanitizer")}
    missed = sum(r["status"] == "not reached" for kind in ("tests", "sanitizer")
                 for r in all_of_it.results[kind].values())
    print(f"on_gpu: {len(all_of_it.results['tests'])} programs, not passed: "
          f"{', '.join(bad['tests']) or 'none'}; sanitizer not clean: "
          f"{', '.join(bad['sanitizer']) or 'none'}; not reached: {missed}; {args.output}")
    return 1 if bad["tests"] or bad["sanitizer"] or missed else 0


if __name__ == "__main__":
    sys.exit(main())
