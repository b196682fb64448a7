#include "run_data.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "plait/io/file.hpp"
#include "svg.hpp"

namespace plait::tools {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

std::string file_text(fs::path const& path) {
    try {
        return read_file(path);
    } catch (Error const& e) {
        throw UsageError(e.what());
    }
}

/// Calls f(object, step) for each line of a file of rows.
void each_row(fs::path const& path, std::vector<std::string>& notes,
              std::function<void(Json const&, std::int64_t)> const& f) {
    auto const text = file_text(path);
    std::int64_t number = 0;
    for (std::string_view rest = text; !rest.empty();) {
        ++number;
        auto end = rest.find('\n');
        if (end == std::string_view::npos) {
            notes.push_back(
                fmt::format("{}:{}: the last line is cut and was left out", path.string(), number));
            return;
        }
        auto line = rest.substr(0, end);
        rest.remove_prefix(end + 1);
        if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
        auto row = Json::parse(valid_utf8(line), nullptr, false);
        bool const good =
            row.is_object() && row.contains("step") && row["step"].is_number_integer() && row["step"] >= 0;
        check<UsageError>(good,
                          "{}:{}: is no row of a run (a JSON object with a \"step\"): remove the line to "
                          "report on the others",
                          path.string(), number);
        f(row, row["step"].get<std::int64_t>());
    }
}

void read_metrics(RunData& run) {
    auto const path = run.folder / "metrics.jsonl";
    std::int64_t last = -1, rows = 0, again = 0;
    each_row(path, run.notes, [&](Json const& row, std::int64_t step) {
        // A resumed run goes on from an earlier step; what it had written after that no longer holds.
        if (step <= last) {
            ++again;
            for (auto& [key, series] : run.columns) {
                auto from = std::lower_bound(series.steps.begin(), series.steps.end(), step);
                series.values.resize(static_cast<std::size_t>(from - series.steps.begin()));
                series.steps.erase(from, series.steps.end());
            }
        }
        last = step;
        ++rows;
        for (auto const& [key, value] : row.items()) {
            if (key == "step" || !(value.is_number() || value.is_null())) continue;
            auto& series = run.columns[key];
            series.steps.push_back(static_cast<double>(step));
            series.values.push_back(value.is_null() ? std::numeric_limits<double>::quiet_NaN()
                                                    : value.get<double>());
        }
    });
    if (again > 0)
        run.notes.push_back(fmt::format("{}: went back {} {}; the later rows hold", path.string(), again,
                                        again == 1 ? "time" : "times"));
    check<UsageError>(rows > 0, "{} has no rows yet: the run has not done a step", path.string());
}

void read_samples(RunData& run) {
    auto const path = run.folder / "samples.jsonl";
    std::error_code ignored;
    if (!fs::exists(path, ignored)) return;
    each_row(path, run.notes, [&](Json const& row, std::int64_t step) {
        auto text = [&](char const* key) {
            auto it = row.find(key);
            return it != row.end() && it->is_string() ? it->get<std::string>() : std::string();
        };
        // As in metrics.jsonl, what came before a step that is done again no longer holds.
        std::erase_if(run.samples, [&](Sample const& s) { return s.step > step; });
        run.samples.push_back({step, text("prompt"), text("text")});
    });
}

void read_config(RunData& run) {
    auto const path = run.folder / "config.toml";
    std::error_code ignored;
    if (!fs::exists(path, ignored)) {
        run.notes.push_back(
            fmt::format("there is no {}: no configuration and no memory plan", path.string()));
        return;
    }
    try {
        auto config = load_config(path.string(), {});
        check_config(config);
        run.config = std::move(config);
    } catch (UsageError const& e) {
        run.notes.push_back(fmt::format("no configuration and no memory plan: {}", e.what()));
    }
}

std::vector<double> finite(std::vector<double> values) {
    std::erase_if(values, [](double v) { return !std::isfinite(v); });
    return values;
}

}  // namespace

std::optional<double> Series::last() const {
    auto it = std::find_if(values.rbegin(), values.rend(), [](double v) { return std::isfinite(v); });
    return it == values.rend() ? std::nullopt : std::optional(*it);
}

std::optional<double> Series::median() const {
    auto v = finite(values);
    if (v.size() > 1) v.erase(v.begin());
    if (v.empty()) return {};
    auto middle = v.begin() + std::ssize(v) / 2;
    std::nth_element(v.begin(), middle, v.end());
    return *middle;
}

std::optional<double> Series::least() const {
    auto v = finite(values);
    return v.empty() ? std::nullopt : std::optional(*std::min_element(v.begin(), v.end()));
}

Series const& RunData::column(std::string const& key) const {
    static Series const none;
    auto it = columns.find(key);
    return it == columns.end() ? none : it->second;
}

RunData read_run(std::string const& folder) {
    RunData run;
    run.name = folder;
    while (run.name.size() > 1 && run.name.ends_with('/')) run.name.pop_back();
    run.folder = run.name;
    std::error_code ignored;
    check<UsageError>(fs::is_directory(run.folder, ignored),
                      "there is no folder {}: name the folder of a run", run.name);
    check<UsageError>(fs::exists(run.folder / "metrics.jsonl", ignored), "{} holds no run: there is no {}",
                      run.name, (run.folder / "metrics.jsonl").string());
    read_metrics(run);
    read_config(run);
    read_samples(run);
    return run;
}

}  // namespace plait::tools
