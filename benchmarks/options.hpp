#pragma once

#include "plait/core/check.hpp"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace plait::benchmark {

/// What a command line may say, each option beside what it sets.
struct Options {
    struct Number {
        std::string_view name;
        std::int64_t* to;
        std::int64_t least = 1;
    };

    std::string_view program, usage;
    std::vector<std::pair<std::string_view, bool*>> switches{};
    std::vector<std::pair<std::string_view, std::string*>> texts{};
    std::vector<Number> numbers{};

    /// Throws UsageError with the usage for anything else.
    void read(int argc, char** argv) const {
        for (int i = 1; i < argc; ++i) {
            std::string_view const name = argv[i], value = i + 1 < argc ? argv[i + 1] : "";
            if (turn(name)) continue;
            check<UsageError>(set(name, value), "{}: what is '{} {}'?\n{}", program, name, value, usage);
            ++i;
        }
    }

  private:
    bool turn(std::string_view name) const {
        for (auto const& [known, to] : switches)
            if (name == known) return *to = true;
        return false;
    }
    bool set(std::string_view name, std::string_view value) const {
        if (value.empty()) return false;
        for (auto const& [known, to] : texts)
            if (name == known) return *to = value, true;
        for (auto const& n : numbers) {
            if (name != n.name) continue;
            auto const [end, error] = std::from_chars(value.data(), value.data() + value.size(), *n.to);
            return error == std::errc() && end == value.data() + value.size() && *n.to >= n.least;
        }
        return false;
    }
};

/// What main returns: 2 where the command line was wrong, 1 where something else was.
template <class F>
int exit_code_of(F&& f) {
    try {
        f();
        return 0;
    } catch (UsageError const& e) {
        std::fprintf(stderr, "%s\n", e.what());
        return 2;
    } catch (std::exception const& e) {
        std::fprintf(stderr, "%s\n", e.what());
        return 1;
    }
}

template <class F>
double seconds(F&& f) {
    auto const start = std::chrono::steady_clock::now();
    f();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

inline double median(std::vector<double> x) {
    std::nth_element(x.begin(), x.begin() + static_cast<std::ptrdiff_t>(x.size() / 2), x.end());
    return x[x.size() / 2];
}

/// Sides that were timed in turn: the median of the first, and of each to the first, by neighbours.
struct Compared {
    double first = 0;
    std::vector<double> ratios;  // of the others
};
/// Runs every side once, and then `repeats` times in turn; a side gives what it took.
template <class Sides>
Compared compare(std::int64_t repeats, Sides const& sides) {
    std::vector<std::vector<double>> took(std::size(sides)), to_first(std::size(sides));
    for (std::int64_t round = -1; round < repeats; ++round) {
        std::size_t i = 0;
        for (auto const& side : sides) {
            auto const t = side();
            if (round >= 0) took[i].push_back(t), to_first[i].push_back(t / took[0].back());
            ++i;
        }
    }
    Compared c{median(took[0]), {}};
    for (std::size_t i = 1; i < to_first.size(); ++i) c.ratios.push_back(median(to_first[i]));
    return c;
}

inline double mib(std::int64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

}  // namespace plait::benchmark
