#!/usr/bin/env bash
# check.sh SOURCE COMPILER FLAGS...: the source must not compile, and the compiler must say what the source's
# first line, "// expect: TEXT", names.
source=$1
shift
expected=$(sed -n '1s,^// expect: *,,p' "$source")
if [[ -z $expected ]]; then
    echo "$source: the first line must be '// expect: TEXT'"
    exit 1
fi
if output=$("$@" -fsyntax-only "$source" 2>&1); then
    echo "$source compiles, but must not"
    exit 1
fi
if ! grep -qF -- "$expected" <<<"$output"; then
    echo "$source fails to compile, but not with: $expected"
    echo "$output"
    exit 1
fi
