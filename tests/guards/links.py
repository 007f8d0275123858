# SPDX-License-Identifier: Apache-2.0
"""Links, anchors and paths in the documents lead somewhere inside the project.

usage: links.py PROJECT_FOLDER
"""
import pathlib
import re
import sys

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)[^)]*\)")
# A path in backquotes counts when it begins with a folder of ours.
PATH = re.compile(r"`((?:include|tests|bench|examples|docs|cmake|\.ci)/[\w./-]+)`")


def without_code(text):
    return re.sub(r"^```.*?^```[^\n]*$", lambda m: "\n" * m.group(0).count("\n"), text,
                  flags=re.S | re.M)


def anchors(text):
    """The names that a heading can be linked by."""
    heads = re.findall(r"^#+\s+(.*)$", without_code(text), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def faults(document, root):
    text = document.read_text()
    for number, line in enumerate(without_code(text).splitlines(), 1):
        for link in LINK.findall(line):
            if re.match(r"[a-z]+:", link):
                continue  # the outside world is not ours to check
            name, _, anchor = link.partition("#")
            target = (document.parent / name) if name else document
            if not target.exists():
                yield number, f"link {link}: {name} is not there"
            elif anchor and target.suffix == ".md" and anchor not in anchors(target.read_text()):
                yield number, f"link {link}: no such heading"
        for path in PATH.findall(line):
            if not (root / path).exists():
                yield number, f"path {path} is not there"


def main():
    root = pathlib.Path(sys.argv[1])
    documents = sorted([*root.glob("*.md"), *root.glob("docs/**/*.md"), *root.glob("bench/**/*.md"),
                        *root.glob("examples/**/*.md"), *root.glob("tests/**/*.md")])
    found = [f"{document.relative_to(root)}:{line}: {reason}" for document in documents
             for line, reason in faults(document, root)]
    print(*found, sep="\n")
    print(f"{len(documents)} documents, {len(found)} faults")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
