#pragma once

#include "plait/graph/source.hpp"
#include "plait/parallel/layout.hpp"
#include "plait/parallel/plan.hpp"

#include <memory>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace plait {

/// What a plan's lines say of the variables and marked values of one program.
struct ResolvedLines {
    std::unordered_map<Variable const*, Layout> variables;
    ValueMap<Layout> values;  // marked activations and gradients that a line names
    /// Gradients that are reduced inside the loop over micro-batches, as soon as they are made.
    std::unordered_set<Value, ValueHash> reduced_at_once;
    std::vector<std::string> texts;  // of the lines, for errors
};

/// How the plan lays out `variables` and the marked values of `graph`: parameters by lines of parameters, the
/// optimizer's state by those of its parameter (Variable::parameter), a gradient
/// ("PATH.gradient") by those of gradients. Throws UsageError for a line that names nothing, a dim that does
/// not exist or that the axis does not divide, and lines that contradict each other.
ResolvedLines resolve_lines(Plan const& plan, Graph const& graph,
                            std::vector<std::shared_ptr<Variable>> const& variables);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/parallel/lines-inl.hpp"
#endif
