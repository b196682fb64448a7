#!/usr/bin/env bash
# The house tests pass on a clean little tree and fail on each violation planted in it.
set -euo pipefail
house=$(cd "$(dirname "$0")" && pwd)
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
failures=0

mkdir -p "$tree"/include/plait/{core,ops,nn,exec} "$tree"/src/tools
plant() { printf '%b' "$2" >"$tree/$1"; }
plant include/plait/core/check.hpp '#pragma once\n'
plant include/plait/ops/norm.hpp '#pragma once\n#include <plait/core/check.hpp>\n'
plant include/plait/exec/program.hpp '#pragma once\n'
plant src/gradients.cpp '#include <plait/ops/norm.hpp>\n'
plant src/tools/main.cpp '#include <CLI/CLI.hpp>\n#include "plait/nn/layers.hpp"\n'

passes() { bash "$house/$1.sh" "$tree" >/dev/null || { echo "$1 fails on a clean tree"; failures=1; }; }
# caught SCRIPT PATH CONTENT [EXPECTED MESSAGE]
caught() {
    plant "$2" "$3"
    if output=$(bash "$house/$1.sh" "$tree" "$tree"); then
        echo "$1 does not see $2"
        failures=1
    elif [[ $output != *"$2"* ]]; then
        echo "$1 fails on $2 for another reason: $output"
        failures=1
    fi
    rm "$tree/$2"
}

passes includes
caught includes include/plait/nn/bad.hpp '#include <plait/exec/program.hpp>\n'
caught includes include/plait/core/bad.hpp '  #  include "plait/ops/norm.hpp"\n'
caught includes include/plait/ops/bad-inl.hpp '#include "../nn/layers.hpp"\n'
caught includes include/plait/ops/json.hpp '#include <nlohmann/json.hpp>\n'
caught includes include/plait/utils.hpp '#pragma once\n'
caught includes src/ops_bad.cpp '#include <plait/nn/layers.hpp>\n'
caught includes src/cpu.cpp '#include <plait/version.hpp>\n'
mkdir -p "$tree"/cuda/{device,kernels}
plant cuda/device/block.cuh '#pragma once\n'
plant cuda/table.cu '#include "cuda/device/block.cuh"\n'
passes includes
caught includes src/tools/gpu.cpp '#include "cuda/table.hpp"\n'
caught includes cuda/device/bad.cuh '#include "cuda/kernels/norm.cuh"\n'
caught includes cuda/kernels/bad.cuh '#include "plait/core/check.hpp"\n'

passes files
caught files notes.txt 'x\n'
caught files src/long.cpp "$(printf 'int x;\\n%.0s' {1..501})"
caught files src/path.cpp "// ..$(printf /)shared/x\n"
caught files src/home.cpp "// $(printf /work)/main\n"

mkdir "$tree/docs"
plant docs/good.md '[code](../src/gradients.cpp) [there](https://example.com) [here](#x)\n```cpp quotes src/gradients.cpp\n#include\n  <plait/ops/norm.hpp>\n```\n'
passes docs
caught docs docs/lost.md 'see [this](nowhere.md)\n'
caught docs docs/other.md '```cpp quotes src/gradients.cpp\n#include <plait/ops/norm.hpp>\n\nint x;\n```\n'
caught docs docs/gone.md '```cpp quotes src/gone.cpp\nint x;\n```\n'
caught docs docs/none.md '```sh\ntrue\n```\n'
caught docs docs/open.md '```sh runs\ntrue\n'
caught docs docs/indented.md 'text\n\n    true\n'
caught docs docs/many.md "$(printf '```sh not run: why\\ntrue\\n```\\n%.0s' {1..9})"

mkdir "$tree/bin"
printf '#!/bin/sh\necho "one two"\nexit "${1:-0}"\n' >"$tree/bin/plait" && chmod +x "$tree/bin/plait"
# says CODE PAGE CONTENT: the exit code of running a page
says() {
    plant docs/page.md "$2"
    local code=0
    bash "$house/commands.sh" "$tree" "$tree" docs/page.md >/dev/null || code=$?
    ((code == $1)) || { echo "commands gives $code, not $1, for: $2"; failures=1; }
    rm "$tree/docs/page.md"
}
says 0 '```sh runs\nplait 0\n```\n```text shown\ntwo\n```\n```sh fails 3\nplait 3\n```\n'
says 1 '```sh runs\nplait 1\ntrue\n```\n'
says 1 '```sh fails 2\nplait 1\n```\n'
says 1 '```sh runs\nplait\n```\n```text shown\nthree\n```\n'
says 1 '```sh not run: why\nplait\n```\n'

# resources CODE LOG: the exit code of the check of registers and spills
resources() {
    plant ptxas.log "$2"
    local code=0
    bash "$house/../../cuda/resources.sh" "$tree/ptxas.log" --check >/dev/null || code=$?
    ((code == $1)) || { echo "resources gives $code, not $1, for: $2"; failures=1; }
    rm "$tree/ptxas.log"
}
entry="ptxas info    : Compiling entry function '_ZN5plait4cuda3runINS0_10ColumnSumsEEEvT_' for 'sm_90a'\n"
resources 0 "$entry    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\nptxas info    : Used 32 registers, 8 bytes smem\n"
resources 1 "$entry    8 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\nptxas info    : Used 32 registers\n"
resources 1 "$entry    0 bytes stack frame, 4 bytes spill stores, 4 bytes spill loads\nptxas info    : Used 32 registers\n"
resources 1 "$entry    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\nptxas info    : Used 200 registers\n"
attention=${entry/ColumnSumsEEEvT_/ColumnSumsELi66688EEEvT_}
resources 0 "$attention    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\nptxas info    : Used 32 registers\n"
attention="ptxas info    : Compiling entry function '_ZN5plait4cuda3runINS0_15TensorAttentionILi64EEELi66688EEEvT_' for 'sm_90a'\n"
resources 0 "$attention    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\nptxas info    : Used 255 registers\n"
resources 1 "$attention    0 bytes stack frame, 4 bytes spill stores, 4 bytes spill loads\nptxas info    : Used 255 registers\n"
resources 1 "nothing\n"

# accesses CODE PTX: the exit code of the check of what nvcc made
accesses() {
    plant kernels.ptx "$2"
    local code=0
    bash "$house/../../cuda/accesses.sh" "$tree" --check >/dev/null || code=$?
    ((code == $1)) || { echo "accesses gives $code, not $1, for: $2"; failures=1; }
    rm "$tree/kernels.ptx"
}
entry='.visible .entry _ZN5plait4cuda3runINS0_%sEEEvT_(\n'
accesses 0 "${entry/\%s/10ColumnSums}\tadd.rn.f32 %f1, %f2, %f3;\n\tst.global.f32 [%rd1], %f1;\n"
accesses 1 "${entry/\%s/10ColumnSums}\tadd.f32 %f1, %f2, %f3;\n\tst.global.f32 [%rd1], %f1;\n"
accesses 1 "${entry/\%s/10ColumnSums}\tmul.f64 %fd1, %fd2, %fd3;\n"
accesses 0 "${entry/\%s/8RoundSum}\tst.global.v4.b32 [%rd1], {%r1, %r2, %r3, %r4};\n"
accesses 1 "${entry/\%s/8RoundSum}\tst.global.b32 [%rd1], %r1;\n"
entry='.visible .entry _ZN5plait4cuda3runINS0_%sELi0EEEvT_(\n'
accesses 0 "${entry/\%s/15TensorAttentionILi64EE}\tcp.async.cg.shared.global [%r1], [%rd1], 16, %r2;\n\tst.global.v4.b32 [%rd1], {%r1, %r2, %r3, %r4};\n"
accesses 1 "${entry/\%s/15TensorAttentionILi64EE}\tcp.async.cg.shared.global [%r1], [%rd1], 16, %r2;\n\tst.global.b32 [%rd1], %r1;\n"

compile_fail=$house/../compile_fail/check.sh
compiler=${CXX:-c++}
reject() { plant "$1" "$2" && ! bash "$compile_fail" "$tree/$1" "$compiler" >/dev/null || { echo "compile_fail passes: $2"; failures=1; }; }
plant ok.cpp '// expect: no_such_name\nint x = no_such_name;\n'
bash "$compile_fail" "$tree/ok.cpp" "$compiler" || failures=1
reject compiles.cpp '// expect: error\nint x = 1;\n'
reject other.cpp '// expect: no_such_name\nint x = ;\n'
reject silent.cpp 'int x = no_such_name;\n'
exit $failures
