#pragma once

#include "plait/graph/collective.hpp"
#include "plait/graph/parts.hpp"
#include "plait/ops/view.hpp"
#include "plait/parallel/mesh.hpp"

#include <vector>

namespace plait::detail {

/// Records what brings a value from one layout to another along one axis. Collectives work along dim 0; for
/// another dim the blocks are brought there and back.
struct Mover {
    Mesh const& mesh;
    bool at_once = true;            // a result is awaited where it is made, not where it is first read
    std::vector<Node const*> made;  // what was recorded

    Value keep(Value v) {
        made.push_back(v.node.get());
        return v;
    }
    Value apply(AnyOp op, Value const& x) { return keep({record(std::move(op), {x}), 0}); }
    Value await(Value const& x) { return apply(Await{at_once}, x); }

    Value all_reduce(Value const& x, MeshAxis const& axis, Combine how) {
        return axis.size == 1 ? x : await(apply(AllReduce{axis.name, how}, x));
    }

    /// Sizes before, along and after `dim`.
    struct Around {
        std::int64_t before = 1, along = 1, after = 1;
    };
    static Around around(Shape const& s, int dim) {
        return {s.leading(dim).elements(), s[dim], s.dims(dim + 1, s.rank()).elements()};
    }

    Value reduce_scatter(Value const& x, MeshAxis const& axis, int dim, Combine how) {
        if (axis.size == 1) return x;
        ReduceScatter op{axis.name, axis.size, how};
        if (dim == 0) return await(apply(op, x));
        auto [before, along, after] = around(x.meta().shape, dim);
        auto shape = x.meta().shape;
        shape[dim] /= axis.size;
        auto blocks = apply(Reshape{{before, axis.size, along / axis.size * after}}, x);
        auto own = await(apply(op, apply(Transpose{{1, 0, 2}}, blocks)));
        return apply(Reshape{shape}, own);
    }

    Value all_gather(Value const& x, MeshAxis const& axis, int dim) {
        if (axis.size == 1) return x;
        auto all = await(apply(AllGather{axis.name, axis.size, axis.coordinate}, x));
        if (dim == 0) return all;
        auto [before, along, after] = around(x.meta().shape, dim);
        auto shape = x.meta().shape;
        shape[dim] *= axis.size;
        auto blocks = apply(Reshape{{axis.size, before, along * after}}, all);
        return apply(Reshape{shape}, apply(Transpose{{1, 0, 2}}, blocks));
    }

    Value part(Value const& x, MeshAxis const& axis, int dim) {
        if (axis.size == 1) return x;
        auto length = x.meta().shape[dim] / axis.size;
        return apply(Part{dim, axis.coordinate * length, length}, x);
    }
};

}  // namespace plait::detail
