"""FOLDER: texts and ids that Plait made with tokenizer.json are what the tokenizers library makes and undoes."""
import pathlib
import sys

import tokenizers

folder = pathlib.Path(sys.argv[1])
tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
data = (folder / "texts").read_bytes()
rows = (folder / "ids").read_text().splitlines()
at = 0
for number, row in enumerate(rows):
    line = data.index(b"\n", at)
    size = int(data[at:line])
    text = data[line + 1 : line + 1 + size].decode()
    at = line + 1 + size
    want = [int(word) for word in row.split()]
    got = tokenizer.encode(text).ids
    if got != want:
        first = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))
        piece = tokenizer.decode(want[max(0, first - 3) : first + 4], skip_special_tokens=False)
        sys.exit(f"text {number}: token {first} near {piece!r}: library {got[first:first+4]}, Plait {want[first:first+4]}")
    if tokenizer.decode(got, skip_special_tokens=False) != text:
        sys.exit(f"text {number}: the library does not decode it to itself")
assert at == len(data) and rows
print(f"{len(rows)} texts agree")
