#pragma once

#include "plait/graph/collective.hpp"
#include "plait/graph/parts.hpp"
#include "plait/graph/source.hpp"
#include "plait/graph/trace.hpp"
#include "plait/ops/elementwise.hpp"
#include "plait/ops/view.hpp"
#include "plait/parallel/convert.hpp"
#include "plait/parallel/leaves.hpp"
#include "plait/parallel/moves.hpp"

#include <algorithm>
#include <map>
#include <tuple>

namespace plait {
namespace detail {

class Localizer {
  public:
    Localizer(Graph const& graph, Layouts const& layouts, Mesh const& mesh,
              std::optional<std::int64_t> tensor_leaves)
        : graph_(graph),
          layouts_(layouts),
          mesh_(mesh),
          nesting_(nesting(mesh)),
          tensor_leaves_(tensor_leaves) {}

    LocalGraph run() {
        for (auto const& u : graph_.updates) stores_[u.value] = u.variable;
        for (auto const& n : graph_.nodes) source_of(*n) ? build_source(n) : build_node(n);
        Outputs outputs = graph_.outputs;
        for (auto& o : outputs) o.value = as(o.value, whole(), {});
        auto updates = graph_.updates;
        for (auto& u : updates) {
            u.value = finished_.at(u.value);
            u.variable = made_.at(u.variable);
        }
        result_.graph = Graph::of(std::move(outputs), std::move(updates));
        return std::move(result_);
    }

  private:
    using Outputs = std::vector<Output>;
    struct Reading {
        std::string path;  // of the module that reads
        Phase phase = Phase::forward;
        bool recomputed = false;
    };
    using Key = std::tuple<Node const*, int, std::string, std::string, int, bool>;

    Layout whole() const { return Layout(mesh_.axes().size()); }
    MeshAxis const& axis(int a) const { return mesh_.axes()[static_cast<std::size_t>(a)]; }
    static AxisLayout const& at(Layout const& l, int a) { return l[static_cast<std::size_t>(a)]; }

    void placed(Value const& local, Shape const& logical, Layout const& layout) {
        if (auto [shape, place] = block_of(logical, layout, mesh_); !place.logical.empty())
            result_.place[local] = place;
    }

    void build_source(std::shared_ptr<Node const> const& n) {
        auto s = *source_of(*n);
        auto const& layout = layouts_.held.at({n, 0});
        auto shape = block_of(s.meta.shape, layout, mesh_).first;
        if (shape == s.meta.shape) {
            made_[{n, 0}] = {n, 0};
            return;
        }
        auto logical = s.meta.shape;
        s.meta.shape = shape;
        OriginScope origin(n->origin);
        Value local{record(std::move(s), {}), 0};
        placed(local, logical, layout);
        made_[{n, 0}] = local;
    }

    void build_node(std::shared_ptr<Node const> const& n) {
        OriginScope origin(n->origin);
        auto const& axes = layouts_.nodes.at(n.get());
        Metas in, out = n->outputs;
        std::vector<Value> inputs;
        auto like = n->op.rule(metas_of(n->inputs)).like;
        for (std::size_t i = 0; i < n->inputs.size(); ++i) {
            Layout wanted;
            for (auto const& l : axes) wanted.push_back(l.inputs[i]);
            inputs.push_back(
                i < like.size() && like[i]
                    ? outline(n->inputs[i], wanted)
                    : as(n->inputs[i], wanted, {n->origin.path, n->origin.phase, n->origin.recomputed}));
            in.push_back(inputs.back().meta());
        }
        for (std::size_t i = 0; i < out.size(); ++i)
            out[i].shape = block_of(out[i].shape, layouts_.made.at({n, static_cast<int>(i)}), mesh_).first;
        auto locals = run(*n, inputs, in, out);
        for (int i = 0; i < static_cast<int>(out.size()); ++i) {
            Value old{n, i}, local = locals[static_cast<std::size_t>(i)];
            check(local.meta() == out[static_cast<std::size_t>(i)],
                  "layout: the block of {} in '{}' is {}, not {}", n->op.name(), n->origin.path,
                  to_string(local.meta()), to_string(out[static_cast<std::size_t>(i)]));
            made_[old] = local;
            placed(local, old.meta().shape, layouts_.made.at(old));
            resolve(old);  // where nobody wants the sum, it goes with the rest that nobody reads
            // A new value of a variable goes on its way at once.
            if (auto it = stores_.find(old); it != stores_.end())
                finished_[old] = stored(as(old, layouts_.held.at(it->second), {}));
        }
    }

    /// The node on its blocks, in leaves of the tensor axis where its bits want it.
    std::vector<Value> run(Node const& n, std::vector<Value> const& inputs, Metas const& in,
                           Metas const& out) {
        auto const& tensor = mesh_.axis("tensor");
        auto const& cut = layouts_.nodes.at(&n)[static_cast<std::size_t>(&tensor - mesh_.axes().data())];
        auto leaves = tensor_leaves_.value_or(1) / tensor.size;
        if (leaves <= 1 || !needs_leaves(n, cut)) return values_of(record(n.op.localized(in, out), inputs));
        check_leaves(n, cut, inputs, leaves);
        LeafHost host;
        host.part = [&](Value const& v, int dim, std::int64_t i, std::int64_t pieces) {
            return leaf(v, dim, i, pieces);
        };
        host.made = [&](Value const& v, int output, int dim, std::int64_t i) {
            auto const& whole_shape = n.outputs[static_cast<std::size_t>(output)].shape;
            Layout layout;
            for (auto const& l : layouts_.nodes.at(&n))
                layout.push_back(l.outputs[static_cast<std::size_t>(output)]);
            auto place = place_in(whole_shape, layout);
            if (dim >= 0) place.origin[dim] += i * v.meta().shape[dim];
            result_.place[v] = place;
        };
        auto made = run_in_leaves(n.op, inputs, out, cut, {leaves, 1}, host);
        std::vector<Value> values;
        for (auto const& m : made) values.push_back(m.front());
        return values;
    }

    void check_leaves(Node const& n, NodeLayout const& cut, std::vector<Value> const& inputs,
                      std::int64_t leaves) const {
        for (std::size_t i = 0; i < inputs.size(); ++i)
            check<UsageError>(
                !cut.inputs[i].is_shard() || inputs[i].meta().shape[cut.inputs[i].dim] % leaves == 0,
                "layout: {} in {}: a granularity of tensor = {} does not divide dim {} of {}: use a "
                "smaller one",
                n.op.name(), n.origin.path, *tensor_leaves_, cut.inputs[i].dim,
                to_string(n.inputs[i].meta()));
    }

    /// Where a block lies, also if it is the whole.
    Placement place_in(Shape const& logical, Layout const& layout) const {
        auto place = block_of(logical, layout, mesh_).second;
        if (!place.logical.empty()) return place;
        place.logical = logical;
        for (int d = 0; d < logical.rank(); ++d) place.origin.push_back(0);
        return place;
    }

    Value leaf(Value const& v, int dim, std::int64_t i, std::int64_t n) {
        auto [it, fresh] = leaves_.try_emplace({v.node.get(), v.output, dim, i, n});
        if (!fresh) return it->second;
        auto length = v.meta().shape[dim] / n;
        Value made{record(Part{dim, i * length, length}, {v}), 0};
        auto place = place_in(v.meta().shape, whole());
        if (auto known = result_.place.find(v); known != result_.place.end()) place = known->second;
        place.origin[dim] += i * length;
        result_.place[made] = place;
        return it->second = made;
    }

    /// What a variable's place can hold: a kernel's or a collective's result, not a part of one.
    static Value stored(Value const& v) {
        return v.node->op.as<Part>() ? Value{record(Cast{v.meta().dtype}, {v}), 0} : v;
    }

    /// An operand that lends its shape: the value where it lies as wanted, else a shape without memory.
    Value outline(Value const& v, Layout const& wanted) {
        auto shape = block_of(v.meta().shape, wanted, mesh_).first;
        auto const& made = made_.at(v);
        if (made.meta().shape == shape && layouts_.made.at(v) == wanted) return made;
        Value local{record(Outline{v.meta().dtype, shape}, {}), 0};
        placed(local, v.meta().shape, wanted);
        return local;
    }

    /// From how the node left it to how readers find it.
    void resolve(Value const& v) {
        auto layout = layouts_.made.at(v);
        auto const& held = layouts_.held.at(v);
        Value x = made_.at(v);
        Mover mover{mesh_, layouts_.reduced_at_once.contains(v), {}};
        for (auto a = nesting_.rbegin(); a != nesting_.rend(); ++a) {
            auto& l = layout[static_cast<std::size_t>(*a)];
            if (!l.is_partial()) continue;
            auto to = at(held, *a);
            // A block of a block can be had only where the outer one is there.
            for (auto outer = nesting_.begin(); *outer != *a; ++outer) {
                auto const& o = at(held, *outer);
                if (at(layout, *outer).is_partial() && axis(*outer).size > 1 && o.is_shard() &&
                    to.is_shard() && o.dim == to.dim)
                    to = AxisLayout{};
            }
            x = to.is_shard() ? mover.reduce_scatter(x, axis(*a), to.dim, l.how)
                              : mover.all_reduce(x, axis(*a), l.how);
            l = to;
            placed(x, v.meta().shape, layout);
        }
        if (mover.soon && layouts_.reduced_inside)
            for (auto const* n : mover.made) result_.inside.insert(n);
        held_[v] = convert(x, v.meta().shape, layout, held, false);
    }

    /// The value laid out as `wanted`.
    Value as(Value const& v, Layout const& wanted, Reading const& reading) {
        auto const& made = layouts_.made.at(v);
        bool addends = false, stored = false;
        for (std::size_t a = 0; a < wanted.size(); ++a) addends = addends || wanted[a].is_partial();
        if (addends) return addend(v, wanted);
        auto const& held = layouts_.held.at(v);
        for (std::size_t a = 0; a < wanted.size(); ++a)
            stored = stored || (held[a].stored && held[a] != wanted[a]);
        Meta block{v.meta().dtype, block_of(v.meta().shape, wanted, mesh_).first};
        if (v.node->inputs.empty() && !source_of(*v.node) && made == whole() && wanted != whole() &&
            v.node->op.localized({}, {block}).infer({}) == Metas{block}) {
            // Nothing goes into it, so the block is made in place.
            auto [it, fresh] =
                known_.try_emplace({v.node.get(), v.output, to_string(wanted, mesh_), "", 0, false});
            if (fresh) {
                it->second = {record(v.node->op.localized({}, {block}), {}), 0};
                placed(it->second, v.meta().shape, wanted);
            }
            return it->second;
        }
        // A weight is gathered for one module of a pass, an activation for all its readers in a pass.
        bool weight = stored && is_weight(v);
        Key key{v.node.get(),
                v.output,
                to_string(wanted, mesh_),
                weight ? reading.path : "",
                stored ? static_cast<int>(reading.phase) : 0,
                stored && reading.recomputed};
        auto [it, fresh] = known_.try_emplace(key);
        if (fresh && stored && widens(v, held)) {
            it->second = {record(v.node->op, {as(v.node->inputs[0], wanted, reading)}), 0};
            if (weight) result_.repeated.insert(it->second.node.get());
            placed(it->second, v.meta().shape, wanted);
        } else if (fresh) {
            auto const& from = held_.contains(v) ? held_.at(v) : made_.at(v);
            it->second = convert(from, v.meta().shape, held, wanted, weight);
        }
        return it->second;
    }

    /// Whether a value is the wider copy of one that lies as it does: that one goes over the wire.
    bool widens(Value const& v, Layout const& held) const {
        if (!v.node->op.as<Cast>()) return false;
        auto const& narrow = v.node->inputs[0];
        return !source_of(*narrow.node) && row_of(narrow.meta().dtype).bits < row_of(v.meta().dtype).bits &&
               layouts_.made.at(v) == held && layouts_.held.at(narrow) == held;
    }

    /// Whether a value is made from variables alone.
    bool is_weight(Value const& v) {
        auto [it, fresh] = weights_.try_emplace(v.node.get(), false);
        if (!fresh) return it->second;
        auto const* s = source_of(*v.node);
        bool weight = s ? s->kind == SourceKind::variable
                        : std::all_of(v.node->inputs.begin(), v.node->inputs.end(),
                                      [&](Value const& i) { return is_weight(i); });
        return weights_[v.node.get()] = weight;
    }

    /// An addend of `v` for an op that takes them: what is whole counts once, on the first rank. Axes along
    /// which addends are not wanted are summed up, and laid out as wanted.
    Value addend(Value const& v, Layout const& wanted) {
        auto layout = layouts_.made.at(v);
        for (std::size_t a = 0; a < wanted.size(); ++a) {
            if (!wanted[a].is_partial() || layout[a].is_partial()) continue;
            bool first = mesh_.axes()[a].coordinate == 0 || wanted[a].how == Combine::max;
            if (!first) return full(block_of(v.meta().shape, wanted, mesh_).first, 0, v.meta().dtype).value();
        }
        Value x = made_.at(v);
        Mover mover{mesh_, false, {}};
        for (auto a = nesting_.rbegin(); a != nesting_.rend(); ++a) {
            auto& l = layout[static_cast<std::size_t>(*a)];
            if (!l.is_partial() || at(wanted, *a).is_partial()) continue;
            x = mover.all_reduce(x, axis(*a), l.how);
            l = AxisLayout{};
        }
        return convert(x, v.meta().shape, layout, wanted, false);
    }

    /// Gathers what is cut otherwise than wanted, innermost axis first, then takes the parts that are wanted,
    /// outermost first.
    Value convert(Value x, Shape const& logical, Layout layout, Layout const& wanted, bool repeats) {
        Mover mover{mesh_, false, {}};
        for (auto a = nesting_.rbegin(); a != nesting_.rend(); ++a) {
            auto& l = layout[static_cast<std::size_t>(*a)];
            if (!l.is_shard()) continue;
            bool moves = !(l == at(wanted, *a));
            // Blocks inside a block that comes or goes are others.
            for (auto outer = nesting_.begin(); *outer != *a; ++outer) {
                auto cuts = [&](AxisLayout const& o) { return o.is_shard() && o.dim == l.dim; };
                moves =
                    moves || (axis(*outer).size > 1 && cuts(at(layout, *outer)) != cuts(at(wanted, *outer)));
            }
            if (!moves) continue;
            x = mover.all_gather(x, axis(*a), l.dim);
            l = AxisLayout{};
            placed(x, logical, layout);
        }
        if (repeats)
            for (auto const* n : mover.made) result_.repeated.insert(n);
        for (int a : nesting_) {
            auto const& to = at(wanted, a);
            auto& l = layout[static_cast<std::size_t>(a)];
            if (!to.is_shard() || l.is_shard()) continue;
            x = mover.part(x, axis(a), to.dim);
            l = to;
            placed(x, logical, layout);
        }
        return x;
    }

    Graph const& graph_;
    Layouts const& layouts_;
    Mesh const& mesh_;
    std::vector<int> nesting_;                // outermost first
    ValueMap<Value> stores_;                  // new value -> variable
    ValueMap<Value> made_, held_, finished_;  // old value -> local one: as made, as held, as stored
    std::map<Key, Value> known_;
    std::unordered_map<Node const*, bool> weights_;
    std::optional<std::int64_t> tensor_leaves_;
    std::map<std::tuple<Node const*, int, int, std::int64_t, std::int64_t>, Value> leaves_;
    LocalGraph result_;
};

}  // namespace detail

PLAIT_INLINE LocalGraph localize(Graph const& graph, Layouts const& layouts, Mesh const& mesh,
                                 std::optional<std::int64_t> tensor_leaves) {
    return detail::Localizer(graph, layouts, mesh, tensor_leaves).run();
}

}  // namespace plait
