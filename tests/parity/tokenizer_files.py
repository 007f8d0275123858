# SPDX-License-Identifier: Apache-2.0
"""Trains the small tokenizers of tests/parity/tokenizer and writes what the package makes of many
texts: the golden files that tests/programs/test_tokenize.py compares with.

usage: pip install tokenizers==0.23.3; python3 tests/parity/tokenizer_files.py
The texts are drawn with a fixed seed from the project's own sources and from the tables below.
"""
import json
import lzma
import pathlib
import random
import unicodedata

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers import processors, trainers

HERE = pathlib.Path(__file__).resolve().parent / "tokenizer"
ROOT = pathlib.Path(__file__).resolve().parents[2]
PINNED = "0.23.3"
BOS, EOS = "<\uff5cbegin\u2581of\u2581sentence\uff5c>", "<\uff5cend\u2581of\u2581sentence\uff5c>"
USER, ASSISTANT = "<\uff5cUser\uff5c>", "<\uff5cAssistant\uff5c>"
CJK = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
PUNCTUATION = "!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002"
V3 = [r"\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
      "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
      "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"]
# The letters of the published files are a long list of ranges: those of the scripts with case.
LLM = [r"[\r\n]", r"\s?[\p{Lu}\p{Ll}\p{Lt}]+", f"\\s?[{PUNCTUATION}]+", r"\s+$", CJK]
CODER = [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CJK, r"\p{N}"]
LLAMA = [r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+"]
QWEN = [LLAMA[0].replace(r"\p{N}{1,3}", r"\p{N}")]

SENTENCES = """The quick brown fox jumps over the lazy dog; it didn't care.
Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.
Voix ambiguë d'un cœur qui, au zéphyr, préfère les jattes de kiwis.
Эх, чужак! Общий съём цен шляп (юфть) – вдрызг!
Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.
深度求索：从密集模型到稀疏注意力，共计六千七百亿参数。
いろはにほへと ちりぬるを わかよたれそ つねならむ。カタカナ
다람쥐 헌 쳇바퀴에 타고파. 안녕하세요 세계
نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر
דג סקרן שט בים מאוכזב ולפתע מצא חברה
ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का सर्वनाश
เป็นมนุษย์สุดประเสริฐเลิศคุณค่า กว่าบรรดาฝูงสัตว์เดรัจฉาน
Հայաստան ქართული ᏣᎳᎩ ⲙⲉⲧⲣⲉⲙ 𐐔𐐯𐑅𐐨𐑉𐐯𐐻
Tiếng Việt: đường phố Hà Nội, nghìn năm văn hiến
🐋🐳 deep 👩🏽‍💻👨‍👩‍👧‍👦 🇫🇷🇯🇵 emoji ❤️✨ ☕️ 1️⃣
∑_{i=1}^{n} αᵢ·xᵢ ≤ √(β²+γ²) ⇒ ∀ε>0 ∃δ: |x−y|<δ
int main() { return 0; }  // x += 1; y->z[42] *= 3.14e-10f;
def f(x):\n\treturn {k: v for k, v in x.items() if v is not None}
1234567890 ٠١٢٣ ४५६ ⅧⅨ ½¾ ²³ 一二三 3.14159 1,000,000 0x7fff
I'll we've they're he'd IT'S DON'T 'tis ’s ‘quoted’ “double”
fullwidth：ＡＢＣ１２３！ ideographic　space\u00a0nbsp\u2003em\u200bzwsp\u180emvs\u0085nel
e\u0301 a\u0308 \u1e9b\u0323 \ufb01 \u212b \u2126 \ud55c\uae00 \u1112\u1161\u11ab o\u0323\u0302""".splitlines()
BLANKS = [" ", "  ", "   ", "\t", "\n", "\r\n", "\n\n", " \n ", "\u3000", "\u00a0", "\u2028", "\u0085",
          "\x0b", "\x0c", "\x1c", "\u180e", "\u200b", "        ", "\r"]


OVERLAPPING = ["al", "alon", "<a", "<ab>", "b>c"]


def sources():
    paths = sorted(path for folder in ("include", "docs", "tests/ops")
                   for path in (ROOT / folder).rglob("*") if path.suffix in (".hpp", ".md", ".cpp"))
    return [path.read_text() for path in paths]


def any_character(draw):
    while True:
        c = chr(draw.choice([draw.randrange(0x80), draw.randrange(0x3000), draw.randrange(0x10000),
                             draw.randrange(0x20000)]))
        if unicodedata.category(c) not in ("Cs", "Cn"):
            return c


def made_text(draw, code, marks):
    """One text of a randomly chosen kind."""
    line = lambda: draw.choice(SENTENCES)
    kind = draw.randrange(10)
    if kind == 0:
        begin = draw.randrange(len(code))
        return code[begin:begin + draw.randrange(400)]
    if kind == 1:
        return line() + draw.choice(BLANKS) + line()
    if kind == 2:
        return "".join(any_character(draw) for _ in range(draw.randrange(1, 30)))
    if kind == 3:
        return "".join(draw.choice(BLANKS) * draw.randrange(1, 5) + draw.choice(line().split(" "))
                       for _ in range(draw.randrange(1, 12)))
    if kind == 4:
        text = line()
        at = draw.randrange(len(text))
        return text[:at] + draw.choice(marks) + draw.choice(["", " "]) + text[at:]
    if kind == 5:
        return draw.randrange(1, 300) * draw.choice(["a", "ab", " ", "\n", "7", "中", "!", "=-", "é",
                                                     "🐋", "\t", "x "])
    if kind == 6:
        return "".join(draw.choice(marks + BLANKS + ["a", "b", "word", "_", "9"])
                       for _ in range(draw.randrange(1, 12)))
    if kind == 7:
        return str(draw.randrange(10 ** draw.randrange(1, 25))) + draw.choice(["", " ", "%", "px", "年"])
    if kind == 8:
        words = (line() + " " + line()).split(" ")
        draw.shuffle(words)
        return " ".join(words)
    letters = "aZ09 .,;'\"-_(){}\n\té中あ한яΩ🐋\u0301\u200d"
    return "".join(draw.choice(letters) for _ in range(draw.randrange(1, 60)))


def splits(patterns, *last):
    rules = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns]
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence(rules + list(last) + [byte_level])


def template(before, ids):
    return processors.TemplateProcessing(single=f"{before} $A", pair=f"{before} $A {before} $B:1",
                                         special_tokens=[(before, ids)])


def with_merges_written_as_text(tokenizer):
    """The older style of the file: a merge is "left right"."""
    document = json.loads(tokenizer.to_str())
    document["model"]["merges"] = [" ".join(pair) for pair in document["model"]["merges"]]
    return Tokenizer.from_str(json.dumps(document)), document


def train(pre, size, corpus, first=(), without=""):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre
    tokenizer.decoder = decoders.ByteLevel()
    letters = sorted(set(pre_tokenizers.ByteLevel.alphabet()) - set(without))
    tokenizer.train_from_iterator(
        corpus, trainers.BpeTrainer(vocab_size=size, special_tokens=list(first),
                                    initial_alphabet=letters, show_progress=False))
    return tokenizer


def families(corpus):
    """(name, tokenizer) of each family, in small."""
    v3 = train(splits(V3), 1500, corpus, [BOS, EOS])
    v3.add_special_tokens([AddedToken("<\uff5c\u2581pad\u2581\uff5c>", special=True)])
    v3.add_tokens([AddedToken(t, normalized=True) for t in (USER, ASSISTANT, "<think>", "</think>")])
    v3.add_special_tokens(["<|EOT|>"])
    v3.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template(BOS, 0)])
    yield "v3", v3
    llm = train(splits(LLM, pre_tokenizers.Digits(individual_digits=True)), 1200, corpus)
    llm.add_special_tokens([BOS, EOS])
    llm.post_processor = processors.ByteLevel(trim_offsets=False)
    yield "llm", llm
    # The letters of the bytes that UTF-8 never has are added tokens, no bytes.
    never = "".join(map(chr, [0xc0, 0xc1, *range(0xf5, 0x100)]))
    coder = train(splits(CODER), 1200, corpus, without=never)
    coder.add_tokens([AddedToken(c, normalized=True) for c in never])
    coder.add_special_tokens([BOS, EOS])
    coder.add_special_tokens([f"<\uff5cfim\u2581{part}\uff5c>" for part in ("hole", "begin", "end")])
    coder.add_tokens([AddedToken("<|User|>", normalized=True)])
    coder.add_special_tokens(["<|EOT|>"])
    coder.post_processor = template(BOS, coder.token_to_id(BOS))
    yield "coder", coder
    llama = train(splits(LLAMA), 1200, corpus)
    llama.add_special_tokens(["<|begin_of_text|>", "<|eot_id|>"])
    document = json.loads(llama.to_str())
    document["model"]["ignore_merges"] = True
    # With merges taken away some tokens are only reached as whole pieces.
    document["model"]["merges"] = document["model"]["merges"][:500]
    llama = Tokenizer.from_str(json.dumps(document))
    llama.post_processor = template("<|begin_of_text|>", llama.token_to_id("<|begin_of_text|>"))
    yield "llama", llama
    qwen = train(splits(QWEN), 1200, [unicodedata.normalize("NFC", text) for text in corpus])
    qwen.normalizer = normalizers.NFC()
    qwen.add_special_tokens(["<|endoftext|>", "<|im_start|>"])
    qwen.add_tokens([AddedToken("caf\u00e9", normalized=True)])
    yield "qwen", qwen
    flags = train(pre_tokenizers.ByteLevel(add_prefix_space=True), 700, corpus)
    flags.add_tokens([AddedToken("left", lstrip=True), AddedToken("right", rstrip=True),
                      AddedToken("both", lstrip=True, rstrip=True),
                      AddedToken("alone", single_word=True), *map(AddedToken, OVERLAPPING)])
    yield "flags", flags
    behaviors = train(pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"[A-Z]"), "merged_with_next"),
        pre_tokenizers.Split("-", "merged_with_previous"),
        pre_tokenizers.Split(Regex(r"[\p{L}\s]"), "contiguous", invert=True),
        pre_tokenizers.Digits(individual_digits=False),
        pre_tokenizers.Split(Regex(r"x*"), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]), 500, corpus)
    yield "behaviors", behaviors


MARKS = {"flags": ["left", "right", "both", "alone", " left ", " right ", "both ", "lone"],
         "behaviors": ["-", "--", "A", "AB", "x", "xx", "42", "aB-C9"]}


def main():
    assert tokenizers.__version__ == PINNED, f"install tokenizers=={PINNED}"
    texts = sources()
    corpus = texts + SENTENCES * 40
    code = "".join(texts)
    for name, tokenizer in families(corpus):
        document = json.loads(tokenizer.to_str())
        if name in ("llm", "coder"):
            tokenizer, document = with_merges_written_as_text(tokenizer)
        dense = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
        (HERE / f"{name}.json").write_text(dense)
        draw = random.Random(name)
        marks = MARKS.get(name, []) + [token["content"] for token in document["added_tokens"]]
        cases = [""] + SENTENCES + BLANKS + marks
        while len(cases) < 600:
            cases.append(made_text(draw, code, marks))
        rows = [[text, tokenizer.encode(text, add_special_tokens=False).ids,
                 tokenizer.encode(text).ids] for text in cases]
        lines = "".join(json.dumps([text, ids, whole[:len(whole) - len(ids)],
                                    tokenizer.decode(ids, skip_special_tokens=True)],
                                   ensure_ascii=False, separators=(",", ":")) + "\n" for text, ids, whole in rows)
        (HERE / f"{name}.golden.xz").write_bytes(lzma.compress(lines.encode(), preset=9))
        print(f"{name}: {tokenizer.get_vocab_size()} tokens, {len(rows)} texts")


if __name__ == "__main__":
    main()
