#pragma once

#include "plait/graph/collective.hpp"
#include "plait/graph/parts.hpp"
#include "plait/graph/source.hpp"
#include "plait/graph/trace.hpp"
#include "plait/ops/elementwise.hpp"
#include "plait/ops/view.hpp"
#include "plait/parallel/convert.hpp"
#include "plait/parallel/moves.hpp"

#include <algorithm>
#include <map>
#include <tuple>

namespace plait {
namespace detail {

class Localizer {
  public:
    Localizer(Graph const& graph, Layouts const& layouts, Mesh const& mesh)
        : graph_(graph), layouts_(layouts), mesh_(mesh), nesting_(nesting(mesh)) {}

    LocalGraph run() {
        find_readers();
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

    /// Values of which someone wants the sum, not addends; updates by the value that is stored.
    void find_readers() {
        for (auto const& n : graph_.nodes) {
            if (source_of(*n)) continue;
            auto const& axes = layouts_.nodes.at(n.get());
            for (std::size_t i = 0; i < n->inputs.size(); ++i)
                for (auto const& l : axes)
                    if (!l.inputs[i].is_partial()) summed_.insert(n->inputs[i]);
        }
        for (auto const& o : graph_.outputs) summed_.insert(o.value);
        for (auto const& u : graph_.updates) {
            summed_.insert(u.value);
            stores_[u.value] = u.variable;
        }
    }

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
        auto node = record(n->op.localized(in, out), std::move(inputs));
        check(node->outputs == out, "layout: the block of {} in '{}' is {}, not {}", n->op.name(),
              n->origin.path, to_string(node->outputs), to_string(out));
        for (int i = 0; i < static_cast<int>(out.size()); ++i) {
            Value old{n, i}, local{node, i};
            made_[old] = local;
            placed(local, old.meta().shape, layouts_.made.at(old));
            if (summed_.contains(old)) resolve(old);
            // A new value of a variable goes on its way at once.
            if (auto it = stores_.find(old); it != stores_.end())
                finished_[old] = as(old, layouts_.held.at(it->second), {});
        }
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
            auto const& to = at(held, *a);
            x = to.is_shard() ? mover.reduce_scatter(x, axis(*a), to.dim, l.how)
                              : mover.all_reduce(x, axis(*a), l.how);
            l = to.is_shard() ? to : AxisLayout{};
            placed(x, v.meta().shape, layout);
        }
        if (mover.at_once && layouts_.reduced_inside)
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
        if (v.node->inputs.empty() && !source_of(*v.node) && made == whole() && wanted != whole()) {
            // Nothing goes into it, so the block is made in place.
            Meta block{v.meta().dtype, block_of(v.meta().shape, wanted, mesh_).first};
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
        Key key{v.node.get(), v.output, to_string(wanted, mesh_), weight ? reading.path : "",
                stored ? static_cast<int>(reading.phase) : 0, stored && reading.recomputed};
        auto [it, fresh] = known_.try_emplace(key);
        if (fresh) {
            auto const& from = held_.contains(v) ? held_.at(v) : made_.at(v);
            it->second = convert(from, v.meta().shape, held, wanted, weight);
        }
        return it->second;
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

    /// An addend of `v` for an op that takes them: what is whole counts once, on the first rank.
    Value addend(Value const& v, Layout const& wanted) {
        auto const& made = layouts_.made.at(v);
        Value x = made_.at(v);
        for (std::size_t a = 0; a < wanted.size(); ++a) {
            if (!wanted[a].is_partial() || made[a].is_partial()) continue;
            bool first = mesh_.axes()[a].coordinate == 0 || wanted[a].how == Combine::max;
            if (!first) return full(v.meta().shape, 0, v.meta().dtype).value();
        }
        return x;
    }

    /// Gathers what is cut otherwise than wanted, innermost axis first, then takes the parts that are wanted,
    /// outermost first.
    Value convert(Value x, Shape const& logical, Layout layout, Layout const& wanted, bool repeats) {
        Mover mover{mesh_, false, {}};
        for (auto a = nesting_.rbegin(); a != nesting_.rend(); ++a) {
            auto& l = layout[static_cast<std::size_t>(*a)];
            if (!l.is_shard()) continue;
            bool moves = !(l == at(wanted, *a));
            // Blocks inside a block that is gathered must be gathered first.
            for (auto outer = nesting_.begin(); *outer != *a; ++outer) {
                auto const& o = at(layout, *outer);
                moves = moves || (o.is_shard() && o.dim == l.dim && !(o == at(wanted, *outer)) &&
                                  axis(*outer).size > 1);
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
    std::vector<int> nesting_;  // outermost first
    std::unordered_set<Value, ValueHash> summed_;
    ValueMap<Value> stores_;                  // new value -> variable
    ValueMap<Value> made_, held_, finished_;  // old value -> local one: as made, as held, as stored
    std::map<Key, Value> known_;
    std::unordered_map<Node const*, bool> weights_;
    LocalGraph result_;
};

}  // namespace detail

PLAIT_INLINE LocalGraph localize(Graph const& graph, Layouts const& layouts, Mesh const& mesh) {
    return detail::Localizer(graph, layouts, mesh).run();
}

}  // namespace plait
