#include <algorithm>

#include "model.hpp"
#include "plait/graph/glob.hpp"

namespace plait::tools {
namespace {

template <class... Args>
void want(bool ok, std::string const& line, Config const& config, fmt::format_string<Args...> format,
          Args&&... args) {
    check<UsageError>(ok, "plan.lines ({}): \"{}\": {}", config.origins.at("plan.lines"), line,
                      ok ? "" : fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace

void check_plan_lines(Config const& config, State const& state) {
    for (auto const& text : config.plan.lines) {
        auto const plan = Plan().line(text);
        for (auto const& line : plan.lines()) {
            // The others may speak of activations, which are known once the step is recorded.
            if (!line.stores || line.what == Stored::activation || line.glob == "**") continue;
            std::string last;
            bool const found =
                std::any_of(state.variables().begin(), state.variables().end(), [&](auto const& v) {
                    if (v->kind != VariableKind::parameter) return false;
                    last = v->path;
                    return glob_matches(line.glob, v->path);
                });
            want(found, text, config, "{} names nothing; there is {}", line.glob, last);
        }
    }
}

}  // namespace plait::tools
