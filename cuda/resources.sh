#!/usr/bin/env bash
# resources.sh LOG [--check]: what each kernel takes, by architecture, from what ptxas -v said: registers, bytes of shared
# memory, of the stack and of spills. Shared memory that a launch asks for, ptxas does not see: it stands in the kernel's
# name, as the last argument of run<>. With --check it fails where a kernel spills, has a stack at all, or takes more registers
# than the largest one does now, a norm's gradient of long rows, of which one block of 256 threads fits an SM. Attention on
# tensor cores may take all that a thread can have: sums over a head fill them, and two blocks of 128 threads still fit.
set -euo pipefail
most_registers=180
all_registers='^Tensor(Attention|QueryGradient|KeyGradient)<'
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
        asked = 0
        if (match(name, /,[0-9]+$/)) {
            asked = substr(name, RSTART + 1)
            name = substr(name, 1, RSTART - 1)
        }
        arch = $0
        sub(/.*for .?/, "", arch)
        sub(/[^0-9a-z_].*/, "", arch)
    }
    /bytes stack frame/ { stack = $1; spills = $5 + $9 }
    /Used [0-9]+ registers/ {
        shared = asked
        for (i = 2; i <= NF; i++) {
            if ($i ~ /^registers/) registers = $(i - 1)
            if ($i ~ /^smem/) shared += $(i - 2)
        }
        print name, arch, registers, shared, stack, spills
    }' | sort)
[[ -n $table ]] || { echo "$log: says nothing of any kernel"; exit 1; }
printf '%s\n' "kernel architecture registers shared stack spills" "$table" | column -t
[[ ${2:-} == --check ]] || exit 0

awk -v most=$most_registers -v all="$all_registers" '
    $3 > most && $1 !~ all { print $1 ", " $2 ": " $3 " registers, at most " most; bad = 1 }
    $5 > 0 || $6 > 0 { print $1 ", " $2 ": a stack of " $5 " bytes, spills of " $6; bad = 1 }
    END { exit bad }' <<<"$table"
