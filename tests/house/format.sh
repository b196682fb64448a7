#!/usr/bin/env bash
# Formatting. Other versions of clang-format break lines elsewhere, so only one counts.
version=14
source "$(dirname "$0")/lib.sh"

tool=$(command -v clang-format-$version || command -v clang-format || true)
if [[ -z $tool || $("$tool" --version) != *"version $version."* ]]; then
    echo "SKIPPED: clang-format $version is not installed"
    exit 4
fi
mapfile -t files < <(project_files | grep -E '\.(hpp|cpp|cu|cuh)$')
((${#files[@]})) || finish
# One call a file: clang-format 14 stops at 20 errors in all.
for file in "${files[@]}"; do
    "$tool" --dry-run -Werror "$file" 2>/dev/null || fail "$file: not formatted; run $tool -i $file"
done
finish
