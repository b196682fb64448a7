#pragma once

#include "plait/graph/parts.hpp"
#include "plait/graph/trace.hpp"
#include "plait/ops/elementwise.hpp"
#include "plait/parallel/leaves.hpp"

namespace plait {
namespace detail {

inline Value add(Value const& a, Value const& b) { return (Tensor(a) + Tensor(b)).value(); }

/// A canonical sum of leaves that come in their order: a chain inside each run of `chain`, and (0 + 1) + (2 +
/// 3) across runs. Adds as soon as both sides are there, so that few addends wait.
class LeafSum {
  public:
    explicit LeafSum(Leaves const& leaves) : leaves_(leaves) {}

    void take(Value const& leaf) {
        if (leaves_.count < leaves_.chain) return waiting_.push_back(leaf);  // time goes on with the chain
        chain_ = length_ ? add(chain_, leaf) : leaf;
        if (++length_ < leaves_.chain) return;
        Value sum = chain_;
        // As in a binary counter: every run that is complete meets its left neighbour.
        for (auto runs = runs_++; runs & 1; runs >>= 1) {
            sum = add(waiting_.back(), sum);
            waiting_.pop_back();
        }
        waiting_.push_back(sum);
        length_ = 0;
    }
    std::vector<Value> const& addends() const { return waiting_; }

  private:
    Leaves leaves_;
    Value chain_;
    std::int64_t length_ = 0, runs_ = 0;
    std::vector<Value> waiting_;
};

}  // namespace detail

PLAIT_INLINE bool needs_leaves(Node const& node, NodeLayout const& layout) {
    if (layout.factor < 0) return false;
    auto rule = node.op.rule(detail::metas_of(node.inputs));
    if (rule.by_shape) return true;
    for (std::size_t i = 0; i < node.outputs.size(); ++i)
        if (layout.outputs[i].is_partial() && !rule.exact && is_floating(node.outputs[i].dtype)) return true;
    return false;
}

PLAIT_INLINE std::vector<std::vector<Value>> run_in_leaves(AnyOp const& op, std::vector<Value> const& inputs,
                                                           Metas const& out, NodeLayout const& layout,
                                                           Leaves const& leaves, LeafHost const& host) {
    std::vector<std::vector<Value>> made(out.size());
    std::vector<detail::LeafSum> sums(out.size(), detail::LeafSum(leaves));
    bool const together = leaves.count >= leaves.chain && leaves.together && leaves.together(op);
    auto const side_by_side = [&](std::size_t o) {
        return layout.outputs[o].is_partial() && together && out[o].shape.rank() > 0;
    };
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
            Value v{node, static_cast<int>(o)};
            host.made(v, v.output, l.is_shard() ? l.dim : -1, i);
            if (l.is_partial() && !side_by_side(o)) sums[o].take(v);
            else made[o].push_back(v);
        }
    }
    for (std::size_t o = 0; o < out.size(); ++o) {
        auto const& l = layout.outputs[o];
        if (side_by_side(o)) {
            Value all{record(Join{0}, made[o]), 0};
            made[o] = {{record(LeafTree{leaves.count, leaves.chain}, {all}), 0}};
        } else if (l.is_partial()) made[o] = sums[o].addends();
        else if (l.is_shard() && made[o].size() > 1) made[o] = {{record(Join{l.dim}, made[o]), 0}};
    }
    return made;
}

}  // namespace plait
