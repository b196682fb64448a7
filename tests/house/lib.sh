# Sourced by the house tests; $1 is the root of the tree to check.
set -euo pipefail
cd "$1"
failures=0

fail() {
    echo "$*"
    failures=$((failures + 1))
}

finish() { exit $((failures > 0)); }

# The project's files: git's, where this is a checkout, so that private files lying about do not count.
project_files() {
    if [[ $(git rev-parse --show-toplevel 2>/dev/null) == "$PWD" ]]; then
        git ls-files --cached --others --exclude-standard
    else
        find . \( -path ./build -o -path ./runs -o -path ./.git \) -prune -o -type f -printf '%P\n'
    fi | while IFS= read -r file; do [[ -f $file ]] && echo "$file"; done
    return 0
}
