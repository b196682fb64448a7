#include <algorithm>
#include <charconv>
#include <sstream>

#include "model.hpp"
#include "plait/graph/glob.hpp"

namespace plait::tools {
namespace {

using Words = std::vector<std::string>;

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

void check_line(Config const& config, std::string const& line, std::vector<Named> const& parameters,
                std::vector<Named> const& activations) {
    std::istringstream in(line);
    Words words;
    for (std::string word; in >> word;) words.push_back(word);
    bool const store = words[0] == "store";
    want(words.size() == (store ? 6u : 4u) && (!store || words[4] == "of"), line, config, "write it like {}",
         store ? "store GLOB AXIS DIM of KIND" : "shard GLOB AXIS DIM");

    Words const axes{"replica", "data", "pipeline", "tensor", "context", "expert"};
    Words const kinds{"parameter", "gradient", "optimizer", "activation"};
    auto known = [&](Words const& names, std::string const& word) {
        return std::find(names.begin(), names.end(), word) != names.end();
    };
    want(known(axes, words[2]), line, config, "there is no axis {}: the nearest is {}", words[2],
         nearest_name(words[2], axes));
    want(!store || known(kinds, words.back()), line, config, "there is no {}: the nearest is {}",
         words.back(), nearest_name(words.back(), kinds));
    int dim = -1;
    auto const& number = words[3];
    auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), dim);
    want(error == std::errc{} && end == number.data() + number.size() && dim >= 0, line, config,
         "the dim {} is no number from 0", number);

    bool found = false;
    auto look = [&](std::vector<Named> const& names) {
        for (auto const& n : names) {
            if (!glob_matches(words[1], n.name)) continue;
            found = true;
            want(dim < n.rank, line, config, "{} has {} dims, so there is no dim {}", n.name, n.rank, dim);
        }
    };
    if (!store || words.back() != "activation") look(parameters);
    if (!store || words.back() == "activation") look(activations);
    auto const& sample = store && words.back() == "activation" ? activations : parameters;
    want(found, line, config, "{} names nothing; there is {}", words[1],
         sample.empty() ? "" : sample.back().name);
}

}  // namespace

void check_plan_lines(Config const& config, State const& state, std::vector<Mark> const& marks) {
    std::vector<Named> parameters, activations;
    for (auto const& v : state.variables())
        if (v->kind == VariableKind::parameter) parameters.push_back({v->path, v->meta.shape.rank()});
    for (auto const& m : marks) activations.push_back({m.name, m.value.meta().shape.rank()});
    for (auto const& line : config.plan.lines) check_line(config, line, parameters, activations);
}

}  // namespace plait::tools
