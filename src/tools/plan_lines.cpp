#include <algorithm>
#include <numeric>

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

/// What the rows of embedding and head are a multiple of; 1 where no line divides them along tensor.
std::int64_t vocab_granule(Config const& config) {
    auto const& p = config.plan;
    bool divided = false;
    for (auto const& text : p.lines) {
        auto const plan = Plan().line(text);
        for (auto const& line : plan.lines())
            if (!line.stores && line.axis == "tensor" && line.dim == 0)
                for (auto const* path : {"tokens.weight", "head.weight"})
                    divided |= glob_matches(line.glob, path);
    }
    if (!divided) return 1;
    if (p.bits == "layout") return p.bits_granularity.tensor;
    auto const sizes = parse_mesh(p.mesh);
    auto const tensor = sizes.find("tensor");
    return std::lcm(p.bits_granularity.tensor, tensor == sizes.end() ? 1 : std::int64_t{tensor->second});
}

}  // namespace

std::int64_t padded_vocab(Config const& config) {
    auto const granule = vocab_granule(config), vocab = config.model.vocab;
    return (vocab + granule - 1) / granule * granule;
}

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
