#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "config.hpp"

namespace plait::tools {

/// One number of the rows that have it, by ascending step; NaN where a row has null.
struct Series {
    std::vector<double> steps, values;

    /// The newest finite value.
    std::optional<double> last() const;
    /// Of the finite values after the first one, which pays for warming up.
    std::optional<double> median() const;
    std::optional<double> least() const;
};

/// What a model wrote after `step`.
struct Sample {
    std::int64_t step = 0;
    std::string prompt, text;
};

/// What the files of a run folder say.
struct RunData {
    std::string name;  // the folder as it was given
    std::filesystem::path folder;
    std::map<std::string, Series> columns;  // metrics.jsonl by key
    std::optional<Config> config;           // nothing where config.toml is missing or cannot be read
    std::vector<Sample> samples;            // samples.jsonl, where there is one
    std::vector<std::string> notes;         // what was left out, a line each

    Series const& column(std::string const& key) const;
};

/// Reads a run, which may still be going on: a last line without its line break is left out, and where a step
/// comes again after a resumption its later row holds. Throws UsageError for a folder that is none or has no
/// metrics, and for a line that is no row, with its number.
RunData read_run(std::string const& folder);

}  // namespace plait::tools
