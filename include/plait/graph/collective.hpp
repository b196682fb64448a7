#pragma once

#include "plait/core/combine.hpp"
#include "plait/graph/op.hpp"
#include "plait/graph/parts.hpp"

#include <string>

namespace plait {

/// What ranks along a mesh axis do together, put into a rank's graph by the layout pass
/// (parallel/convert.hpp) and called by the executor. All work along dim 0; a result may be read only through
/// its `Await`.

namespace detail {

inline Metas with_first(Metas const& in, std::int64_t size) {
    Meta m = in.at(0);
    m.shape[0] = size;
    return {m};
}

}  // namespace detail

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

/// Each rank's block of the combination: [count * n, ...] -> [n, ...].
struct ReduceScatter {
    static constexpr std::string_view name = "reduce_scatter";
    std::string axis;
    std::int64_t count = 1;  // ranks
    Combine how = Combine::sum;
    using fields = Fields<&ReduceScatter::axis, &ReduceScatter::count, &ReduceScatter::how>;

    Metas infer(Metas const& in) const { return detail::with_first(in, in.at(0).shape[0] / count); }
    Rule rule(Metas const& in) const { return detail::whole_dim_rule(in, 0, in.at(0).shape[0] / count); }
};

/// All ranks' blocks in their order: [n, ...] -> [count * n, ...].
struct AllGather {
    static constexpr std::string_view name = "all_gather";
    std::string axis;
    std::int64_t count = 1;       // ranks
    std::int64_t coordinate = 0;  // of this rank: where its block goes
    using fields = Fields<&AllGather::axis, &AllGather::count, &AllGather::coordinate>;

    Metas infer(Metas const& in) const { return detail::with_first(in, in.at(0).shape[0] * count); }
    Rule rule(Metas const& in) const { return detail::whole_dim_rule(in, 0, in.at(0).shape[0] * count); }
};

/// A collective's result once it is there: until then what it reads and writes is in use.
struct Await {
    static constexpr std::string_view name = "await";
    bool at_once = true;  // else where the first reader wants it
    using fields = Fields<&Await::at_once>;

    Metas infer(Metas const& in) const { return in; }
    Rule rule(Metas const& in) const { return parse_rule(name, "... -> ...", in); }
    Aliases aliases() const { return {{0, 0, true}}; }
};

inline bool is_collective(AnyOp const& op) {
    return op.as<AllReduce>() || op.as<ReduceScatter>() || op.as<AllGather>();
}

}  // namespace plait
