#pragma once

#include "plait/core/combine.hpp"
#include "plait/graph/op.hpp"
#include "plait/graph/parts.hpp"

#include <string>

namespace plait {

/// What ranks along a mesh axis do together, put into a rank's graph by the layout pass
/// (parallel/convert.hpp) and called by the executor. Blocks lie one after another: along dim 0, or,
/// `stacked`, along a new first dim, which leaves the others to be cut. A result may be read only through its
/// `Await`.

/// The combination of all ranks' values, on every rank: [...] -> [...].
struct AllReduce {
    static constexpr std::string_view name = "all_reduce";
    std::string axis;
    Combine how = Combine::sum;
    using fields = Fields<&AllReduce::axis, &AllReduce::how>;

    Metas infer(Metas const& in) const { return in; }
    Rule rule(Metas const& in) const { return parse_rule(name, "... -> ...", in); }
    Aliases aliases() const { return {{0, 0}}; }
};

namespace detail {

inline Metas with_first(Metas const& in, std::int64_t size) {
    Meta m = in.at(0);
    m.shape[0] = size;
    return {m};
}

/// [...] and [count, ...]: the dims after the first are shared.
inline Rule stacked_rule(Metas const& in, std::int64_t count, bool gathers) {
    Rule r;
    r.like = {false};
    Rule::Operand block, all{{0}};
    r.factors.push_back({"count", count, true});
    int skipped = gathers ? 0 : 1;
    for (int d = skipped; d < in.at(0).shape.rank(); ++d) {
        int f = static_cast<int>(r.factors.size());
        r.factors.push_back({std::to_string(d), in[0].shape[d], false});
        block.push_back({f}), all.push_back({f});
    }
    r.inputs = {gathers ? block : all};
    r.outputs = {gathers ? all : block};
    return r;
}

}  // namespace detail

/// Each rank's block of the combination: [count * n, ...] -> [n, ...], stacked [count, ...] -> [...].
struct ReduceScatter {
    static constexpr std::string_view name = "reduce_scatter";
    std::string axis;
    std::int64_t count = 1;  // ranks
    Combine how = Combine::sum;
    bool stacked = false;
    using fields =
        Fields<&ReduceScatter::axis, &ReduceScatter::count, &ReduceScatter::how, &ReduceScatter::stacked>;

    Metas infer(Metas const& in) const {
        auto const& x = in.at(0);
        if (stacked) return {{x.dtype, x.shape.dims(1, x.shape.rank())}};
        check<ShapeError>(x.shape[0] % count == 0, "reduce_scatter: {} ranks do not divide dim 0 of {}",
                          count, to_string(x));
        return detail::with_first(in, x.shape[0] / count);
    }
    Rule rule(Metas const& in) const {
        return stacked ? detail::stacked_rule(in, count, false)
                       : detail::whole_dim_rule(in, 0, in.at(0).shape[0] / count);
    }
};

/// All ranks' blocks in their order: [n, ...] -> [count * n, ...], stacked [...] -> [count, ...].
struct AllGather {
    static constexpr std::string_view name = "all_gather";
    std::string axis;
    std::int64_t count = 1;       // ranks
    std::int64_t coordinate = 0;  // of this rank: where its block goes
    bool stacked = false;
    using fields = Fields<&AllGather::axis, &AllGather::count, &AllGather::coordinate, &AllGather::stacked>;

    Metas infer(Metas const& in) const {
        auto const& x = in.at(0);
        if (!stacked) return detail::with_first(in, x.shape[0] * count);
        Meta all{x.dtype, {count}};
        for (auto size : x.shape) all.shape.push_back(size);
        return {all};
    }
    Rule rule(Metas const& in) const {
        return stacked ? detail::stacked_rule(in, count, true)
                       : detail::whole_dim_rule(in, 0, in.at(0).shape[0] * count);
    }
};

/// What goes from one rank of a pipeline to another, put into a rank's graph by the stage pass
/// (parallel/pipeline.hpp). `edge` is the message's number on both ranks.

/// [...] -> u8[0], which is there once the value has arrived.
struct Send {
    static constexpr std::string_view name = "send";
    int to = 0, edge = 0;
    using fields = Fields<&Send::to, &Send::edge>;

    Metas infer(Metas const&) const { return {{DType::u8, {0}}}; }
    Rule rule(Metas const&) const { return {}; }
};

/// () -> [...], to be read through its `Await`.
struct Receive {
    static constexpr std::string_view name = "receive";
    int from = 0, edge = 0;
    DType dtype = DType::f32;
    Shape shape{};
    using fields = Fields<&Receive::from, &Receive::edge, &Receive::dtype, &Receive::shape>;

    Metas infer(Metas const&) const { return {{dtype, shape}}; }
    Rule rule(Metas const&) const { return {}; }
};

/// A collective's result once it is there: until then what it reads and writes is in use.
struct Await {
    static constexpr std::string_view name = "await";
    bool soon = true;  // soon, as it frees what was reduced; else where the first reader wants it
    using fields = Fields<&Await::soon>;

    Metas infer(Metas const& in) const { return in; }
    Rule rule(Metas const& in) const { return parse_rule(name, "... -> ...", in); }
    Aliases aliases() const { return {{0, 0, true}}; }
};

inline bool is_collective(AnyOp const& op) {
    return op.as<AllReduce>() || op.as<ReduceScatter>() || op.as<AllGather>();
}

}  // namespace plait
