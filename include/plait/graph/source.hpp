#pragma once

#include "plait/core/array.hpp"
#include "plait/graph/graph.hpp"

#include <functional>
#include <memory>
#include <string>

namespace plait {

/// How a variable's first value is made, element by element from the seed, the path and the logical index.
struct Init {
    enum class Kind : std::uint8_t { constant, normal, uniform };
    Kind kind = Kind::constant;
    double a = 0, b = 0;  // constant: value a; normal: mean a, deviation b; uniform: from a to b

    static Init zeros() { return {}; }
    static Init ones() { return {Kind::constant, 1, 0}; }
    static Init normal(double deviation) { return {Kind::normal, 0, deviation}; }
    static Init uniform(double limit) { return {Kind::uniform, -limit, limit}; }
};

enum class VariableKind : std::uint8_t { parameter, optimizer, other };

/// State that lives from step to step: a parameter, a moment of the optimizer. It has no memory of its own
/// while a compiled program holds it; `value` is what it starts from, made from `init` when empty.
struct Variable {
    std::string path;  // "blocks.3.mlp.gate.weight"; set when the module is walked
    Meta meta;
    VariableKind kind = VariableKind::parameter;
    Init init;
    Array value;
    Value source;   // the node that reads it
    Value current;  // what reading it gives now: `source`, or the newest value given to it in this recording
    /// kind == optimizer: path of the parameter that it belongs to, by whose plan lines it is laid out.
    /// Without one it is laid out by its own path.
    std::string parameter{};
    /// Rows (of dim 0) that count; 0: all. Rows after them are padding: they begin at zero, no hash holds
    /// them, and a checkpoint may have more or fewer of them.
    std::int64_t rows = 0;

    /// Elements before the padding; they come first.
    std::int64_t counted() const {
        auto const all = meta.elements();
        return rows > 0 && meta.shape[0] > rows ? all / meta.shape[0] * rows : all;
    }
};

/// What a feed may read when it writes its value.
struct StepInfo {
    std::int64_t step = 0;  // counted from 1
    std::uint64_t seed = 1;
};
using Feed = std::function<void(StepInfo const&, std::byte*)>;

enum class SourceKind : std::uint8_t { variable, batch, feed, constant };
constexpr std::string_view name_of(SourceKind k) {
    constexpr std::string_view names[] = {"variable", "batch", "feed", "constant"};
    return names[static_cast<std::size_t>(k)];
}

/// A value that comes from outside the graph.
struct Source {
    static constexpr std::string_view name = "source";
    SourceKind kind = SourceKind::constant;
    std::string label;  // path of a variable when recorded, name of a batch column or feed
    Meta meta;
    std::weak_ptr<Variable> variable{};  // kind == variable
    Array constant{};                    // kind == constant
    Feed feed{};                         // kind == feed: writes the value for a step

    using fields = Fields<&Source::kind, &Source::label>;

    Metas infer(Metas const&) const { return {meta}; }
    /// Every dim is a factor of its own: a plan may lay a source out as it likes.
    Rule rule(Metas const&) const {
        Rule r;
        r.outputs.emplace_back();
        for (int d = 0; d < meta.shape.rank(); ++d) {
            r.factors.push_back({std::to_string(d), meta.shape[d], false});
            r.outputs[0].push_back({d});
        }
        return r;
    }
};

/// The source behind a node, or null.
inline Source const* source_of(Node const& node) { return node.op.as<Source>(); }

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/graph/trace.hpp"
#endif
