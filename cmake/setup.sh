# Sourced by tests/run and examples/quickstart: installs the distribution's packages that are missing (Debian 12,
# Ubuntu 24.04). plait_setup build = what the command needs, plait_setup tests = what the tests need besides; names
# after that are optional packages more.

plait_build_packages=(g++ cmake ninja-build libfmt-dev libeigen3-dev libtomlplusplus-dev libcli11-dev nlohmann-json3-dev)
plait_build_optional=(ccache libopenblas-dev libdnnl-dev libxxhash-dev libopenmpi-dev openmpi-bin)
plait_test_packages=(catch2 pkg-config)
plait_test_optional=(clang-format)

# Prints those of the named packages that are not installed.
plait_missing() {
    local package
    for package in "$@"; do
        dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || echo "$package"
    done
}

# Makes build/oracle, a Python environment with the packages that read what Plait wrote. Tests that ask them are
# skipped without it, so no failure here is one of the setup.
plait_oracle() {
    local packages=(tensorboard) folder=build/oracle package
    if ! command -v python3 >/dev/null || ! { [[ -x $folder/bin/pip ]] || python3 -m venv "$folder"; }; then
        echo "setup: warning: no Python environment in $folder; the tests that ask one are skipped" >&2
        return 0
    fi
    for package in "${packages[@]}"; do
        "$folder/bin/pip" --quiet --disable-pip-version-check install "$package" ||
            echo "setup: warning: $package could not be installed; the tests that ask it are skipped" >&2
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
