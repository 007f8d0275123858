# SPDX-License-Identifier: Apache-2.0
"""generate on a small checkpoint folder: the same text for any number of threads and again, every
weight format, prompts as a chat, figures; folders and arguments that must be refused.

usage: test_generate.py build/bin/generate
"""
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

GOLDEN = pathlib.Path(__file__).parent.parent / "parity" / "golden"
MARKS = ["<\uff5cbegin\u2581of\u2581sentence\uff5c>", "<\uff5cend\u2581of\u2581sentence\uff5c>",
         "<\uff5cUser\uff5c>", "<\uff5cAssistant\uff5c>", "<think>", "</think>"]
LETTERS = "abcdefghijklmnopqrstuvwxyz .,\u0120\u010a"  # the last two: space and line break, mapped

failures = 0


def check(good, what):
    global failures
    if not good:
        failures += 1
        print("FAILED:", what)


def write_tokenizer(path):
    """A byte-level tokenizer of 48 tokens or fewer: marks and letters, no merges."""
    letters = [c for c in LETTERS if c != " "]
    vocabulary = {letter: len(MARKS) + i for i, letter in enumerate(letters)}
    added = [{"id": i, "content": mark, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False, "special": True} for i, mark in enumerate(MARKS)]
    path.write_text(json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                          "use_regex": True},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                    "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None,
                  "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": vocabulary, "merges": []}}), encoding="utf-8")


def run(program, *arguments):
    return subprocess.run([program, *map(str, arguments)], capture_output=True, timeout=60)


def refused(done, status, code, *words):
    last = done.stderr.decode().strip().splitlines()[-1] if done.stderr else ""
    try:
        said = json.loads(last)
    except json.JSONDecodeError:
        return False
    return (done.returncode == status and said["error"] == code
            and all(word in said["message"] for word in words))


def check_folder(program, folder):
    first = run(program, folder, "to be", "--tokens", 12)
    text = first.stdout.decode()
    check(first.returncode == 0 and text.startswith("to be"), f"text: {first}")
    figures = first.stderr.decode()
    for word in ("weights", "cache", "memory", "prefill", "decode", "tokens/s"):
        check(word in figures, f"figures without {word}: {figures}")
    check("240 bytes a token" in figures, f"3 layers of 20 cached floats: {figures}")
    for threads in (1, 2):
        again = run(program, folder, "to be", "--tokens", 12, "--threads", threads)
        check(again.stdout == first.stdout, f"{threads} threads: {again.stdout} {first.stdout}")
    drawn = [run(program, folder, "to be", "--tokens", 12, "--temperature", 2, "--seed", seed).stdout
             for seed in (1, 1, 2)]
    check(drawn[0] == drawn[1] != drawn[2], f"sampling follows the seed: {drawn}")
    for form in ("bf16", "int8", "int4", "fp8"):
        done = run(program, folder, "to be", "--tokens", 5, "--quantize", form)
        check(done.returncode == 0 and done.stdout.decode().startswith("to be"), f"{form}: {done}")
    for chat in ("v3", "r1"):
        done = run(program, folder, "hi", "--tokens", 5, "--chat", chat)
        check(done.returncode == 0, f"chat {chat}: {done}")


def check_refusals(program, folder, scratch):
    check(refused(run(program), 2, "invalid_argument", "no folder"), "no folder")
    check(refused(run(program, scratch / "nowhere", "a"), 2, "io"), "a folder that is not there")
    check(refused(run(program, folder, "A"), 2, "encode"), "a byte without a token")
    check(refused(run(program, "--random", "v9"), 77, "unsupported", "v9", "tiny_v3",
                  "DEEPSEEK_GENERATE_PRESETS"), "a preset that is not built in")
    check(refused(run(program, "--random", "tiny_v3", "--prompt-tokens", 0), 2,
                  "invalid_argument"), "an empty prompt")
    other = scratch / "other"
    shutil.copytree(folder, other)
    config = json.loads((other / "config.json").read_text())
    config["hidden_size"], config["routed_scaling_factor"] = 64, 1.5
    (other / "config.json").write_text(json.dumps(config))
    check(refused(run(program, other, "a"), 77, "unsupported", "hidden_size is 64 and not 32",
                  "routed_scaling_factor is 1.5 and not 2.5", "DEEPSEEK_GENERATE_PRESETS"),
          "a config of another model: " + run(program, other, "a").stderr.decode())
    shutil.copy(folder / "config.json", other)
    (other / "tokenizer.json").unlink()
    check(refused(run(program, other, "a"), 2, "io", "tokenizer.json"), "no tokenizer")


def main():
    program = sys.argv[1]
    with tempfile.TemporaryDirectory() as name:
        scratch = pathlib.Path(name)
        folder = scratch / "model"
        shutil.copytree(GOLDEN / "deepseek_v3", folder)
        write_tokenizer(folder / "tokenizer.json")
        check_folder(program, folder)
        check_refusals(program, folder, scratch)
    print(f"generate: {failures} faults")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
