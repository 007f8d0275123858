# SPDX-License-Identifier: Apache-2.0
"""tokenize against the package tokenizers: the ids and texts of tests/parity/tokenizer, which
tests/parity/tokenizer_files.py made; then refusals, and a tokenizer of the user's if
DEEPSEEK_TOKENIZER names one.

usage: test_tokenize.py PROGRAM
"""
import json
import lzma
import os
import pathlib
import subprocess
import sys
import tempfile

FILES = pathlib.Path(__file__).resolve().parents[1] / "parity" / "tokenizer"
faults = []


def call(path, verb, lines, *flags):
    run = subprocess.run([sys.argv[1], str(path), verb, *flags], input="".join(lines),
                         capture_output=True, encoding="utf-8", timeout=120)
    return run.returncode, run.stdout, run.stderr


def values(path, verb, inputs, *flags):
    """One output per input, or None with a fault noted."""
    status, out, err = call(path, verb, [json.dumps(value) + "\n" for value in inputs], *flags)
    results = [json.loads(line) for line in out.splitlines()]
    if status != 0 or len(results) != len(inputs):
        faults.append(f"{path.name} {verb}: status {status}, {len(results)} lines, {err.strip()}")
        return [None] * len(inputs)
    return results


def compare(name, inputs, wanted, got):
    wrong = [i for i, value in enumerate(wanted) if got[i] != value]
    for i in wrong[:5]:
        faults.append(f"{name}: {ascii(inputs[i])}: {ascii(got[i])}, wanted {ascii(wanted[i])}")
    if wrong:
        faults.append(f"{name}: {len(wrong)} of {len(wanted)} differ")


def golden(path):
    """Ids with and without what the template adds, and the text back without special tokens."""
    raw = lzma.decompress(path.with_name(path.stem + ".golden.xz").read_bytes()).decode()
    texts, ids, added, shown = zip(*(json.loads(line) for line in raw.split("\n") if line))
    compare(f"{path.stem} encode", texts, ids, values(path, "encode", texts))
    compare(f"{path.stem} encode --special", texts, [a + i for a, i in zip(added, ids)],
            values(path, "encode", texts, "--special"))
    back = values(path, "decode", ids, "--special")
    # The package decodes an added token of letters of the byte alphabet as those bytes.
    letters = {token["id"] for token in json.loads(path.read_text())["added_tokens"]
               if not token["content"].isascii() and max(token["content"]) <= "\u0143"}
    compare(f"{path.stem} decode --special", ids,
            [text if letters.isdisjoint(tokens) else mine
             for tokens, text, mine in zip(ids, shown, back)], back)
    return len(texts)


def round_trip(path, texts):
    compare(f"{path.stem} round trip", texts, texts,
            values(path, "decode", values(path, "encode", texts)))


def refused(name, arguments, code, status=2):
    got, out, err = call(*arguments)
    line = json.loads(err.strip().splitlines()[-1]) if err.strip() else {}
    if got != status or line.get("error") != code:
        faults.append(f"{name}: status {got}, {line}, wanted {status} {code}")


def refusals(folder):
    v3 = FILES / "v3.json"
    size = max(json.loads(v3.read_text())["model"]["vocab"].values()) + 7
    refused("absent", (folder / "absent", "encode", []), "io")
    refused("verb", (v3, "count", []), "invalid_argument")
    for line in ("7", "[]", "null", "{}"):
        refused(f"encode {line}", (v3, "encode", [line + "\n"]), "schema")
    for line in ("", "\"a", "\"\\ud800\"", "a"):
        refused(f"encode {line}", (v3, "encode", [line + "\n"]), "json")
    for line in ("\"a\"", "[1.5]", "[null]", "[\"1\"]", "[[1]]"):
        refused(f"decode {line}", (v3, "decode", [line + "\n"]), "schema")
    for number in (-1, size, 2**31, 2**32, -2**40, 2**63):
        refused(f"decode {number}", (v3, "decode", [f"[{number}]\n"]), "index_range")
    document = json.loads(v3.read_text())
    document["model"]["type"] = "Unigram"
    (folder / "unigram.json").write_text(json.dumps(document))
    refused("Unigram", (folder / "unigram.json", "encode", []), "unsupported", 77)
    (folder / "cut.json").write_text(v3.read_text()[:1000])
    refused("cut", (folder / "cut.json", "encode", []), "json")
    status, out, _ = call(v3, "encode", ["\"a\"\n", "7\n"])
    if status != 2 or len(out.splitlines()) != 1:
        faults.append("a wrong second line: the first is printed, then the error")
    if call(v3, "encode", []) != (0, "", "") or call(v3, "decode", ["[]\n"]) != (0, "\"\"\n", ""):
        faults.append("no line in, no line out; no ids, an empty text")


def main():
    count = 0
    for path in sorted(FILES.glob("*.json")):
        count += golden(path)
    raw = lzma.decompress((FILES / "v3.golden.xz").read_bytes()).decode()
    texts = [json.loads(line)[0] for line in raw.split("\n") if line]
    for name in ("v3", "llm", "coder", "llama", "behaviors"):
        round_trip(FILES / f"{name}.json", texts)
    if count < 2000:
        faults.append(f"only {count} golden texts")
    with tempfile.TemporaryDirectory() as folder:
        refusals(pathlib.Path(folder))
    own = os.environ.get("DEEPSEEK_TOKENIZER")
    if own:
        round_trip(pathlib.Path(own), texts)
    print("the file of DEEPSEEK_TOKENIZER:", "read" if own else "skipped (1 case), not set")
    for fault in faults:
        print("FAULT", fault)
    print(f"tokenize: {count} golden texts, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
