#!/usr/bin/env bash
# benchmarks/tokenizer.sh
#   learns a byte-level BPE from a text of this machine and encodes the text with it, by Plait and by the library
#   `tokenizers`, and prints a table. PYTHON (default python3) has to have tokenizers; MEGABYTES (50), VOCABULARY
#   (8192), THREADS (2, for Plait's learning) and FOLDERS, where the text is from, choose what is run.
set -euo pipefail
cd "$(dirname "$0")"
python=${PYTHON:-python3}
program=${TOKENIZER:-../build/release/bin/benchmarks/tokenizer}
folders=${FOLDERS:-/usr/include /usr/share/doc /usr/share}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

if [[ ! -x $program ]]; then
    echo "tokenizer.sh: no $program; build it: cmake --preset release -DPLAIT_BENCHMARKS=ON && cmake --build --preset release" >&2
    exit 1
fi
# shellcheck disable=SC2086  # folders are words
"$python" text_of_machine.py "$scratch/text" "${MEGABYTES:-50}" $folders >&2
for threads in 1 "${THREADS:-2}"; do
    "$program" --text "$scratch/text" --out "$scratch/tokenizer.json" --vocabulary "${VOCABULARY:-8192}" \
        --threads "$threads" >>"$scratch/lines"
done
"$python" peers/tokenizers_run.py "$scratch/text" "${VOCABULARY:-8192}" "$scratch/tokenizer.json" >>"$scratch/lines"

"$python" - "$scratch/lines" <<'END_OF_TABLE'
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
peer = rows[-1]
print("| | threads | text MB | learn s | learn / tokenizers | encode MB/s, one thread | encode / tokenizers | tokens |")
print("|---|---|---|---|---|---|---|---|")
for r in rows:
    print(f"| {r['peer']} | {r['threads']} | {r['megabytes']:.0f} | {r['learn_s']:.1f} | {r['learn_s'] / peer['learn_s']:.2f} "
          f"| {r['encode_mb_per_s']:.1f} | {r['encode_mb_per_s'] / peer['encode_mb_per_s']:.2f} | {r['tokens']:,} |")
END_OF_TABLE
