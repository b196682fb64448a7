#include <algorithm>

#include "model.hpp"
#include "plait/graph/glob.hpp"

namespace plait::tools {
namespace {

/// Something that a line can name, and how many dims it has.
struct Named {
    std::string_view name;
    int rank = 0;
};

template <class... Args>
void want(bool ok, std::string const& line, Config const& config, fmt::format_string<Args...> format,
          Args&&... args) {
    check<UsageError>(ok, "plan.lines ({}): \"{}\": {}", config.origins.at("plan.lines"), line,
                      ok ? "" : fmt::format(format, std::forward<Args>(args)...));
}

/// Fails unless the line's glob names one of `all`, and each one that it names has its dim.
void look(Config const& config, std::string const& text, std::vector<Named> const& all) {
    auto const line = parse_plan_line(text);
    bool found = false;
    for (auto const& n : all) {
        if (!glob_matches(line.glob, n.name)) continue;
        found = true;
        want(line.dim < n.rank, text, config, "{} has {} dims, so there is no dim {}", n.name, n.rank,
             line.dim);
    }
    want(found, text, config, "{} names nothing; there is {}", line.glob, all.empty() ? "" : all.back().name);
}

std::vector<Named> parameters_of(State const& state) {
    std::vector<Named> all;
    for (auto const& v : state.variables())
        if (v->kind == VariableKind::parameter) all.push_back({v->path, v->meta.shape.rank()});
    return all;
}

}  // namespace

void check_plan_lines(Config const& config, State const& state) {
    std::vector<std::string> const axes(std::begin(mesh_axes), std::end(mesh_axes));
    for (auto const& text : config.plan.lines) {
        auto const line = parse_plan_line(text);
        want(std::find(axes.begin(), axes.end(), line.axis) != axes.end(), text, config,
             "there is no axis {}: the nearest is {}", line.axis, nearest_name(line.axis, axes));
        if (line.stores && line.what != Stored::activation) look(config, text, parameters_of(state));
    }
}

void check_plan_lines(Config const& config, State const& state, std::vector<Mark> const& marks) {
    for (auto const& text : config.plan.lines) {
        auto const line = parse_plan_line(text);
        if (line.stores && line.what != Stored::activation) continue;
        std::vector<Named> all;
        for (auto const& m : marks) all.push_back({m.name, m.value.meta().shape.rank()});
        if (!line.stores)
            for (auto const& p : parameters_of(state)) all.push_back(p);
        look(config, text, all);
    }
}

}  // namespace plait::tools
