# SPDX-License-Identifier: Apache-2.0
"""The arrows between rooms, and who may look at the machine. Checks its own rules first.

usage: layering.py PROJECT_FOLDER
"""
import pathlib
import posixpath
import re
import sys

BELOW_OPS = ["config", "core", "pattern", "quant"]
BELOW_MODELS = BELOW_OPS + ["ops", "layers"]
BELOW_TOP = BELOW_MODELS + ["models", "train"]
# What each room may include, besides itself.
ARROWS = {
    "config": [],
    "core": ["config"],
    "pattern": ["config", "core"],
    "quant": ["config", "core"],
    "ops": BELOW_OPS,
    "layers": BELOW_OPS + ["ops"],
    "models": BELOW_MODELS,
    "train": BELOW_MODELS,
    "io": BELOW_TOP,
    "parallel": BELOW_TOP,
    "serve": BELOW_TOP,
    "data": BELOW_TOP,
    "backend/rows": BELOW_OPS + ["ops"],
    "backend/reference": BELOW_OPS + ["ops", "backend/rows"],
    "backend/cpu": BELOW_OPS + ["ops", "backend/rows", "backend/reference"],
    "backend/cuda": BELOW_OPS + ["ops", "backend/rows"],
}
UMBRELLAS = {"deepseek.hpp", "cuda.cuh", "io.hpp", "parallel.hpp", "serve.hpp", "data.hpp"}

# (what, pattern, the only paths where it may stand)
ONLY_IN = [
    ("Eigen", r'#\s*include\s*[<"](unsupported/)?Eigen/', r"backend/cpu/"),
    ("CUDA or CUB", r'#\s*include\s*[<"](cuda|cub/|thrust/|cublas|cooperative_groups|mma\.h|nccl)',
     r"backend/cuda/"),
    ("JSON", r'#\s*include\s*[<"]nlohmann/', r"io/"),
    ("a CUDA compiler macro", r"\b__CUDACC__|\b__CUDA_ARCH", r"config\.hpp$|backend/cuda/"),
    ("an instruction-set macro", r"\b__(AVX\w*|SSE\w*|FMA|F16C|BMI2?|ARM_\w+)\b",
     r"config\.hpp$|backend/cpu/simd"),
    ("intrinsics", r'#\s*include\s*[<"](\w*intrin|arm_neon|arm_sve)\.h', r"backend/cpu/simd"),
]
NOWHERE = [
    ("all of Eigen or CUB (slow to compile)",
     r'#\s*include\s*[<"](Eigen/(Dense|Eigen)|cub/cub\.cuh)'),
    ("a header that g++ 12 lacks", r"#\s*include\s*<(format|expected|mdspan|print)>"),
    ("a file name that says nothing", None),
]
VAGUE = re.compile(r"(^|[/_])(util|utils|helper|helpers|common|misc|fast|opt|v\d+)(_|\.|/)")
MOST_MACROS = 8


def room_of(path):
    """The room of a path below include/deepseek; None for an umbrella or a stranger."""
    if path in ("config.hpp", "deepseek/config.hpp"):
        return "config"
    parts = path.split("/")
    if parts[0] == "backend":
        return "/".join(parts[:2]) if len(parts) > 2 else None
    return parts[0] if len(parts) > 1 else None


def code_of(text):
    """The text without comments; line numbers stay."""
    keep_lines = lambda match: "\n" * match.group(0).count("\n")
    return re.sub(r"//[^\n]*|/\*.*?\*/", keep_lines, text, flags=re.S)


def target_of(path, spelled, quoted):
    """Path below include/deepseek that an include means, or None when it is not ours."""
    if spelled.startswith("deepseek/"):
        return spelled[len("deepseek/"):]
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), spelled)) if quoted else None


def arrow_faults(path, code, headers):
    room = room_of(path)
    for number, line in enumerate(code.splitlines(), 1):
        match = re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line)
        target = match and target_of(path, match.group(2), match.group(1) == '"')
        if not target:
            continue
        if target not in headers:
            yield number, f"includes {target}, which is not there"
        elif room is None:
            continue  # an umbrella may include everything
        elif room_of(target) is None:
            yield number, f"{room} includes the umbrella {target}; include what it uses"
        elif room_of(target) != room and room_of(target) not in ARROWS[room]:
            yield number, f"{room} may not include {room_of(target)} ({target})"


def pattern_faults(path, code):
    for what, pattern, where in ONLY_IN:
        if re.match(where, path) is None:
            for number, line in enumerate(code.splitlines(), 1):
                if re.search(pattern, line):
                    yield number, f"{what} belongs to {where} only"
    for what, pattern in NOWHERE:
        if pattern is None and VAGUE.search(path):
            yield 1, f"{what}: {path}"
        for number, line in enumerate(code.splitlines(), 1):
            if pattern and re.search(pattern, line):
                yield number, f"{what} is not used here"


def macro_faults(path, code):
    defined = re.findall(r"^\s*#\s*define\s+(\w+)", code, flags=re.M)
    gone = re.findall(r"^\s*#\s*undef\s+(\w+)", code, flags=re.M)
    if path == "config.hpp":
        strange = [name for name in defined if not name.startswith("DEEPSEEK_")]
        if strange or len(set(defined)) > MOST_MACROS:
            yield 1, f"at most {MOST_MACROS} macros, all DEEPSEEK_: {sorted(set(defined))}"
    else:
        for name in defined:
            if name not in gone:
                yield 1, f"macro {name} belongs to config.hpp (or is undefined in the same file)"


def form_faults(path, text):
    if not text.startswith("// SPDX-License-Identifier: Apache-2.0\n"):
        yield 1, "line 1 is `// SPDX-License-Identifier: Apache-2.0`"
    if not re.search(r"^#pragma once$", text, flags=re.M):
        yield 1, "#pragma once is missing"


def faults(path, text, headers):
    """(line, reason) for one header; `path` is relative to include/deepseek."""
    code = code_of(text)
    if room_of(path) is None and path not in UMBRELLAS:
        yield 1, "is in no room and is no umbrella; put it into a room"
    elif room_of(path) is not None and room_of(path) not in ARROWS:
        yield 1, f"the room {room_of(path)} is not in the plan"
    else:
        yield from arrow_faults(path, code, headers)
    yield from pattern_faults(path, code)
    yield from macro_faults(path, code)
    yield from form_faults(path, text)


HEAD = "// SPDX-License-Identifier: Apache-2.0\n#pragma once\n"
PLANTED = [  # (path, text, must be refused)
    ("ops/gemm.hpp", HEAD + "#include <deepseek/core/view.hpp>\n#include <vector>\n", False),
    ("ops/gemm.hpp", HEAD + '#include "../core/view.hpp"\n', False),
    ("ops/gemm.hpp", HEAD + "// never __AVX2__, never #include <Eigen/Core>\n", False),
    ("deepseek.hpp", HEAD + "#include <deepseek/layers/x.hpp>\n"
     "#include <deepseek/backend/cpu/x.hpp>\n", False),
    ("backend/cpu/x.hpp", HEAD + "#include <deepseek/backend/reference/x.hpp>\n"
     "#include <Eigen/Core>\n", False),
    ("backend/cpu/simd.hpp", HEAD + "#include <immintrin.h>\n"
     "#if defined(__AVX2__)\n#endif\n", False),
    ("data/x.hpp", HEAD + "#include <deepseek/train/x.hpp>\n", False),
    ("ops/x.hpp", HEAD + "#define SIZES 3\n#undef SIZES\n", False),
    ("core/view.hpp", HEAD + "#include <deepseek/ops/gemm.hpp>\n", True),
    ("core/view.hpp", HEAD + '#include "../ops/gemm.hpp"\n', True),
    ("core/view.hpp", HEAD + "  #  include <deepseek/ops/gemm.hpp>\n", True),
    ("core/view.hpp", HEAD + "#include <deepseek/core/gone.hpp>\n", True),
    ("ops/gemm.hpp", HEAD + "#include <deepseek/deepseek.hpp>\n", True),
    ("layers/x.hpp", HEAD + "#include <deepseek/backend/cpu/x.hpp>\n", True),
    ("layers/x.hpp", HEAD + "#include <deepseek/train/x.hpp>\n", True),
    ("models/x.hpp", HEAD + "#include <deepseek/train/x.hpp>\n", True),
    ("io/x.hpp", HEAD + "#include <deepseek/data/x.hpp>\n", True),
    ("backend/cpu/x.hpp", HEAD + "#include <deepseek/layers/x.hpp>\n", True),
    ("backend/reference/x.hpp", HEAD + "#include <deepseek/backend/cpu/x.hpp>\n", True),
    ("backend/cuda/x.hpp", HEAD + "#include <deepseek/backend/reference/x.hpp>\n", True),
    ("backend/reference/x.hpp", HEAD + "#include <Eigen/Core>\n", True),
    ("backend/cpu/x.hpp", HEAD + "#include <Eigen/Dense>\n", True),
    ("backend/rows/x.hpp", HEAD + "#include <cub/block/block_scan.cuh>\n", True),
    ("core/view.hpp", HEAD + "#include <cuda_runtime.h>\n", True),
    ("core/view.hpp", HEAD + "#ifdef __CUDACC__\n#endif\n", True),
    ("core/view.hpp", HEAD + "#if __CUDA_ARCH__ >= 800\n#endif\n", True),
    ("backend/cpu/x.hpp", HEAD + "#if defined(__AVX512F__)\n#endif\n", True),
    ("backend/cpu/x.hpp", HEAD + "#include <immintrin.h>\n", True),
    ("core/view.hpp", HEAD + "#include <nlohmann/json.hpp>\n", True),
    ("core/view.hpp", HEAD + "#include <format>\n", True),
    ("core/string_utils.hpp", HEAD, True),
    ("core/view.hpp", HEAD + "#define DEEPSEEK_MORE 1\n", True),
    ("config.hpp", HEAD + "".join(f"#define DEEPSEEK_{n} 1\n" for n in range(9)), True),
    ("stray.hpp", HEAD, True),
    ("misplaced/x.hpp", HEAD, True),
    ("backend/x.hpp", HEAD, True),
    ("core/view.hpp", "#pragma once\n", True),
    ("core/view.hpp", "// SPDX-License-Identifier: Apache-2.0\n", True),
]


def self_test():
    headers = {"deepseek.hpp", "config.hpp", "core/view.hpp", "ops/gemm.hpp", "layers/x.hpp",
               "train/x.hpp", "data/x.hpp", "backend/cpu/x.hpp", "backend/reference/x.hpp"}
    return [(path, text) for path, text, refused in PLANTED
            if bool(list(faults(path, text, headers))) != refused]


def main():
    wrong = self_test()
    for path, text in wrong:
        print(f"self-test: judged wrongly: {path}\n{text}")
    root = pathlib.Path(sys.argv[1], "include", "deepseek")
    texts = {str(path.relative_to(root)): path.read_text() for path in sorted(root.rglob("*"))
             if path.is_file()}
    found = [f"include/deepseek/{path}:{line}: {reason}" for path, text in texts.items()
             for line, reason in faults(path, text, texts)]
    print("\n".join(found))
    print(f"{len(PLANTED)} planted files judged, {len(texts)} headers, {len(found)} faults")
    return 1 if wrong or found or not texts else 0


if __name__ == "__main__":
    sys.exit(main())
