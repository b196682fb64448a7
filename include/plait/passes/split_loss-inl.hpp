#pragma once

#include "plait/graph/pass.hpp"
#include "plait/graph/trace.hpp"
#include "plait/ops/loss.hpp"
#include "plait/passes/split_loss.hpp"

namespace plait {

PLAIT_INLINE Graph split_losses(Graph const& graph, std::int64_t ways) {
    if (ways == 1) return graph;
    return rewrite(graph, [&](Node const& node, Rewriter& r) -> std::vector<Value> {
        auto in_blocks = [&](auto const* op) -> std::vector<Value> {
            if (!op || node.inputs[1].meta().shape[0] % ways) return {};
            auto divided = *op;
            divided.blocks = ways;
            return values_of(record(std::move(divided), r.mapped(node.inputs)));
        };
        auto made = in_blocks(node.op.as<LinearCrossEntropy>());
        return made.empty() ? in_blocks(node.op.as<LinearCrossEntropyStep>()) : made;
    });
}

}  // namespace plait
