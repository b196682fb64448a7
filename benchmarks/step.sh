#!/usr/bin/env bash
# benchmarks/step.sh [OPTIONS OF BOTH SIDES, such as --steps 10]
#   times the training step of Plait and of PyTorch in turn and prints a table of each one's fastest run, with
#   Plait's floor in the first run: `step --floor` prints what it is made of.
#   PYTHON (default python3) has to have torch; RUNS (3), THREADS (2), MODELS and COMPUTES choose what is run.
set -euo pipefail
cd "$(dirname "$0")"
python=${PYTHON:-python3}
threads=${THREADS:-2}
step=${STEP:-../build/release/bin/benchmarks/step}
lines=$(mktemp)
trap 'rm -f "$lines"' EXIT

if [[ ! -x $step ]]; then
    echo "step.sh: no $step; build it: cmake --preset release -DPLAIT_BENCHMARKS=ON && cmake --build --preset release" >&2
    exit 1
fi
run() { "$@" 2>/dev/null | grep "^{" >>"$lines" || echo "step.sh: failed: $*" >&2; }

for ((i = 1; i <= ${RUNS:-3}; ++i)); do
    for model in ${MODELS:-llama-tiny gpt2-tiny}; do
        for compute in ${COMPUTES:-f32 bf16}; do
            both=(--model "$model" --batch 8 --seq 256 --steps 10 --warmup 3 --threads "$threads")
            # Both keep f32 weights and optimizer state; torch calls that amp.
            torch=("$python" peers/torch_train.py "${both[@]}" --device cpu --precision "${compute/bf16/amp}" "$@")
            floor=()
            ((i > 1)) || floor=(--floor)
            run "$step" "${both[@]}" --compute "$compute" "$@" "${floor[@]}"
            run "${torch[@]}"
            run "${torch[@]}" --compile
        done
    done
done

"$python" - "$lines" <<'END'
import json, sys
best, floors = {}, {}
for line in open(sys.argv[1]):
    r = json.loads(line)
    side = r["peer"].split()[0] + (" compiled" if r.get("compile") else "")
    key = r["model"], r["precision"].replace("amp", "bf16"), side
    if "floor_share" in r:
        floors[key[:2]] = r["floor_share"]
    if key not in best or r["min_ms"] < best[key]["min_ms"]:
        best[key] = r
sides = ("plait", "torch", "torch compiled")
print("| model | compute | " + " | ".join(f"{s}: ms, tokens/s, GiB" for s in sides) + " | plait / torch | plait / compiled | floor / step |")
print("|---|---|" + "---|" * (len(sides) + 3))
for model, compute in sorted({k[:2] for k in best}):
    rows = [best.get((model, compute, s)) for s in sides]
    tokens = lambda r: r["batch"] * r["seq"] / r["min_ms"] * 1e3
    cells = [f"{r['min_ms']:.0f}, {tokens(r):,.0f}, {r['peak_gib']:.2f}" if r else "-" for r in rows]
    ratios = [f"{tokens(rows[0]) / tokens(r):.2f}" if rows[0] and r else "-" for r in rows[1:]]
    floor = f"{floors[model, compute]:.1%}" if (model, compute) in floors else "-"
    print(f"| {model} | {compute} | " + " | ".join(cells + ratios + [floor]) + " |")
END
