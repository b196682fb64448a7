"""OUT MEGABYTES FOLDER...: a text of that size out of the text files below folders, an equal part from each where it
has as much. The same on every run; files that are not UTF-8, have a NUL, or repeat another are left out."""
import hashlib
import os
import sys

out, megabytes, folders = sys.argv[1], float(sys.argv[2]), sys.argv[3:]
seen, parts, left_over = set(), [], []
left = int(megabytes * 1e6)


def take(path):
    """Bytes that the file adds to the text."""
    global left
    try:
        data = open(path, "rb").read()
        data.decode()
    except (OSError, UnicodeDecodeError):
        return 0
    key = hashlib.sha256(data).digest()
    if key in seen or b"\0" in data:
        return 0
    seen.add(key)
    parts.append(data[:left])
    left -= len(parts[-1])
    return len(parts[-1])


for folder in folders:
    files = [os.path.join(at, name) for at, _, names in os.walk(folder) for name in names]
    files = [f for f in files if not os.path.islink(f) and 500 <= os.path.getsize(f) <= 1_000_000]
    # No folder's files stand together, so that a part of them is like the whole.
    files.sort(key=lambda f: hashlib.sha256(f.encode()).digest())
    share = int(megabytes * 1e6 / len(folders))
    for i, path in enumerate(files):
        if share <= 0 or left <= 0:
            left_over += files[i:]
            break
        share -= take(path)
for path in left_over:
    if left <= 0:
        break
    take(path)
if left > 0:
    sys.exit(f"{out}: {left / 1e6:.0f} MB short of {megabytes:.0f}: name more folders")
# A cut may fall inside a character.
text = b"".join(parts).decode(errors="ignore").encode()
open(out, "wb").write(text)
print(f"{len(text) / 1e6:.1f} MB of {len(parts)} files below {' '.join(folders)}")
