#!/usr/bin/env bash
# What lies at the top level, how long sources are, and no path of any one machine in them.
top=" CMakeLists.txt CMakePresets.json README.md LICENSE .clang-format .gitignore .ci include src cuda examples
 benchmarks tests cmake docs "
longest=500
outside='\.\./shared|/wor[k]/'

source "$(dirname "$0")/lib.sh"

files=$(project_files)
while IFS= read -r entry; do
    [[ $top == *[[:space:]]"$entry"[[:space:]]* ]] || fail "$entry: does not belong at the top level"
done < <(cut -d/ -f1 <<<"$files" | sort -u)

while IFS= read -r file; do
    case $file in
        *.hpp | *.cpp | *.cu | *.cuh)
            lines=$(wc -l <"$file")
            ((lines <= longest)) || fail "$file: $lines lines, at most $longest; split it"
            ;;
    esac
    while IFS= read -r line; do
        fail "$file:$line names a place outside the project"
    done < <(grep -InE "$outside" "$file" | cut -c1-120)
done <<<"$files"
finish
