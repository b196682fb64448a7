#!/usr/bin/env bash
# keep_log.sh LOG COMMAND...: runs a compiler. What ptxas says of the kernels goes to LOG, the rest where it belongs.
set -euo pipefail
log=$1
shift
code=0
"$@" 2>"$log.new" || code=$?
grep -vE '^ptxas info|^ +[0-9]+ bytes stack frame' "$log.new" >&2 || true
((code == 0)) || exit $code
mv "$log.new" "$log"
