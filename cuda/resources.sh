#!/usr/bin/env bash
# resources.sh LOG [--check]: what each kernel takes, by architecture, from what ptxas -v said: registers, bytes of shared
# memory, of the stack and of spills. With --check it fails where a kernel spills, has a stack at all, or takes more
# registers than the largest kernel does now, a norm's gradient of long rows, of which one block of 256 threads fits an SM.
set -euo pipefail
most_registers=180
log=$1
if [[ ! -f $log ]]; then
    echo "SKIPPED: the kernels were not built; cmake --preset cuda, then cmake --build build/cuda --target plait_cuda"
    exit 4
fi

table=$(c++filt <"$log" | sed -E 's/plait::cuda:://g' | awk '
    /Compiling entry function/ {
        name = $0
        sub(/.*function .?(void )?run</, "", name)
        sub(/ ?>\(.*/, "", name)
        gsub(/ /, "", name)
        arch = $0
        sub(/.*for .?/, "", arch)
        sub(/[^0-9a-z_].*/, "", arch)
    }
    /bytes stack frame/ { stack = $1; spills = $5 + $9 }
    /Used [0-9]+ registers/ {
        shared = 0
        for (i = 2; i <= NF; i++) {
            if ($i ~ /^registers/) registers = $(i - 1)
            if ($i ~ /^smem/) shared = $(i - 2)
        }
        print name, arch, registers, shared, stack, spills
    }' | sort)
[[ -n $table ]] || { echo "$log: says nothing of any kernel"; exit 1; }
printf '%s\n' "kernel architecture registers shared stack spills" "$table" | column -t
[[ ${2:-} == --check ]] || exit 0

awk -v most=$most_registers '
    $3 > most { print $1 ", " $2 ": " $3 " registers, at most " most; bad = 1 }
    $5 > 0 || $6 > 0 { print $1 ", " $2 ": a stack of " $5 " bytes, spills of " $6; bad = 1 }
    END { exit bad }' <<<"$table"
