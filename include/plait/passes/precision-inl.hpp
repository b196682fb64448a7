#pragma once

#include "plait/graph/pass.hpp"
#include "plait/graph/source.hpp"
#include "plait/graph/trace.hpp"
#include "plait/ops/elementwise.hpp"
#include "plait/passes/precision.hpp"

namespace plait {

PLAIT_INLINE Graph lower_precision(Graph const& graph, DType dtype) {
    if (dtype == f32) return graph;
    ValueMap<Value> copies;
    auto copy_of = [&](Value const& v) -> Value {
        auto const* s = source_of(*v.node);
        if (!s || s->kind != SourceKind::variable || s->meta.dtype != f32 || s->meta.shape.rank() < 2) return v;
        auto& copy = copies[v];
        if (!copy) copy = {record(Cast{dtype}, {v}), 0};
        return copy;
    };
    return rewrite(graph, [&](Node const& node, Rewriter& r) -> std::vector<Value> {
        if (node.origin.phase == Phase::update) return {};
        auto inputs = r.mapped(node.inputs);
        Metas in;
        for (auto const& v : inputs) in.push_back(v.meta());
        auto like = node.op.rule(in).like;
        for (std::size_t i = 0; i < inputs.size(); ++i)
            if (!like[i]) inputs[i] = copy_of(inputs[i]);
        auto made = record(node.op, std::move(inputs));
        std::vector<Value> outputs;
        for (std::size_t i = 0; i < node.outputs.size(); ++i) outputs.push_back({made, static_cast<int>(i)});
        return outputs;
    });
}

}  // namespace plait
