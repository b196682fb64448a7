#!/usr/bin/env bash
# docs.sh ROOT: the pages are true. Links between files lead somewhere; every fenced block is one of the kinds of fences.sh, so
# that each command and each piece of code is executed somewhere; what a block quotes stands in its file, paragraph by
# paragraph, whatever the white space; and few blocks are not run.
most_not_run=8
source "$(dirname "$0")/lib.sh"
source "$(dirname "$0")/fences.sh"
not_run=()

squeezed() { tr -d '[:space:]' <<<"$1"; }

# check_quote WHERE PATH BLOCK
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

# check_fence LINE LANG KIND BLOCK
check_fence() {
    local where=$page:$1
    case $2:$3 in
        cpp:'quotes '* | cmake:'quotes '* | toml:'quotes '*) check_quote "$where" "${3#quotes }" "$4" ;;
        sh:runs | text: | text:shown) ;;
        sh:'fails '[0-9]*) ;;
        ?*:'not run: '?*) not_run+=("$where") ;;
        *) fail "$where: a block \"$2 $3\": must be sh runs, sh fails N, text, text shown, cpp quotes PATH or LANG not run: WHY" ;;
    esac
}

while IFS= read -r page; do
    for_each_fence "$page" check_fence
    # Code that is only indented would escape.
    while IFS= read -r line; do
        fail "$page:$line: an indented block: fence it"
    done < <(awk '/^```/ { inside = !inside } !inside && /^    / && before == "" && !list { print NR }
                  !inside && /^[0-9*-]/ { list = 1 } !inside && /^[^ 0-9*-]/ { list = 0 } { before = $0 }' "$page")
    while IFS= read -r link; do
        [[ $link == *://* || $link == \#* ]] && continue
        [[ -e $(dirname "$page")/${link%%#*} ]] || fail "$page: links to $link, which does not exist"
    done < <(grep -oE '\]\([^) ]+\)' "$page" | sed 's/^](//; s/)$//')
done < <(project_files | grep -E '\.md$')
((${#not_run[@]} <= most_not_run)) || fail "${#not_run[@]} blocks are not run, at most $most_not_run may be: ${not_run[*]}"
finish
