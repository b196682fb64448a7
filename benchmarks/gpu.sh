#!/usr/bin/env bash
# benchmarks/gpu.sh [PART...]: on a machine with a GPU, builds, tests, sanitizes and measures, and prints tables. Parts:
#   build (needs nvcc), tests, ranks, sanitize, ops, step; without one all of them, in that order.
#   BUILD (default ../build/cuda) is the build folder, PYTHON (python3) has to have torch for the peer,
#   CUDA_ARCHITECTURES (that of the GPU) what kernels are built for, MODELS the rows of the step's table, JOBS (all
#   cores) how many compile, SECONDS_A_PART the time limit of each part but build, else each has its own.
set -uo pipefail
cd "$(dirname "$0")" || exit 1
build=$(realpath -m "${BUILD:-../build/cuda}")
python=${PYTHON:-python3}
declare -A limits=([tests]=80 [ranks]=80 [sanitize]=60 [ops]=40 [step]=220)
parts=${*:-build tests ranks sanitize ops step}
failed=0

gpu=$(nvidia-smi --query-gpu=name,compute_cap --format=csv,noheader 2>/dev/null | head -n 1)
if [[ -z $gpu ]]; then
    echo "gpu.sh: nvidia-smi finds no GPU here, so nothing can be measured" >&2
    exit 4
fi
capability=${gpu##*, }
architectures=${CUDA_ARCHITECTURES:-${capability/./}a}
echo "# ${gpu%%,*} (sm_${architectures%%;*}), $(date -u +%F)"

# Runs a command for what is left of its part's time.
within() {
    local left=$((deadline - SECONDS))
    timeout $((left > 0 ? left : 1)) "$@"
}
# Runs a part, tells how long it took, and goes on after a failure.
part() {
    local name=$1 start=$SECONDS code=0
    shift
    deadline=$((SECONDS + ${SECONDS_A_PART:-${limits[$name]:-600}}))
    printf '\n## %s\n' "$name"
    "$@" || code=$?
    ((code == 0)) || { failed=1; echo "gpu.sh: $name failed with $code"; }
    echo "($name: $((SECONDS - start)) s)"
}

build() {
    local generator=() targets=(test_cuda benchmark_step benchmark_ops resources)
    [[ -f $build/CMakeCache.txt ]] || ! command -v ninja >/dev/null || generator=(-G Ninja)
    # What is found decides what is measured.
    cmake -S .. -B "$build" "${generator[@]}" -DCMAKE_BUILD_TYPE=Release -DPLAIT_CUDA=ON -DPLAIT_BENCHMARKS=ON \
        -DPLAIT_TESTS=ON -DPLAIT_TEST_PACKAGE=OFF -DCMAKE_CUDA_ARCHITECTURES="$architectures" \
        -DPLAIT_PYTHON="$(command -v "$python")" | grep -E '^-- (cuda:|NCCL|plait)' || return 1
    if cmake --build "$build" --target help | grep plait_command >/dev/null; then
        targets+=(plait_command)
    else
        echo "without the command, which needs toml++, CLI11 and nlohmann-json"
    fi
    cmake --build "$build" -j "${JOBS:-$(nproc)}" --target "${targets[@]}" >"$build/gpu.log" 2>&1 || {
        tail -n 20 "$build/gpu.log"
        return 1
    }
}

tests() { within ctest --test-dir "$build" -R '^cuda\.' --output-on-failure --timeout 100 -j 4 | tail -n 25; }

# Ranks that are processes on this one GPU: each must have the hash of one rank, on every layout.
ranks() {
    local out=$build/gpu_ranks common hash one mesh
    rm -rf "$out"
    [[ -x $build/bin/plait ]] || {
        echo "skipped: there is no command"
        return 0
    }
    # Processes on one GPU take turns, so that every collective costs turns of all of them: few of them. In bf16, as that
    # is what attention on tensor cores takes.
    common=(train --config ../examples/configs/tiny.toml --data.path ../examples/text --run.device=cuda --bits layout --hash
        --plan.compute bf16 --model.layers 4 --plan.micro_batches 2 --steps 5)
    last_hash() { sed -nE 's/.*"params_hash": ?"([0-9a-f]+)".*/\1/p' "$1/metrics.jsonl" | tail -n 1; }
    within "$build/bin/plait" "${common[@]}" --run.out "$out/one" >"$out.log" 2>&1 || {
        tail -n 3 "$out.log"
        return 1
    }
    one=$(last_hash "$out/one")
    [[ -n $one ]] || {
        echo "no params_hash in $out/one"
        return 1
    }
    printf '| ranks | mesh | hash | as one rank |\n|---|---|---|---|\n| 1 | | %s | |\n' "$one"
    for mesh in data=2 tensor=2 pipeline=2 data=2,tensor=2 data=2,pipeline=2; do
        local n=2
        [[ $mesh != *,* ]] || n=4
        within mpirun --allow-run-as-root --oversubscribe -n $n "$build/bin/plait" "${common[@]}" \
            --cluster nccl --mesh "$mesh" --run.out "$out/$mesh" >"$out.log" 2>&1 || {
            tail -n 3 "$out.log"
            return 1
        }
        hash=$(last_hash "$out/$mesh")
        printf '| %s | %s | %s | %s |\n' "$n" "$mesh" "$hash" "$([[ $hash == "$one" ]] && echo yes || echo NO)"
        [[ $hash == "$one" ]] || return 1
    done
}

sanitize() {
    local tool
    for tool in memcheck racecheck; do
        within compute-sanitizer --tool $tool --error-exitcode 9 "$build/tests/test_cuda" "*on a GPU*kernels*" |
            grep -E "ERROR SUMMARY|RACECHECK SUMMARY|passed|failed" || return 1
    done
}

ops() {
    within "$build/bin/benchmarks/ops" --device cuda --model gpt2-124m --batch 64 --seq 1024 --compute bf16 --step
}

# Plait's step beside PyTorch's, one after the other.
step() {
    local lines=$build/gpu_steps.jsonl bad=0 row model batch seq master bits precision
    : >"$lines"
    : >"$lines.text"
    keep() {
        within "$@" 2>"$lines.log" | tee -a "$lines.text" | grep '^{' >>"$lines" || {
            echo "failed: $*"
            tail -n 3 "$lines.log"
            bad=1
        }
    }
    # Model, batch, tokens, dtype of the weights that are kept (with bf16 there are no others), and which bits.
    for row in ${MODELS:-gpt2-124m:64:1024:f32:fast gpt2-124m:64:1024:f32:layout gpt2-1558m:16:1024:f32:fast \
        llama-1b:8:2048:f32:fast llama-1b:8:2048:bf16:fast qwen-0.5b:32:1024:bf16:fast}; do
        IFS=: read -r model batch seq master bits <<<"$row"
        precision=amp
        [[ $master != bf16 ]] || precision=bf16
        keep "$build/bin/benchmarks/step" --device cuda --model "$model" --batch "$batch" --seq "$seq" --compute bf16 \
            --master "$master" --bits "${bits:-fast}" --steps 20 $([[ $bits == layout ]] || echo --floor --rounds 3)
        # PyTorch knows no such bits: the row of fast ones has its peer.
        [[ $bits != layout ]] || continue
        keep "$python" peers/torch_train.py --model "$model" --batch "$batch" --seq "$seq" --steps 20 --compile \
            --attention cudnn --precision $precision
    done
    "$python" - "$lines" <<'END'
import json, sys
rows = {}
for line in open(sys.argv[1]):
    r = json.loads(line)
    pure = r.get("master", r["precision"]) == "bf16"
    name = "layout" if r.get("bits") == "layout" else r["peer"].split()[0]
    rows.setdefault((r["model"], r["batch"], r["seq"], "bf16" if pure else "f32"), {})[name] = r
print("| model | batch | weights | Plait tokens/s | MFU | GiB | first step s | floor / step | layout / fast | PyTorch tokens/s | GiB | "
      "ratio | memory ratio |")
print("|---|---|---|---|---|---|---|---|---|---|---|---|---|")
for (model, batch, seq, master), r in rows.items():
    p, l, t = r.get("plait"), r.get("layout"), r.get("torch")
    own = [f"{p['tok_s']:,}", f"{p.get('mfu', 0):.1%}", f"{p['peak_gib']:.1f}", f"{p['first_step_s']:.1f}",
           f"{p.get('floor_share', 0):.1%}"] if p else ["-"] * 5
    own.append(f"{l['ms'] / p['ms']:.2f}" if p and l else "-")
    peer = [f"{t['tok_s']:,}", f"{t['peak_gib']:.1f}"] if t else ["-"] * 2
    both = [f"{p['tok_s'] / t['tok_s']:.2f}", f"{p['peak_gib'] / t['peak_gib']:.2f}"] if p and t else ["-"] * 2
    print(f"| {model} | {batch} x {seq} | {master} | " + " | ".join(own + peer + both) + " |")
END
    grep -v '^{' "$lines.text"
    return $bad
}

for p in $parts; do
    case $p in
        build | tests | ranks | sanitize | ops | step) part "$p" "$p" ;;
        *)
            echo "gpu.sh: there is no part '$p': build, tests, ranks, sanitize, ops, step" >&2
            exit 2
            ;;
    esac
done
exit $failed
