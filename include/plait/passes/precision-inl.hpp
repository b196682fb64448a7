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
    return rewrite(graph, [&](Node const& node, Rewriter& r) -> std::vector<Value> {
        if (node.origin.phase == Phase::update) return {};
        auto inputs = r.mapped(node.inputs);
        Metas in;
        for (auto const& v : node.inputs) in.push_back(v.meta());
        auto like = node.op.rule(in).like;
        auto factors = detail::factors_of(node.op);
        for (std::size_t i = 0; i < inputs.size(); ++i)
            if (!like[i]) inputs[i] = copy_of(inputs[i], i < factors);
        return values_of(record(node.op, std::move(inputs)));
    });
}

}  // namespace plait
