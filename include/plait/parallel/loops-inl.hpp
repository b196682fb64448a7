#pragma once

#include "plait/graph/micro.hpp"
#include "plait/graph/source.hpp"
#include "plait/graph/trace.hpp"
#include "plait/parallel/layout.hpp"
#include "plait/parallel/loops.hpp"
#include "plait/tensor.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

namespace plait {
namespace detail {

struct LoopCutter {
    LoopCutter(Graph const& g, std::int64_t n) : graph(g), count(n) {}

    Graph const& graph;
    std::int64_t count;

    ValueMap<AxisLayout> layout;  // of every value as its node leaves it
    std::unordered_map<Node const*, NodeLayout> nodes;
    std::unordered_map<Node const*, int> section;
    std::set<std::pair<Node const*, int>> stacked;  // blocks that are read whole, or by a later loop
    int last = 0;

    Sections result;
    ValueMap<Value> blocks, wholes;                                 // old value -> new value
    std::map<std::tuple<Node const*, int, int, int>, Value> taken;  // (value, dim, section) -> block

    bool in_loop(Node const* n) const { return nodes.at(n).factor >= 0; }
    AxisLayout const& laid(Value const& v) const { return layout.at(v); }

    void lay_out() {
        for (auto const& n : graph.nodes) {
            if (auto const* s = source_of(*n)) {
                bool cut = s->kind == SourceKind::batch;
                check<UsageError>(!cut || (s->meta.shape.rank() > 0 && s->meta.shape[0] % count == 0),
                                  "plan: {} micro-batches do not divide the batch of {} ({}): use a divisor",
                                  count, s->label, to_string(s->meta));
                // The source itself holds the whole batch; readers take their block.
                layout[{n, 0}] = cut ? AxisLayout::shard(0) : AxisLayout{};
                continue;
            }
            std::vector<AxisLayout> in;
            // Updates run once, on whole values.
            bool once = n->origin.phase == Phase::update;
            for (auto const& v : n->inputs)
                in.push_back(once || laid(v).is_partial() ? AxisLayout{} : laid(v));
            auto& chosen = nodes[n.get()] = choose(*n, in, count);
            for (std::size_t i = 0; i < n->outputs.size(); ++i)
                layout[{n, static_cast<int>(i)}] = chosen.outputs[i];
        }
    }

    /// Whether reader `r` uses value `v` as the block that its producer's iteration leaves.
    bool as_block(Value const& v, AxisLayout const& wanted) const {
        return wanted.is_shard() && laid(v) == wanted && !source_of(*v.node);
    }

    /// Sections between a value's producer and its reader, at least.
    int distance(Value const& v, Node const* reader, AxisLayout const& wanted) const {
        bool loop = in_loop(reader);
        if (!in_loop(v.node.get())) return loop ? 1 : 0;
        if (as_block(v, wanted)) return 0;
        return loop ? 2 : 1;
    }

    template <class F>
    void each_input(Node const& n, F&& f) const {
        auto const& wanted = nodes.at(&n).inputs;
        for (std::size_t i = 0; i < n.inputs.size(); ++i) f(n.inputs[i], wanted[i]);
    }

    void place() {
        int deepest = 0;
        for (auto const& n : graph.nodes) {
            if (source_of(*n)) continue;
            int at = in_loop(n.get()) ? 1 : 0;
            each_input(*n, [&](Value const& v, AxisLayout const& wanted) {
                if (!source_of(*v.node))
                    at = std::max(at, section.at(v.node.get()) + distance(v, n.get(), wanted));
            });
            section[n.get()] = at;
            deepest = std::max(deepest, at);
        }
        last = (deepest + 1) / 2 * 2;
        // As late as the readers allow; what nobody reads (outputs, updates) goes to the end.
        std::unordered_map<Node const*, int> latest;
        for (auto it = graph.nodes.rbegin(); it != graph.nodes.rend(); ++it) {
            Node const* n = it->get();
            if (source_of(*n)) continue;
            auto known = latest.find(n);
            section[n] = known == latest.end() ? (in_loop(n) ? std::max(last - 1, 1) : last) : known->second;
            each_input(*n, [&](Value const& v, AxisLayout const& wanted) {
                if (source_of(*v.node)) return;
                int bound = section[n] - distance(v, n, wanted);
                auto [entry, fresh] = latest.emplace(v.node.get(), bound);
                if (!fresh) entry->second = std::min(entry->second, bound);
            });
        }
        for (auto const& n : graph.nodes)
            if (!source_of(*n))
                each_input(*n, [&](Value const& v, AxisLayout const& wanted) {
                    if (source_of(*v.node) || !in_loop(v.node.get()) || !laid(v).is_shard()) return;
                    if (!as_block(v, wanted) || section[v.node.get()] != section[n.get()])
                        stacked.insert({v.node.get(), v.output});
                });
        for (auto const& o : graph.outputs)
            if (laid(o.value).is_shard()) stacked.insert({o.value.node.get(), o.value.output});
    }

    Value whole(Value const& v) const {
        if (source_of(*v.node)) return v;
        return wholes.at(v);
    }

    Value take(Value const& v, int dim, int at) {
        auto [it, fresh] = taken.try_emplace({v.node.get(), v.output, dim, at});
        if (!fresh) return it->second;
        std::shared_ptr<Node const> node;
        if (v.node->inputs.empty() && !source_of(*v.node)) {
            // Nothing goes into it, so the block is made in place.
            Meta local = v.meta();
            local.shape[dim] /= count;
            node = record(v.node->op.localized({}, {local}), {});
        } else {
            node = record(MicroTake{dim, count}, {whole(v)});
        }
        result.section[node.get()] = at;
        it->second = {node, 0};
        result.micro_dim[it->second] = dim;
        return it->second;
    }

    void build(std::shared_ptr<Node const> const& n) {
        OriginScope origin(n->origin);
        int at = section.at(n.get());
        auto const& chosen = nodes.at(n.get());
        std::vector<Value> inputs;
        Metas in, out = n->outputs;
        each_input(*n, [&](Value const& v, AxisLayout const& wanted) {
            bool here = !source_of(*v.node) && section.at(v.node.get()) == at;
            if (!wanted.is_shard()) inputs.push_back(whole(v));
            else inputs.push_back(as_block(v, wanted) && here ? blocks.at(v) : take(v, wanted.dim, at));
            in.push_back(inputs.back().meta());
        });
        for (std::size_t i = 0; i < out.size(); ++i)
            if (chosen.outputs[i].is_shard()) out[i].shape[chosen.outputs[i].dim] /= count;
        auto node = record(in_loop(n.get()) ? n->op.localized(in, out) : n->op, std::move(inputs));
        check(node->outputs == out, "the block of {} is {}, not {}", n->op.name(), to_string(node->outputs),
              to_string(out));
        result.section[node.get()] = at;
        for (int i = 0; i < static_cast<int>(out.size()); ++i) {
            Value old{n, i}, made{node, i};
            auto const& l = chosen.outputs[static_cast<std::size_t>(i)];
            if (!l.is_shard() && !l.is_partial()) {
                wholes[old] = made;
                continue;
            }
            if (l.is_shard()) {
                blocks[old] = made;
                result.micro_dim[made] = l.dim;
                if (!stacked.contains({n.get(), i})) continue;
            }
            auto outer = l.is_shard() ? record(MicroStack{l.dim, count}, {made}) : record(MicroSum{}, {made});
            result.section[outer.get()] = at;
            wholes[old] = {outer, 0};
        }
    }

    Sections cut() {
        lay_out();
        place();
        auto order = graph.nodes;
        std::erase_if(order, [](auto const& n) { return source_of(*n) != nullptr; });
        std::stable_sort(order.begin(), order.end(), [&](auto const& a, auto const& b) {
            return section.at(a.get()) < section.at(b.get());
        });
        for (auto const& n : order) build(n);
        auto outputs = graph.outputs;
        for (auto& o : outputs) o.value = whole(o.value);
        auto updates = graph.updates;
        for (auto& u : updates) u.value = whole(u.value);
        result.graph = Graph::of(std::move(outputs), std::move(updates));
        result.micro_batches = count;
        result.count = last + 1;
        return std::move(result);
    }
};

}  // namespace detail

PLAIT_INLINE Sections cut_loops(Graph const& graph, std::int64_t count) {
    if (count == 1) {
        Sections s{graph, 1, {}, {}, 1};
        for (auto const& n : graph.nodes)
            if (!source_of(*n)) s.section[n.get()] = 0;
        return s;
    }
    return detail::LoopCutter(graph, count).cut();
}

}  // namespace plait
