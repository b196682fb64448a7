#pragma once

#include "plait/autograd/gradients.hpp"
#include "plait/ops/elementwise.hpp"
#include "plait/ops/matmul.hpp"
#include "plait/ops/reduce.hpp"

#include <algorithm>
#include <map>
#include <unordered_set>

namespace plait {
namespace detail {

/// Adds up what a value's readers send back. Like products become one sum of products, so that a layout that
/// splits them resolves one partial sum, not one for each reader. What is another value's cotangent already
/// (`totals`) is not made again inside such a sum.
inline Tensor fan_in(Tensors const& parts, std::unordered_set<Value, ValueHash> const& totals) {
    Tensors others;
    std::map<std::pair<ProductForm, DType>, Tensors> products;
    for (auto const& t : parts) {
        auto const& node = *t.value().node;
        auto const* p = totals.contains(t.value()) ? nullptr : node.op.as<Product>();
        p ? products[{p->form, node.inputs[0].meta().dtype}].push_back(t) : others.push_back(t);
    }
    for (auto const& [kind, like] : products) {
        Tensors operands;
        for (auto const& t : like)
            for (auto const& v : t.value().node->inputs) operands.emplace_back(v);
        others.push_back(
            like.size() == 1
                ? like[0]
                : apply_one(Product{kind.first, static_cast<int>(operands.size() / 2)}, operands));
    }
    Tensor total = others.front();
    for (std::size_t i = 1; i < others.size(); ++i) total = total + others[i];
    return total;
}

/// `backward` through the nodes recorded after number `since` only; values made before that are leaves.
Tensors backward_since(std::int64_t since, Tensors const& y, Tensors const& dy, Tensors const& x);

/// The inputs' cotangents of one node, by its own rule or by differentiating its definition.
inline Tensors node_vjp(Node const& node, Tensors const& x, Tensors const& y, Tensors const& dy) {
    if (node.op.has_vjp()) return node.op.vjp(x, y, dy);
    check<UsageError>(node.op.has_define(), "{} has no gradient{}{}", node.op.name(),
                      node.origin.path.empty() ? "" : ", in ", node.origin.path);
    // One input may have been made from another, which is the business of the nodes between them.
    std::int64_t since = 0;
    for (auto const& t : x) since = std::max(since, t.value().node->sequence);
    return backward_since(since, node.op.define(x), dy, x);
}

}  // namespace detail

PLAIT_INLINE Tensors detail::backward_since(std::int64_t since, Tensors const& y, Tensors const& dy,
                                            Tensors const& x) {
    std::vector<Output> roots;
    for (auto const& t : y)
        if (t) roots.push_back({"", t.value()});
    auto graph = Graph::of(std::move(roots));

    std::unordered_set<Value, ValueHash> wanted;  // values that depend on x
    for (auto const& t : x) wanted.insert(t.value());
    std::unordered_set<Node const*> on_path;
    for (auto const& n : graph.nodes) {
        if (n->sequence <= since) continue;
        bool reads = std::any_of(n->inputs.begin(), n->inputs.end(),
                                 [&](Value const& v) { return wanted.contains(v); });
        if (!reads) continue;
        on_path.insert(n.get());
        for (std::size_t i = 0; i < n->outputs.size(); ++i)
            if (is_floating(n->outputs[i].dtype)) wanted.insert({n, static_cast<int>(i)});
    }

    ValueMap<Tensors> parts;
    for (std::size_t i = 0; i < y.size(); ++i)
        if (y[i] && dy[i]) parts[y[i].value()].push_back(dy[i]);
    ValueMap<Tensor> totals;
    std::unordered_set<Value, ValueHash> known;  // the totals themselves
    ValueMap<std::string> names;
    for (auto const& m : Recorder::current().marks) names[m.value] = m.name;
    auto total = [&](Value const& v) -> Tensor {
        if (auto it = totals.find(v); it != totals.end()) return it->second;
        auto it = parts.find(v);
        if (it == parts.end()) return Tensor();
        Tensor sum = detail::fan_in(it->second, known);
        known.insert(sum.value());
        // What a plan says of a marked value holds for its cotangent.
        if (auto named = names.find(v); named != names.end()) mark(named->second + ".gradient", sum.value());
        return totals[v] = sum;
    };

    for (auto it = graph.nodes.rbegin(); it != graph.nodes.rend(); ++it) {
        auto const& node = *it;
        if (!on_path.contains(node.get())) continue;
        Origin origin = node->origin;
        origin.phase = Phase::backward;
        OriginScope scope(origin);
        Tensors in, out, cotangents;
        bool any = false;
        for (std::size_t i = 0; i < node->outputs.size(); ++i) {
            out.emplace_back(Value{node, static_cast<int>(i)});
            cotangents.push_back(total(out.back().value()));
            any = any || cotangents.back();
        }
        if (!any) continue;
        for (auto const& v : node->inputs) in.emplace_back(v);
        auto back = detail::node_vjp(*node, in, out, cotangents);
        check(back.size() == in.size(), "the gradient of {} gives {} cotangents for {} inputs",
              node->op.name(), back.size(), in.size());
        for (std::size_t i = 0; i < in.size(); ++i) {
            if (!back[i] || !wanted.contains(in[i].value())) continue;
            check<ShapeError>(back[i].shape() == in[i].shape(),
                              "the gradient of {} gives {} for input {} of {}", node->op.name(),
                              to_string(back[i].meta()), i, to_string(in[i].meta()));
            parts[in[i].value()].push_back(back[i]);
        }
    }
    Tensors result;
    for (auto const& t : x) {
        Origin origin = t.value().node->origin;
        origin.phase = Phase::backward;
        OriginScope scope(origin);
        result.push_back(total(t.value()));
    }
    return result;
}

PLAIT_INLINE Tensors backward(Tensors const& y, Tensors const& dy, Tensors const& x) {
    return detail::backward_since(0, y, dy, x);
}

PLAIT_INLINE Tensors gradients(Tensor const& y, Tensors const& x) {
    check<UsageError>(static_cast<bool>(y), "gradients: the loss is an empty tensor");
    for (auto const& t : x)
        check<UsageError>(static_cast<bool>(t), "gradients: a variable is an empty tensor");
    check<ShapeError>(y.rank() == 0, "gradients: the loss is {}, not a scalar: take its mean or sum",
                      to_string(y.meta()));
    check<ShapeError>(is_floating(y.dtype()), "gradients: the loss is {}, not a floating type",
                      to_string(y.meta()));
    Origin origin = y.value().node->origin;
    origin.phase = Phase::backward;
    OriginScope scope(origin);
    return backward({y}, {full_like(y, 1)}, x);
}

PLAIT_INLINE Gradients detail::gradients_of(Tensor const& loss,
                                            std::vector<std::shared_ptr<Variable>> const& parameters) {
    Tensors x;
    for (auto const& p : parameters) x.push_back(read(*p));
    auto dx = gradients(loss, x);
    Gradients g;
    for (std::size_t i = 0; i < x.size(); ++i) {
        // A parameter that the loss does not read still has a gradient: zero.
        g.entries.emplace_back(parameters[i], dx[i] ? dx[i] : full_like(x[i], 0));
        mark(parameters[i]->path + ".gradient", g.entries.back().second.value());
    }
    return g;
}

}  // namespace plait
