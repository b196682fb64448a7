#pragma once

#include "plait/graph/pass.hpp"
#include "plait/graph/source.hpp"
#include "plait/graph/trace.hpp"
#include "plait/ops/elementwise.hpp"
#include "plait/ops/loss.hpp"
#include "plait/ops/matmul.hpp"
#include "plait/passes/precision.hpp"

namespace plait {

namespace detail {

/// How many operands of `op`, from the first, are factors of a matrix product.
inline std::size_t factors_of(AnyOp const& op) {
    if (auto const* p = op.as<Product>()) return 2 * static_cast<std::size_t>(p->terms);
    return op.as<MatMul>() || op.as<LinearCrossEntropy>() || op.as<LinearCrossEntropyGradient>() ? 2 : 0;
}

}  // namespace detail

PLAIT_INLINE Graph lower_precision(Graph const& graph, DType dtype) {
    if (dtype == f32) return graph;
    ValueMap<Value> copies;
    auto copy_of = [&](Value const& v, bool factor) -> Value {
        auto const* s = source_of(*v.node);
        bool lowered = factor || (s && s->kind != SourceKind::feed && v.meta().shape.rank() >= 2);
        if (!lowered || v.meta().dtype != f32) return v;
        auto& copy = copies[v];
        if (!copy) copy = {record(Cast{dtype}, {v}), 0};
        return copy;
    };
    auto as_recorded = [](Value const& v, Value const& recorded) -> Value {
        auto wanted = recorded.meta().dtype;
        return v.meta().dtype == wanted ? v : Value{record(Cast{wanted}, {v}), 0};
    };
    auto lowered = rewrite(graph, [&](Node const& node, Rewriter& r) -> std::vector<Value> {
        auto inputs = r.mapped(node.inputs);
        Metas in;
        for (auto const& v : node.inputs) in.push_back(v.meta());
        auto like = node.op.rule(in).like;
        auto factors = detail::factors_of(node.op);
        bool update = node.origin.phase == Phase::update;
        for (std::size_t i = 0; i < inputs.size(); ++i) {
            if (update) inputs[i] = as_recorded(inputs[i], node.inputs[i]);
            else if (!like[i]) inputs[i] = copy_of(inputs[i], i < factors);
            in[i] = inputs[i].meta();
        }
        // Operands that no longer go together (a mask made in f32, say) are taken as they were recorded.
        if (!detail::infers(node.op, in))
            for (std::size_t i = 0; i < inputs.size(); ++i)
                inputs[i] = as_recorded(inputs[i], node.inputs[i]);
        return values_of(record(node.op, std::move(inputs)));
    });
    // Results have the dtype that the researcher's function gave them.
    for (std::size_t i = 0; i < lowered.outputs.size(); ++i)
        lowered.outputs[i].value = as_recorded(lowered.outputs[i].value, graph.outputs[i].value);
    return Graph::of(std::move(lowered.outputs), std::move(lowered.updates), std::move(lowered.marks));
}

}  // namespace plait
