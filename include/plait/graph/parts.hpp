#pragma once

#include "plait/graph/op.hpp"

namespace plait {

namespace detail {

/// `dim` has sizes of its own, and stays whole; the other dims are shared.
inline Rule whole_dim_rule(Metas const& in, int dim, std::int64_t out) {
    Rule r;
    Rule::Operand shared;
    for (int d = 0; d < in.at(0).shape.rank(); ++d) {
        r.factors.push_back({std::to_string(d), in[0].shape[d], d == dim});
        shared.push_back({d});
    }
    auto own = [&](std::int64_t size) {
        auto dims = shared;
        r.factors.push_back({std::to_string(r.factors.size()), size, true});
        dims[static_cast<std::size_t>(dim)] = {static_cast<int>(r.factors.size()) - 1};
        return dims;
    };
    for (auto const& m : in) r.inputs.push_back(own(m.shape[dim]));
    r.like.assign(in.size(), false);
    r.outputs.push_back(own(out));
    return r;
}

}  // namespace detail

/// Parts of values, put into a graph where ranks or leaves work on them (parallel/) and resolved to addresses
/// by the program where they lie along dim 0.

/// A run of blocks along one dim: [.., n, ..] -> [.., length, ..].
struct Part {
    static constexpr std::string_view name = "part";
    int dim = 0;
    std::int64_t start = 0, length = 0;
    using fields = Fields<&Part::dim, &Part::start, &Part::length>;

    Metas infer(Metas const& in) const {
        Meta m = in.at(0);
        check<ShapeError>(start >= 0 && start + length <= m.shape[dim],
                          "part: {} to {} lie outside dim {} of {}", start, start + length, dim,
                          to_string(m));
        m.shape[dim] = length;
        return {m};
    }
    Rule rule(Metas const& in) const { return detail::whole_dim_rule(in, dim, length); }
    Aliases aliases() const { return dim == 0 ? Aliases{{0, 0, true}} : Aliases{}; }
};

/// Parts side by side in one value: ([.., n, ..], ...) -> [.., sum of n, ..].
struct Join {
    static constexpr std::string_view name = "join";
    int dim = 0;
    using fields = Fields<&Join::dim>;

    Metas infer(Metas const& in) const {
        Meta m = in.at(0);
        m.shape[dim] = 0;
        for (auto const& part : in) m.shape[dim] += part.shape[dim];
        return {m};
    }
    Rule rule(Metas const& in) const { return detail::whole_dim_rule(in, dim, infer(in)[0].shape[dim]); }
};

/// The canonical sum of `count` leaves that lie side by side along dim 0, in their order: a chain inside each
/// run of `chain`, and (0 + 1) + (2 + 3) across runs, of which there are a power of two. Rounded to the dtype
/// after every addition: [count * n, ..] -> [n, ..].
struct LeafTree {
    static constexpr std::string_view name = "leaf_tree";
    std::int64_t count = 1, chain = 1;
    using fields = Fields<&LeafTree::count, &LeafTree::chain>;

    Metas infer(Metas const& in) const {
        Meta m = in.at(0);
        check<ShapeError>(count > 0 && chain > 0 && count % chain == 0 && m.shape[0] % count == 0,
                          "leaf_tree: {} leaves in runs of {} do not divide {}", count, chain, to_string(m));
        m.shape[0] /= count;
        return {m};
    }
    Rule rule(Metas const& in) const { return detail::whole_dim_rule(in, 0, infer(in)[0].shape[0]); }
};

/// The same value, whole along one dim on every rank: [.., n, ..] -> [.., n, ..].
struct Whole {
    static constexpr std::string_view name = "whole";
    int dim = 0;
    using fields = Fields<&Whole::dim>;

    Metas infer(Metas const& in) const { return in; }
    Rule rule(Metas const& in) const { return detail::whole_dim_rule(in, dim, in.at(0).shape[dim]); }
    Aliases aliases() const { return {{0, 0, true}}; }
};

/// A shape without memory, for operands that only lend theirs: () -> [shape].
struct Outline {
    static constexpr std::string_view name = "outline";
    DType dtype = DType::f32;
    Shape shape{};
    using fields = Fields<&Outline::dtype, &Outline::shape>;

    Metas infer(Metas const&) const { return {{dtype, shape}}; }
    Rule rule(Metas const&) const {
        Rule r;
        r.outputs.emplace_back();
        for (int d = 0; d < shape.rank(); ++d) {
            r.factors.push_back({std::to_string(d), shape[d], false});
            r.outputs[0].push_back({d});
        }
        return r;
    }
    AnyOp localized(Metas const&, Metas const& out) const { return Outline{out[0].dtype, out[0].shape}; }
};

}  // namespace plait
