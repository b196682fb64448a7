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
    bool soon = true;               // a result is awaited where it is made, not where it is first read
    std::vector<Node const*> made;  // what was recorded

    Value keep(Value v) {
        made.push_back(v.node.get());
        return v;
    }
    Value apply(AnyOp op, Value const& x) { return keep({record(std::move(op), {x}), 0}); }
    Value await(Value const& x) { return apply(Await{soon}, x); }

    Value all_reduce(Value const& x, MeshAxis const& axis, Combine how) {
        return axis.size == 1 ? x : await(apply(AllReduce{axis.name, how}, x));
    }

    /// The shape with dim `dim` as [count, size / count].
    static Shape split(Shape const& s, int dim, std::int64_t count) {
        Shape shape = s.leading(dim);
        shape.push_back(count);
        shape.push_back(s[dim] / count);
        for (int d = dim + 1; d < s.rank(); ++d) shape.push_back(s[d]);
        return shape;
    }
    /// The order of dims that brings dim `from` to place `to`.
    static std::vector<int> moving(int rank, int from, int to) {
        std::vector<int> order;
        for (int d = 0; d < rank; ++d)
            if (d != from) order.push_back(d);
        order.insert(order.begin() + to, from);
        return order;
    }

    Value reduce_scatter(Value const& x, MeshAxis const& axis, int dim, Combine how) {
        if (axis.size == 1) return x;
        if (dim == 0) return await(apply(ReduceScatter{axis.name, axis.size, how, false}, x));
        auto const& shape = x.meta().shape;
        auto blocks = apply(Reshape{split(shape, dim, axis.size)}, x);
        auto stack = apply(Transpose{moving(shape.rank() + 1, dim, 0)}, blocks);
        return await(apply(ReduceScatter{axis.name, axis.size, how, true}, stack));
    }

    Value all_gather(Value const& x, MeshAxis const& axis, int dim) {
        if (axis.size == 1) return x;
        auto all = await(apply(AllGather{axis.name, axis.size, axis.coordinate, dim != 0}, x));
        if (dim == 0) return all;
        auto shape = x.meta().shape;
        auto blocks = apply(Transpose{moving(shape.rank() + 1, 0, dim)}, all);
        shape[dim] *= axis.size;
        return apply(Reshape{shape}, blocks);
    }

    Value part(Value const& x, MeshAxis const& axis, int dim) {
        if (axis.size == 1) return x;
        auto length = x.meta().shape[dim] / axis.size;
        return apply(Part{dim, axis.coordinate * length, length}, x);
    }
};

}  // namespace plait::detail
