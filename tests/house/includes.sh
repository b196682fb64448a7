#!/usr/bin/env bash
# Includes point down only. Each layer may include itself and, transitively, the layers named here.
declare -A below=(
    [core]=""
    [graph]="core"
    [tensor]="graph"
    [ops]="tensor"
    [autograd]="ops" [passes]="ops" [nn]="ops"
    [optim]="autograd"
    [models]="nn ops"
    [comm]="core"
    [exec]="graph comm"
    [cpu]="ops exec" [cuda]="ops exec" [sim]="ops exec"
    [parallel]="ops comm"
    [io]="graph"
    [data]="io"
    [version]=""
)
below[train]="autograd passes models optim cpu cuda sim parallel data io"
below[plait]="train"
below[tools]="plait version"

source "$(dirname "$0")/lib.sh"

declare -A reach
close() {
    local layer next
    [[ -n ${reach[$1]:-} ]] && return
    reach[$1]=" $1 "
    for next in ${below[$1]}; do
        close "$next"
        for layer in ${reach[$next]}; do
            [[ ${reach[$1]} == *" $layer "* ]] || reach[$1]+="$layer "
        done
    done
}
for layer in "${!below[@]}"; do close "$layer"; done

# Sets `layer` to that of a path below include/plait or src: its folder, or the first word of its name.
layer_of() {
    layer=${1%%/*}
    [[ $1 == */* ]] || layer=${layer%%[._-]*}
}

includes() { sed -nE 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*([<"][^>"]+).*/\1/p' "$1"; }

while IFS= read -r file; do
    own=
    case $file in
        include/plait/*) layer_of "${file#include/plait/}" && own=$layer ;;
        src/*)
            layer_of "${file#src/}" && own=$layer
            # src/gradients.cpp belongs to the layer of the first header that it includes
            if [[ -z ${below[$own]+x} ]]; then
                first=$(includes "$file" | sed -n 's,^.plait/,,p' | head -n 1)
                [[ -n $first ]] && layer_of "$first" && own=$layer
            fi
            ;;
    esac
    if [[ $file == include/* || $file == src/* ]] && [[ -z $own || -z ${below[$own]+x} ]]; then
        fail "$file: belongs to no layer; the layers are the folders that tests/house/includes.sh lists"
        continue
    fi
    while IFS= read -r include; do
        name=${include:1}
        # Kernels are sources of their own, and what they are written in knows nothing of them.
        case $file:$name in
            cuda/device/*:cuda/device/*) continue ;;
            cuda/device/*:*/*.cuh | cuda/device/*:plait/*) fail "$file: cuda/device must not include $name" ;;
            cuda/kernels/*:plait/*) fail "$file: kernels must not include $name" ;;
            cuda/*:cuda/* | tests/cuda/*:cuda/*) continue ;;
        esac
        case $name in
            plait/*)
                [[ -z $own ]] && continue
                layer_of "${name#plait/}"
                [[ ${reach[$own]} == *" $layer "* ]] || fail "$file: $own must not include $name"
                ;;
            cuda/* | ../*cuda/*) fail "$file: nothing includes the top-level cuda/ ($name)" ;;
            ../*) [[ -z $own ]] || fail "$file: write <plait/...>, not $name" ;;
            toml++/* | CLI/* | nlohmann/*)
                [[ $file == *.cpp || $file == src/tools/* ]] || fail "$file: only .cpp files may include $name"
                ;;
        esac
    done < <(includes "$file")
done < <(project_files | grep -E '\.(hpp|cpp|cu|cuh)$' | grep -v '^tests/package/')
finish
