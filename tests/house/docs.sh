#!/usr/bin/env bash
# docs.sh ROOT [BUILD]: the pages are true. Links between files lead somewhere; a block fenced "```cpp quotes PATH" stands in
# that file, paragraph by paragraph, whatever the white space; one fenced "```bash runs" succeeds line by line, with
# build/release standing for BUILD.
build=$(realpath "${2:-.}")
source "$(dirname "$0")/lib.sh"
log=$(mktemp)
trap 'rm -f "$log"' EXIT

squeezed() { tr -d '[:space:]' <<<"$1"; }

# check_quote PAGE PATH BLOCK
check_quote() {
    [[ -f $2 ]] || { fail "$1: quotes $2, which does not exist"; return; }
    local text line paragraph=
    text=$(squeezed "$(<"$2")")
    while IFS= read -r line; do
        if [[ -n $line ]]; then
            paragraph+=$line$'\n'
            continue
        fi
        paragraph=$(squeezed "$paragraph")
        [[ $text == *"$paragraph"* ]] || fail "$1: not in $2: ${paragraph:0:90}"
        paragraph=
    done <<<"$3"$'\n'
}

# run_line PAGE LINE
run_line() {
    [[ -z $2 || $2 == \#* ]] && return
    if [[ -x $build/bin/plait ]]; then
        bash -c "${2//build\/release/$build}" >"$log" 2>&1 || fail "$1: $2: fails: $(tail -n 1 "$log")"
    else
        echo "not run, as the command was not built: $2"
    fi
}

while IFS= read -r page; do
    kind= block= line=
    while IFS= read -r line; do
        if [[ -z $kind && $line == '```'* ]]; then
            read -r _ kind path <<<"$line none none"
            block=
        elif [[ $line == '```' ]]; then
            [[ $kind == quotes ]] && check_quote "$page" "${path%% *}" "$block"
            kind=
        elif [[ $kind == runs ]]; then
            run_line "$page" "$line"
        elif [[ -n $kind ]]; then
            block+=$line$'\n'
        fi
    done <"$page"
    while IFS= read -r link; do
        [[ $link == *://* || $link == \#* ]] && continue
        [[ -e $(dirname "$page")/${link%%#*} ]] || fail "$page: links to $link, which does not exist"
    done < <(grep -oE '\]\([^) ]+\)' "$page" | sed 's/^](//; s/)$//')
done < <(project_files | grep -E '\.md$')
finish
