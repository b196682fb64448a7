# Sourced by tests/run and examples/quickstart: installs the distribution's packages that are missing (Debian 12,
# Ubuntu 24.04). plait_setup build = what the command needs, plait_setup tests = what the tests need besides; names
# after that are optional packages more.

plait_build_packages=(g++ cmake ninja-build libfmt-dev libeigen3-dev libtomlplusplus-dev libcli11-dev nlohmann-json3-dev)
plait_build_optional=(ccache libopenblas-dev libdnnl-dev libxxhash-dev libpcre2-dev libopenmpi-dev openmpi-bin)
plait_test_packages=(catch2 pkg-config)
plait_test_optional=(clang-format python3-venv)
# Other people's libraries that read what Plait writes; tests that ask them skip where they are missing.
plait_oracle_packages=(tokenizers tensorboard)

# Prints those of the named packages that are not installed.
plait_missing() {
    local package
    for package in "$@"; do
        dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || echo "$package"
    done
}

plait_setup() {
    local needed=("${plait_build_packages[@]}") optional=("${plait_build_optional[@]}")
    if [[ $1 == tests ]]; then
        needed+=("${plait_test_packages[@]}")
        optional+=("${plait_test_optional[@]}")
    fi
    optional+=("${@:2}")
    if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
        echo "setup: no apt-get here; needed are the equivalents of: ${needed[*]}" >&2
        echo "setup: used when found: ${optional[*]}" >&2
        return 0
    fi
    local missing=() wanted=()
    mapfile -t missing < <(plait_missing "${needed[@]}")
    mapfile -t wanted < <(plait_missing "${optional[@]}")
    if ((${#missing[@]} + ${#wanted[@]} == 0)); then
        echo "setup: nothing is missing"
        return 0
    fi
    local as_root=()
    if ((EUID != 0)); then
        if ! command -v sudo >/dev/null; then
            echo "setup: not root and no sudo; as root: apt-get install ${missing[*]} ${wanted[*]}" >&2
            ((${#missing[@]} == 0))
            return
        fi
        as_root=(sudo)
    fi
    local get=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get)
    echo "setup: installing with apt-get: ${missing[*]} ${wanted[*]}"
    "${get[@]}" -qq update || echo "setup: warning: apt-get update failed, going on with the lists at hand" >&2
    if ((${#missing[@]})) && ! "${get[@]}" -qq -y --no-install-recommends install "${missing[@]}"; then
        echo "setup: could not install: ${missing[*]}" >&2
        return 1
    fi
    local package
    for package in "${wanted[@]}"; do
        "${get[@]}" -qq -y --no-install-recommends install "$package" ||
            echo "setup: warning: $package could not be installed; Plait does without it" >&2
    done
}

# plait_setup_oracle FOLDER: a Python environment with the packages above, where a package registry answers.
plait_setup_oracle() {
    local folder=$1 python
    # A version manager's python may not be the distribution's.
    for python in /usr/bin/python3 python3; do
        "$folder/bin/python" -m pip --version >/dev/null 2>&1 || "$python" -m venv "$folder" >/dev/null 2>&1 || true
    done
    if [[ ! -x $folder/bin/python ]]; then
        echo "setup: warning: no Python environment can be made; tests that ask other libraries are skipped" >&2
        return 0
    fi
    local missing=() package
    for package in "${plait_oracle_packages[@]}"; do
        "$folder/bin/python" -c "import $package" >/dev/null 2>&1 || missing+=("$package")
    done
    ((${#missing[@]} == 0)) && return 0
    echo "setup: installing with pip, into $folder: ${missing[*]}"
    "$folder/bin/python" -m pip --quiet --disable-pip-version-check --timeout 15 --retries 1 install "${missing[@]}" ||
        echo "setup: warning: ${missing[*]} could not be installed; tests that ask them are skipped" >&2
}
