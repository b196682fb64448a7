#include <algorithm>
#include <cmath>

#include "chart.hpp"
#include "commands.hpp"
#include "device.hpp"
#include "launch.hpp"
#include "memory_picture.hpp"
#include "page.hpp"
#include "plait/cpu/backend.hpp"
#include "plait/io/file.hpp"
#include "plait/train/progress.hpp"
#include "plait/version.hpp"
#include "run_data.hpp"
#include "schedule_picture.hpp"
#include "svg.hpp"

namespace plait::tools {
namespace {

using Runs = std::vector<RunData>;

std::string card(std::string const& inside) { return "<div class=\"card scroll\">" + inside + "</div>\n"; }

/// Names of the runs as a table's head; of one run, none.
std::string head(Runs const& runs) {
    if (runs.size() == 1) return "";
    std::string cells;
    for (std::size_t i = 0; i < runs.size(); ++i)
        cells += fmt::format("<th scope=\"col\">{}</th>", escaped(runs[i].name));
    return "<thead><tr><td></td>" + cells + "</tr></thead>\n";
}

std::string table(std::string_view style, std::string const& head, std::string const& rows) {
    return card(fmt::format("<table class=\"{}\">\n{}<tbody>\n{}</tbody></table>", style, head, rows));
}

std::string seconds_text(double s) {
    return s < 1 ? fmt::format("{:.1f} ms", 1000 * s) : fmt::format("{:.2f} s", s);
}

/// The numbers of each run: the last ones, the best validation, and medians of what wavers.
std::string numbers(Runs const& runs) {
    std::string rows;
    auto row = [&](std::string_view name, auto const& value_of) {
        std::string cells;
        bool any = false;
        for (auto const& r : runs) {
            std::string text = value_of(r);
            any = any || !text.empty();
            cells += "<td>" + (text.empty() ? "-" : escaped(text)) + "</td>";
        }
        if (any) rows += fmt::format("<tr><th scope=\"row\">{}</th>{}</tr>\n", name, cells);
    };
    auto last = [](char const* key, auto const& text) {
        return [key, text](RunData const& r) {
            auto x = r.column(key).last();
            return x ? text(*x) : std::string();
        };
    };
    auto median = [](char const* key, auto const& text) {
        return [key, text](RunData const& r) {
            auto x = r.column(key).median();
            return x ? text(*x) : std::string();
        };
    };
    auto three = [](double x) { return fmt::format("{:.3f}", x); };
    auto whole = [](double x) { return Axis{}.text(std::round(x)); };
    row("steps", [](RunData const& r) {
        auto const& steps = r.column("loss").steps;
        if (steps.empty()) return std::string("0");
        auto done = Axis{}.text(steps.back());
        return r.config ? fmt::format("{} of {}", done, Axis{}.text(static_cast<double>(r.config->run.steps)))
                        : done;
    });
    row("loss", last("loss", three));
    row("validation loss", last("validation_loss", three));
    row("validation, bits per byte", last("validation_bits_per_byte", three));
    auto best = [](RunData const& r) {
        auto const& c = r.column("validation_bits_per_byte");
        auto const x = c.least();
        auto const at = x ? std::find(c.values.begin(), c.values.end(), *x) - c.values.begin() : 0;
        return std::pair{x, x ? c.steps[static_cast<std::size_t>(at)] : 0};
    };
    row("best bits per byte", [&](RunData const& r) {
        auto const x = best(r).first;
        return x ? three(*x) : std::string();
    });
    row("at step", [&](RunData const& r) {
        auto const [x, step] = best(r);
        return x ? Axis{}.text(step) : std::string();
    });
    row("gradient norm", last("grad_norm", [](double x) { return fmt::format("{:.2f}", x); }));
    row("tokens", last("tokens", whole));
    row("tokens/s, median", median("tokens_per_second", whole));
    row("step, median", median("step_seconds", seconds_text));
    row("all steps", [](RunData const& r) {
        double sum = 0;
        for (auto s : r.column("step_seconds").values) sum += std::isfinite(s) ? s : 0;
        return sum > 0 ? duration_text(sum) : std::string();
    });
    row("mfu, median", median("mfu", [](double x) { return fmt::format("{:.1f}%", 100 * x); }));
    row("memory, peak", last("memory_peak_bytes", bytes_text));
    row("sent, a step", median("wire_bytes", [](double x) { return x > 0 ? bytes_text(x) : ""; }));
    return "<h2>Numbers</h2>\n" + table("numbers", head(runs), rows);
}

std::string charts(Runs const& runs) {
    struct Wanted {
        char const *key, *title;
        Unit unit;
        bool from_zero;
        Curve::Look look;
    };
    using enum Curve::Look;
    constexpr Wanted all[] = {
        {"loss", "Loss", Unit::number, false, smoothed},
        {"validation_bits_per_byte", "Validation, bits per byte", Unit::number, false, marked},
        {"learning_rate", "Learning rate", Unit::rate, true, plain},
        {"grad_norm", "Gradient norm", Unit::number, true, smoothed},
        {"tokens_per_second", "Throughput", Unit::tokens, true, smoothed},
        {"step_seconds", "Step time", Unit::seconds, true, smoothed},
        {"mfu", "Model FLOPs utilisation", Unit::part, true, smoothed},
        {"wire_bytes", "Sent, a step", Unit::bytes, true, plain}};
    std::string html;
    for (auto const& w : all) {
        Chart chart{w.title, w.key, w.unit, w.from_zero, {}};
        bool sent = false;
        auto add = [&](int run, std::string const& key, Curve::Look look, std::string const& what) {
            auto const& r = runs[static_cast<std::size_t>(run)];
            auto const& s = r.column(key);
            sent = sent || std::any_of(s.values.begin(), s.values.end(), [](double v) { return v > 0; });
            auto name = runs.size() == 1 ? what : what.empty() ? r.name : r.name + ", " + what;
            chart.curves.push_back({run, name, &s, look});
        };
        bool const loss = w.key == std::string_view("loss");
        for (int run = 0; run < static_cast<int>(runs.size()); ++run) {
            add(run, w.key, w.look, loss ? "training" : "");
            if (loss) add(run, "validation_loss", marked, "validation");
        }
        if (sent || w.key != std::string_view("wire_bytes")) html += chart_html(chart);
    }
    return "<h2>Curves</h2>\n<p class=\"lead\">Faint lines are single steps, strong ones the mean of "
           "neighbours.</p>\n<div class=\"grid\">\n" +
           html + "</div>\n";
}

using Settings = std::map<std::string, std::string>;

Settings settings_of(Config const& config) {
    Settings all;
    for_each_key(config, [&](std::string const& key, auto const& value) { all[key] = value_text(value); });
    return all;
}

/// Of several runs what they have differently; of one what it has other than by default.
std::string settings(Runs const& runs) {
    std::vector<Settings> all;
    for (auto const& r : runs) all.push_back(r.config ? settings_of(*r.config) : Settings{});
    auto const usual = settings_of(Config{});
    std::string differ, set;
    for (auto const& [key, value] : usual) {
        std::string cells;
        bool same = true, as_usual = true;
        for (auto const& s : all) {
            auto it = s.find(key);
            cells += "<td><code>" + (it == s.end() ? "-" : escaped(it->second)) + "</code></td>";
            if (it == s.end()) continue;
            as_usual = as_usual && it->second == value;
            for (auto const& other : all)
                if (auto o = other.find(key); o != other.end()) same = same && o->second == it->second;
        }
        auto row = fmt::format("<tr><th scope=\"row\"><code>{}</code></th>{}</tr>\n", key, cells);
        if (!same) differ += row;
        if (!as_usual) set += row;
    }
    std::string html = "<h2>Configuration</h2>\n";
    if (runs.size() > 1)
        html += "<p>What the runs have differently:</p>\n" +
                (differ.empty() ? "<p class=\"lead\">Nothing.</p>\n" : table("settings", head(runs), differ));
    html += fmt::format("<details{}><summary>What is not as by default</summary>\n",
                        runs.size() == 1 ? " open=\"open\"" : "");
    return html + (set.empty() ? "<p class=\"lead\">Nothing.</p>\n" : table("settings", head(runs), set)) +
           "</details>\n";
}

/// Pictures of the step that a run's config.toml describes; empty where there is none.
struct Plans {
    std::string memory;    // of the rank that has most
    std::string schedule;  // of a pipeline
};

Plans plans_of(RunData& run) {
    if (!run.config) return {};
    try {
        auto config = *run.config;
        auto const cluster = plan_world(config, Launcher{});
        auto const sizes = mesh_of(config, planned_ranks(config, cluster));
        auto const backend = planned_backend(config, cluster);
        auto const programs = compile_programs(config, Mesh(sizes, 0), backend);
        if (programs.plan.mesh().axis("pipeline").size == 1) return {memory_picture(programs), ""};
        auto const larger = compile_larger(config, backend, programs);
        auto const& largest = larger ? *larger : programs;
        auto const rank = fmt::format("<p class=\"lead\">Of rank {}, which has the most.</p>\n",
                                      largest.plan.mesh().rank());
        auto const schedule = programs.plan.schedule();
        return {rank + memory_picture(largest), schedule_picture(schedule, check_schedule(schedule))};
    } catch (Error const& e) {
        run.notes.push_back(fmt::format("{}: no memory plan: {}", run.name, e.what()));
        return {};
    }
}

/// A picture a run; empty where no run has one.
std::string pictures(Runs const& runs, std::vector<Plans> const& plans, std::string Plans::*kind) {
    std::string html;
    for (std::size_t i = 0; i < runs.size(); ++i) {
        auto const& picture = plans[i].*kind;
        if (picture.empty()) continue;
        std::size_t same = 0;
        while (plans[same].*kind != picture) ++same;
        if (runs.size() > 1) html += fmt::format("<p class=\"run\">{}</p>\n", escaped(runs[i].name));
        html += same < i ? fmt::format("<p class=\"lead\">As that of {}.</p>\n", escaped(runs[same].name))
                         : picture;
    }
    return html;
}

std::string schedules(Runs const& runs, std::vector<Plans> const& plans) {
    auto const html = pictures(runs, plans, &Plans::schedule);
    if (html.empty()) return "";
    return "<h2>Schedule</h2>\n<p class=\"lead\">The order in which the ranks of the pipeline do their "
           "pieces, drawn as if F, B and W of a stage took a second each. Point at a piece for its "
           "name.</p>\n" +
           schedule_patterns() + html;
}

std::string memory(Runs const& runs, std::vector<Plans> const& plans) {
    auto const html = pictures(runs, plans, &Plans::memory);
    if (html.empty()) return "";
    return "<h2>Memory plan</h2>\n<p class=\"lead\">What each byte of the arena holds while a step runs; "
           "weights "
           "and optimizer lie at the bottom and stay. Point at a place for its name.</p>\n" +
           memory_patterns() + html;
}

std::string samples(Runs const& runs) {
    std::string html;
    for (auto const& r : runs) {
        std::vector<std::string> prompts;
        for (auto const& s : r.samples)
            if (std::find(prompts.begin(), prompts.end(), s.prompt) == prompts.end())
                prompts.push_back(s.prompt);
        if (prompts.empty()) continue;
        if (runs.size() > 1) html += fmt::format("<p class=\"run\">{}</p>\n", escaped(r.name));
        for (auto const& prompt : prompts) {
            std::vector<Sample const*> of_prompt;
            for (auto const& s : r.samples)
                if (s.prompt == prompt) of_prompt.push_back(&s);
            std::string first;
            // The newest comes first; the ones before it, back to the beginning, fold up.
            for (auto it = of_prompt.rbegin(); it != of_prompt.rend(); ++it) {
                auto text = fmt::format(
                    "<p class=\"small\">step {}</p>\n<pre><span class=\"prompt\">{}</span>{}</pre>\n",
                    Axis{}.text(static_cast<double>((*it)->step)), escaped(prompt), escaped((*it)->text));
                if (it == of_prompt.rbegin()) {
                    first += text;
                    if (of_prompt.size() > 1)
                        first +=
                            fmt::format("<details><summary>{} earlier</summary>\n", of_prompt.size() - 1);
                } else {
                    first += text;
                }
            }
            if (of_prompt.size() > 1) first += "</details>\n";
            html += "<div class=\"card\">" + first + "</div>\n";
        }
    }
    return html.empty() ? "" : "<h2>Samples over time</h2>\n" + html;
}

std::string notes(Runs const& runs) {
    std::string items;
    for (auto const& r : runs)
        for (auto const& n : r.notes) items += "<li>" + escaped(n) + "</li>\n";
    return items.empty() ? "" : "<ul class=\"card notes small\">\n" + items + "</ul>\n";
}

std::string report_html(Runs& runs) {
    std::string names;
    for (auto const& r : runs) names += (names.empty() ? "" : ", ") + r.name;
    auto const title = runs.size() == 1 ? "Run " + names : "Runs " + names;
    std::vector<Plans> plans;
    for (auto& r : runs) plans.push_back(plans_of(r));  // may add notes
    std::string body =
        fmt::format("<header>\n<h1>{}</h1>\n<p class=\"lead\">A report of Plait {}</p>\n</header>\n",
                    escaped(title), PLAIT_VERSION);
    body += notes(runs) + "<main>\n" + numbers(runs) + charts(runs) + schedules(runs, plans) +
            memory(runs, plans) + samples(runs) + settings(runs);
    return page_html(title, body + "</main>\n");
}

}  // namespace

int report(ReportArguments const& a) {
    Runs runs;
    for (auto const& folder : a.runs) {
        runs.push_back(read_run(folder));
        for (std::size_t i = 0; i + 1 < runs.size(); ++i)
            check<UsageError>(runs[i].name != runs.back().name, "{} is named twice", runs.back().name);
    }
    auto const path = a.out.empty() ? runs.front().folder / "report.html" : std::filesystem::path(a.out);
    auto const html = report_html(runs);
    try {
        write_file_atomically(path, html);
    } catch (Error const& e) {
        throw UsageError(e.what());
    }
    for (auto const& r : runs)
        for (auto const& n : r.notes) fmt::print("note    {}\n", n);
    fmt::print("report  {}, {}\n", path.string(), bytes_text(static_cast<double>(html.size())));
    return 0;
}

}  // namespace plait::tools
