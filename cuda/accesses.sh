#!/usr/bin/env bash
# accesses.sh FOLDER [--check]: how each kernel of the PTX in a folder accesses global memory: loads and stores of 16 bytes
# (copies into shared memory that nobody waits for are loads), and others, which the odd ends of rows need too. With --check it fails where a kernel has none of 16 bytes, or no store of
# 16, that is not one of those below: they have no use for them, or serve where a library does not; and where ptxas may still
# make one instruction of a product and a sum, which it may of those without a rounding (.rn): -fmad=false writes none.
set -euo pipefail
narrow='BiasRows|GeluRows|Clear|ColumnSums|CopyMap|NormOfSquares|Pick|Pointwise|RadixCount|RadixScatter|Reduce(Columns|Rows)<IntegerInput.*'
narrow+='|Mark|RopeAngles|RowBegins|TransposeMap'
reading='AdamW<Bf16,float,Bf16,(false|true)>|Attention.*|CacheAttention|LinearLossParts|MaxAbsolute|ReduceRows|Squares'
shopt -s nullglob
files=("$1"/*.ptx)
if ((${#files[@]} == 0)); then
    echo "SKIPPED: the kernels were not built; cmake --preset cuda, then cmake --build build/cuda --target plait_cuda"
    exit 4
fi

table=$(for file in "${files[@]}"; do
    awk '
        function row() { if (name != "") print name, loads + 0, stores + 0, other + 0 }
        /^\.visible \.entry|^\.weak \.entry/ { row(); name = $3; sub(/\(.*/, "", name); loads = stores = other = 0 }
        /[ \t]ld\.global(\.nc)?\.v4\./ || /[ \t]cp\.async\.cg\.shared\.global/ { ++loads; next }
        /[ \t]st\.global\.v4\./ { ++stores; next }
        /[ \t](ld|st)\.(global|volatile|[bsuf][0-9]|v2)/ || /[ \t]cp\.async\.ca\./ { ++other }
        END { row() }' "$file" | c++filt | sed -E 's/plait::cuda:://g; s/^void run<(.*) ?>\(.*\) ([0-9]+ [0-9]+ [0-9]+)$/\1 \2/; s/, /,/g; s/ >/>/g; s/^(.*),[0-9]+ ([0-9]+ [0-9]+ [0-9]+)$/\1 \2/'
done | sort -u)
[[ -n $table ]] || { echo "$1: has no kernel"; exit 1; }
printf '%s\n' "kernel loads_of_16 stores_of_16 other" "$table" | column -t
[[ ${2:-} == --check ]] || exit 0

loose=$(grep -nE '[[:space:]](mul|add|sub)\.(ftz\.)?(sat\.)?f(32|64)(x2)?[[:space:]]' "${files[@]}" || true)
if [[ -n $loose ]]; then
    head -n 3 <<<"$loose"
    echo "$1: sums and products without a rounding, which ptxas may contract: compile with -fmad=false"
    exit 1
fi

awk -v narrow="^($narrow)(<.*)?$" -v reading="^($reading)(<.*)?$" '
    $1 ~ narrow { next }
    $2 + $3 == 0 { print $1 ": no access of 16 bytes among " $4; bad = 1; next }
    $3 == 0 && $1 !~ reading { print $1 ": no store of 16 bytes among " $4 " accesses of less"; bad = 1 }
    END { exit bad }' <<<"$table"
