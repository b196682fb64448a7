#pragma once

#include "plait/graph/parts.hpp"
#include "plait/graph/trace.hpp"
#include "plait/ops/elementwise.hpp"
#include "plait/parallel/leaves.hpp"

#include <algorithm>
#include <span>

namespace plait {
namespace detail {

inline Value add(Value const& a, Value const& b) { return (Tensor(a) + Tensor(b)).value(); }

inline Value add_chain(std::span<Value const> x) {
    Value sum = x.front();
    for (auto const& v : x.subspan(1)) sum = add(sum, v);
    return sum;
}

/// The halves first: (0 + 1) + (2 + 3).
inline Value add_tree(std::span<Value const> x) {
    auto half = x.size() / 2;
    return x.size() == 1 ? x.front() : add(add_tree(x.first(half)), add_tree(x.subspan(half)));
}

}  // namespace detail

PLAIT_INLINE bool needs_leaves(Node const& node, NodeLayout const& layout) {
    if (layout.factor < 0) return false;
    Metas in;
    for (auto const& v : node.inputs) in.push_back(v.meta());
    auto rule = node.op.rule(in);
    if (rule.by_shape) return true;
    for (std::size_t i = 0; i < node.outputs.size(); ++i)
        if (layout.outputs[i].is_partial() && !rule.exact && is_floating(node.outputs[i].dtype)) return true;
    return false;
}

PLAIT_INLINE std::vector<std::vector<Value>> run_in_leaves(AnyOp const& op, std::vector<Value> const& inputs,
                                                           Metas const& out, NodeLayout const& layout,
                                                           Leaves const& leaves, LeafHost const& host) {
    std::vector<std::vector<Value>> made(out.size());
    for (std::int64_t i = 0; i < leaves.count; ++i) {
        std::vector<Value> leaf;
        Metas in, leaf_out = out;
        for (std::size_t k = 0; k < inputs.size(); ++k) {
            auto const& l = layout.inputs[k];
            leaf.push_back(l.is_shard() ? host.part(inputs[k], l.dim, i, leaves.count) : inputs[k]);
            in.push_back(leaf.back().meta());
        }
        for (std::size_t o = 0; o < out.size(); ++o)
            if (auto const& l = layout.outputs[o]; l.is_shard()) leaf_out[o].shape[l.dim] /= leaves.count;
        auto node = record(op.localized(in, leaf_out), std::move(leaf));
        for (std::size_t o = 0; o < out.size(); ++o) {
            auto const& l = layout.outputs[o];
            made[o].push_back({node, static_cast<int>(o)});
            host.made(made[o].back(), static_cast<int>(o), l.is_shard() ? l.dim : -1, i);
        }
    }
    for (std::size_t o = 0; o < out.size(); ++o) {
        auto& values = made[o];
        auto const& l = layout.outputs[o];
        if (l.is_shard()) {
            if (values.size() > 1) values = {{record(Join{l.dim}, values), 0}};
        } else if (l.is_partial() && leaves.count >= leaves.chain) {
            std::vector<Value> ranks;  // virtual ones
            auto chain = static_cast<std::size_t>(leaves.chain);
            for (std::size_t first = 0; first < values.size(); first += chain)
                ranks.push_back(detail::add_chain(std::span(values).subspan(first, chain)));
            values = {detail::add_tree(ranks)};
        }
    }
    return made;
}

}  // namespace plait
