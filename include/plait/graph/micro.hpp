#pragma once

#include "plait/graph/op.hpp"

namespace plait {

/// The borders of the loop over micro-batches, put into the graph by the loop pass (parallel/loops.hpp) and
/// resolved to addresses by the program (exec/program.hpp). Each is neutral when count is 1.

/// The block of a whole value that the current micro-batch works on: [.., n, ..] -> [.., n / count, ..].
struct MicroTake {
    static constexpr std::string_view name = "micro_take";
    int dim = 0;
    std::int64_t count = 1;
    using fields = Fields<&MicroTake::dim, &MicroTake::count>;

    Metas infer(Metas const& in) const {
        Meta m = in.at(0);
        check<ShapeError>(m.shape[dim] % count == 0, "micro-batches: {} does not divide dim {} of {}", count,
                          dim, to_string(m));
        m.shape[dim] /= count;
        return {m};
    }
    Rule rule(Metas const&) const { return {}; }
    Aliases aliases() const { return dim == 0 ? Aliases{{0, 0, true}} : Aliases{}; }
};

/// All micro-batches' blocks in one whole value, read after the loop: [.., n, ..] -> [.., n * count, ..].
struct MicroStack {
    static constexpr std::string_view name = "micro_stack";
    int dim = 0;
    std::int64_t count = 1;
    using fields = Fields<&MicroStack::dim, &MicroStack::count>;

    Metas infer(Metas const& in) const {
        Meta m = in.at(0);
        m.shape[dim] *= count;
        return {m};
    }
    Rule rule(Metas const&) const { return {}; }
};

/// The sum over the micro-batches, in their order, read after the loop: [...] -> [...].
struct MicroSum {
    static constexpr std::string_view name = "micro_sum";

    Metas infer(Metas const& in) const { return in; }
    Rule rule(Metas const&) const { return {}; }
};

/// The canonical sum over the micro-batches, read after the loop: chains of `chain` links in their
/// order, then a binary tree over the chains: ([...], ...) -> ([...], pending [levels, ...]), where the
/// number of chains is 2^levels and `pending` holds the left sides that wait for their right ones. Every
/// input is one link of a chain, in their order.
struct MicroTree {
    static constexpr std::string_view name = "micro_tree";
    std::int64_t chain = 1, levels = 0;
    using fields = Fields<&MicroTree::chain, &MicroTree::levels>;

    Metas infer(Metas const& in) const {
        Meta pending{in.at(0).dtype, {levels}};
        for (auto size : in[0].shape) pending.shape.push_back(size);
        return {in[0], pending};
    }
    Rule rule(Metas const&) const { return {}; }
};

}  // namespace plait
