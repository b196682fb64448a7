#include "claims.hpp"

#include "plait/core/random.hpp"
#include "plait/parallel/schedule_csv.hpp"

namespace plait::tools {
namespace {

/// What belongs to one rank or its machine; the text is compared itself.
bool is_own(std::string const& key) {
    for (auto const* own : {"data.path", "data.tokenizer", "data.validation", "run.out", "run.cluster",
                            "run.cluster_file", "run.threads"})
        if (key == own) return true;
    return false;
}

}  // namespace

Claims claims_of(Config const& config) {
    Claims claims;
    for_each_key(config, [&](std::string const& key, auto const& value) {
        if (!is_own(key)) claims.emplace_back(key, value_text(value));
    });
    return claims;
}

Claims claims_of(Config const& config, Programs const& programs, std::string const& text) {
    Claims claims;
    claims.emplace_back("the part for validation", config.data.validation.path.empty()
                                                       ? value_text(config.data.validation.fraction)
                                                       : "a text of its own");
    claims.emplace_back("the text", text);
    std::string sizes, lines;
    for (auto const& axis : programs.plan.mesh().axes()) sizes += fmt::format("{}={} ", axis.name, axis.size);
    for (auto const& line : programs.plan.lines()) lines += "; " + to_string(line);
    claims.emplace_back("the plan", sizes + lines);
    // Before it is divided: ranks do different parts of it.
    auto const& dumps = programs.train.dumps();
    claims.emplace_back("the program", fmt::format("{} nodes, {:016x}", dumps.passed.nodes.size(),
                                                   hash_name(dumps.passed.text())));
    if (dumps.sections.pipeline)
        claims.emplace_back("the schedule", dumps.modules.text() + "\n" + schedule_csv(dumps.schedule));
    return claims;
}

}  // namespace plait::tools
