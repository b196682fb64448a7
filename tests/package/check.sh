#!/usr/bin/env bash
# check.sh WAY FOLDER SOURCE BUILD [cmake arguments]: builds and runs the outside project in one way.
set -euo pipefail
way=$1 folder=$2 source=$3 build=$4
shift 4
here=$(cd "$(dirname "$0")" && pwd)
prefix=$folder/prefix
out=$folder/$way

# outside WAY KIND [cmake arguments]
outside() {
    rm -rf "$out/CMakeCache.txt"
    cmake -S "$here" -B "$out" "${arguments[@]}" -DWAY="$1" -DKIND="$2" "${@:3}"
}
arguments=("$@")
finish() {
    cmake --build "$out" --target outside -j 1
    "$out/outside"
}

case $way in
    install)
        rm -rf "$prefix"
        cmake --install "$build" --prefix "$prefix"
        # A package that names where it was made cannot be moved.
        if grep -rIlF -e "$prefix" -e "$build" -e "$source" "$prefix" --include='*.cmake' --include='*.pc' --include='*.hpp'; then
            echo "these installed files name the build"
            exit 1
        fi
        ;;
    find)
        outside package plait -Dplait_ROOT="$prefix"
        finish
        ;;
    moved)
        rm -rf "$folder/elsewhere"
        cp -r "$prefix" "$folder/elsewhere"
        outside package plait -Dplait_ROOT="$folder/elsewhere"
        grep -F 'plait_DIR:PATH='"$folder/elsewhere" "$out/CMakeCache.txt"
        finish
        ;;
    header_only)
        outside package header_only -DCOMPONENTS=header_only -Dplait_ROOT="$prefix" -DCMAKE_BUILD_TYPE=Debug
        finish
        ;;
    pkg_config)
        if ! command -v pkg-config >/dev/null; then
            echo "SKIPPED: pkg-config is not installed"
            exit 4
        fi
        export PKG_CONFIG_PATH
        PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name plait.pc)")
        mkdir -p "$out"
        compiler=$(sed -n 's/^CMAKE_CXX_COMPILER:[A-Z]*=//p' "$build/CMakeCache.txt" | head -n 1)
        # shellcheck disable=SC2046
        "$compiler" $(pkg-config --cflags plait) "$here"/main.cpp "$here"/second.cpp $(pkg-config --libs plait) -o "$out/outside"
        LD_LIBRARY_PATH=$(dirname "$PKG_CONFIG_PATH") "$out/outside"
        ;;
    subdirectory)
        # Without anything optional, so that this build is covered too; unoptimised, to be cheap.
        outside subdirectory plait -DPLAIT_SOURCE="$source" -DCMAKE_BUILD_TYPE= \
            -DPLAIT_{CBLAS,ONEDNN,TOML,CLI11,JSON,XXHASH}=OFF
        finish
        ;;
    fetch) # configured only: the build is the same as that of a subdirectory
        outside fetch header_only -DPLAIT_SOURCE="$source"
        outside fetch plait -DPLAIT_SOURCE="$source"
        ;;
esac
