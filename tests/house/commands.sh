#!/usr/bin/env bash
# commands.sh ROOT BUILD PAGE: the commands of a page do what it says (fences.sh), in a scratch folder that looks like the tree
# with an empty runs/; build/release is BUILD, and plait is on the path.
set -euo pipefail
root=$(realpath "$1") build=$(realpath "$2")
source "$(dirname "$0")/fences.sh"
if [[ ! -x $build/bin/plait ]]; then
    echo "SKIPPED: the command was not built"
    exit 4
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch/tree/build" "$scratch/tree/runs"
for entry in "$root"/*; do
    case ${entry##*/} in
        build | runs) ;;
        *) ln -s "$entry" "$scratch/tree/" ;;
    esac
done
ln -s "$build" "$scratch/tree/build/release"
cd "$scratch/tree"
export PATH=$build/bin:$PATH
log=$scratch/log
ran=0

wrong() {
    echo "$page:$1: $2"
    tail -n 25 "$log"
    exit 1
}

# run_block LINE CODE BLOCK
run_block() {
    local code=0
    bash -euo pipefail -c "$3" </dev/null >"$log" 2>&1 || code=$?
    ((code == $2)) || wrong "$1" "ends with $code, not $2"
    ran=$((ran + 1))
}

# run_fence LINE LANG KIND BLOCK
run_fence() {
    case $2:$3 in
        sh:runs) run_block "$1" 0 "$4" ;;
        sh:'fails '*) run_block "$1" "${3#fails }" "$4" ;;
        text:shown)
            while IFS= read -r line; do
                [[ -z $line || $line == '...' ]] || grep -qF -- "$line" "$log" || wrong "$1" "was not printed: $line"
            done <<<"$4"
            ;;
    esac
}

page=$3
for_each_fence "$root/$page" run_fence
echo "$page: $ran blocks"
((ran > 0)) || { echo "no block of it runs"; exit 1; }
