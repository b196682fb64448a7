#pragma once

#include "plait/graph/micro.hpp"
#include "plait/graph/parts.hpp"
#include "plait/graph/source.hpp"
#include "plait/graph/trace.hpp"
#include "plait/parallel/layout.hpp"
#include "plait/parallel/loops.hpp"
#include "plait/tensor.hpp"

#include <algorithm>
#include <bit>
#include <map>
#include <set>
#include <tuple>

namespace plait {
namespace detail {

struct LoopCutter {
    LoopCutter(LocalGraph const& l, std::int64_t n, std::optional<Leaves> cut_into, bool of_pipeline)
        : local(l),
          graph(l.graph),
          count(n),
          loops(n > 1 || of_pipeline),
          pipeline(of_pipeline),
          leaves(cut_into) {}

    LocalGraph const& local;
    Graph const& graph;
    std::int64_t count;
    bool loops;  // else everything runs once, in the recorded order
    bool pipeline;
    std::optional<Leaves> leaves;

    ValueMap<AxisLayout> layout;  // of every value as its node leaves it
    std::unordered_map<Node const*, NodeLayout> nodes;
    std::unordered_map<Node const*, int> section;
    std::unordered_set<Node const*> apart;          // see find_apart
    std::set<std::pair<Node const*, int>> stacked;  // blocks that are read whole, or by a later loop
    int last = 0;

    Sections result;
    ValueMap<Value> blocks, wholes;                                 // old value -> new value
    std::map<std::tuple<Node const*, int, int, int>, Value> taken;  // (value, dim, section) -> block
    std::map<std::pair<Node const*, int>, std::shared_ptr<Node const>> repeats;  // by section
    std::map<std::tuple<Node const*, int, int, std::int64_t>, Value> parts;      // (value, dim, leaf)

    bool in_loop(Node const* n) const {
        auto const& l = nodes.at(n);
        return l.factor >= 0 || (!l.inputs.empty() && l.inputs[0].is_partial());
    }
    /// Made again wherever it is read.
    bool repeated(Node const* n) const { return local.repeated.contains(n) && !in_loop(n); }
    AxisLayout const& laid(Value const& v) const { return layout.at(v); }

    /// Works on what one micro-batch adds to a sum: a reduction inside the loop, or an op that adds up
    /// anyway.
    bool takes_addends(Node const& n) const {
        bool sums = !n.inputs.empty() && std::all_of(n.inputs.begin(), n.inputs.end(), [&](Value const& v) {
            return laid(v) == AxisLayout::partial();
        });
        if (!sums || n.origin.phase == Phase::update) return false;
        if (local.inside.contains(&n)) return true;
        // Along a pipeline an addend would cross with every micro-batch, their sum does once.
        return !leaves && !pipeline && !apart.contains(&n) && n.op.rule(metas_of(n.inputs)).passes;
    }

    /// Nodes that would add up what different loops leave: they take the sums instead.
    bool find_apart() {
        auto known = apart.size();
        for (auto const& n : graph.nodes) {
            if (!placed(*n) || local.inside.contains(n.get()) || !takes_addends(*n)) continue;
            for (auto const& v : n->inputs)
                if (section.at(v.node.get()) != section.at(n.get())) apart.insert(n.get());
        }
        return apart.size() > known;
    }

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
            if (takes_addends(*n)) {
                auto addend = laid(n->inputs[0]);
                nodes[n.get()] = {-1, std::vector<AxisLayout>(n->inputs.size(), addend), {addend}};
                layout[{n, 0}] = addend;
                continue;
            }
            // Updates run once, on whole values.
            bool once = n->origin.phase == Phase::update;
            for (auto const& v : n->inputs)
                in.push_back(once || laid(v).is_partial() ? AxisLayout{} : laid(v));
            auto& chosen = nodes[n.get()] = choose(*n, in, {count, {}, {}, false});
            // Time knows sums only; what is combined otherwise is made from the whole batch.
            for (auto const& l : chosen.outputs)
                if (l.is_partial() && l.how == Combine::max) {
                    chosen = {-1, std::vector<AxisLayout>(in.size()),
                              std::vector<AxisLayout>(n->outputs.size())};
                    break;
                }
            for (std::size_t i = 0; i < n->outputs.size(); ++i)
                layout[{n, static_cast<int>(i)}] = chosen.outputs[i];
        }
    }

    /// Whether reader `r` uses value `v` as the block that its producer's iteration leaves.
    bool as_block(Value const& v, AxisLayout const& wanted) const {
        return (wanted.is_shard() || wanted.is_partial()) && laid(v) == wanted && !source_of(*v.node);
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
    /// What a node needs from other sections: of inputs that are made again, what goes into those.
    template <class F>
    void each_need(Node const& n, F const& f) const {
        each_input(n, [&](Value const& v, AxisLayout const& wanted) {
            if (source_of(*v.node)) return;
            if (repeated(v.node.get())) each_need(*v.node, f);
            else f(v, wanted);
        });
    }

    bool placed(Node const& n) const { return !source_of(n) && !repeated(&n); }

    void place() {
        int deepest = 0;
        for (auto const& n : graph.nodes) {
            if (!placed(*n)) continue;
            int at = in_loop(n.get()) ? 1 : 0;
            each_need(*n, [&](Value const& v, AxisLayout const& wanted) {
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
            if (!placed(*n)) continue;
            auto known = latest.find(n);
            section[n] = known == latest.end() ? (in_loop(n) ? std::max(last - 1, 1) : last) : known->second;
            each_need(*n, [&](Value const& v, AxisLayout const& wanted) {
                int bound = section[n] - distance(v, n, wanted);
                auto [entry, fresh] = latest.emplace(v.node.get(), bound);
                if (!fresh) entry->second = std::min(entry->second, bound);
            });
        }
        for (auto const& n : graph.nodes)
            if (placed(*n))
                each_need(*n, [&](Value const& v, AxisLayout const& wanted) {
                    if (!in_loop(v.node.get()) || !laid(v).is_shard()) return;
                    if (!as_block(v, wanted) || section[v.node.get()] != section[n.get()])
                        stacked.insert({v.node.get(), v.output});
                });
        for (auto const& o : graph.outputs)
            if (laid(o.value).is_shard()) stacked.insert({o.value.node.get(), o.value.output});
    }

    /// One iteration: everything runs once, in the recorded order.
    void place_once() {
        for (auto const& n : graph.nodes)
            if (!source_of(*n)) section[n.get()] = 0;
    }

    Value whole(Value const& v, int at) {
        if (source_of(*v.node)) return v;
        if (loops && repeated(v.node.get())) return {again(v.node, at), v.output};
        return wholes.at(v);
    }

    /// A node that is made again, for section `at`.
    std::shared_ptr<Node const> again(std::shared_ptr<Node const> const& n, int at) {
        auto [it, fresh] = repeats.try_emplace({n.get(), at});
        if (!fresh) return it->second;
        std::vector<Value> inputs;
        for (auto const& v : n->inputs) inputs.push_back(whole(v, at));
        OriginScope origin(n->origin);
        auto made = record(n->op, std::move(inputs));
        result.section[made.get()] = at;
        for (int i = 0; i < static_cast<int>(n->outputs.size()); ++i) copy_place({n, i}, {made, i});
        repeats[{n.get(), at}] = made;
        return made;
    }

    void copy_place(Value const& from, Value const& to) {
        if (auto it = local.place.find(from); it != local.place.end()) result.place[to] = it->second;
    }

    Value take(Value const& v, int dim, int at) {
        if (count == 1) return whole(v, at);
        auto [it, fresh] = taken.try_emplace({v.node.get(), v.output, dim, at});
        if (!fresh) return it->second;
        std::shared_ptr<Node const> node;
        Meta block = v.meta();
        block.shape[dim] /= count;
        if (v.node->inputs.empty() && !source_of(*v.node) &&
            v.node->op.localized({}, {block}).infer({}) == Metas{block}) {
            // Nothing goes into it, so the block is made in place.
            node = record(v.node->op.localized({}, {block}), {});
        } else {
            node = record(MicroTake{dim, count}, {whole(v, at)});
        }
        result.section[node.get()] = at;
        Value made{node, 0};
        result.micro[made] = {dim, made.meta().shape[dim]};
        copy_place(v, made);
        taken[{v.node.get(), v.output, dim, at}] = made;
        return made;
    }

    /// A leaf's part of a block.
    Value part(Value const& v, int dim, std::int64_t i, std::int64_t n, int at) {
        auto [it, fresh] = parts.try_emplace({v.node.get(), v.output, dim, i});
        if (!fresh) return it->second;
        auto length = v.meta().shape[dim] / n;
        Value made{record(Part{dim, i * length, length}, {v}), 0};
        result.section[made.node.get()] = at;
        Placement place{Shape(), v.meta().shape};
        for (int d = 0; d < v.meta().shape.rank(); ++d) place.origin.push_back(0);
        auto micro = result.micro.find(v);
        if (micro != result.micro.end()) {
            result.micro[made] = micro->second;
            place.logical[micro->second.dim] *= count;
        }
        if (auto known = result.place.find(v); known != result.place.end()) place = known->second;
        place.origin[dim] += i * length;
        result.place[made] = place;
        return parts[{v.node.get(), v.output, dim, i}] = made;
    }

    /// The nodes that stand for `n` in its section: a value for each output, or the addends of a sum.
    std::vector<std::vector<Value>> made_of(std::shared_ptr<Node const> const& node,
                                            std::vector<Value> inputs, Metas const& in, Metas const& out,
                                            int at) {
        Node const& n = *node;
        auto outputs = values_of(node);
        auto const& chosen = nodes.at(&n);
        if (leaves && leaves->count > 1 && needs_leaves(n, chosen)) {
            LeafHost host;
            host.part = [&](Value const& v, int dim, std::int64_t i, std::int64_t pieces) {
                return part(v, dim, i, pieces, at);
            };
            // A leaf of a sum lies where the sum does; who asks where a block of the batch lies, reads it.
            host.made = [&](Value const& v, int output, int dim, std::int64_t) {
                if (dim < 0) copy_place(outputs[static_cast<std::size_t>(output)], v);
            };
            auto made = run_in_leaves(n.op, inputs, out, chosen, *leaves, host);
            for (auto const& values : made)
                for (auto const& v : values) settle(v.node, at);
            return made;
        }
        auto local_node = record(in_loop(&n) ? n.op.localized(in, out) : n.op, std::move(inputs));
        result.section[local_node.get()] = at;
        std::vector<std::vector<Value>> made;
        for (auto const& v : values_of(local_node)) made.push_back({v});
        return made;
    }

    /// Puts a node, and what was recorded for it, into a section.
    void settle(std::shared_ptr<Node const> const& n, int at) {
        if (source_of(*n) || !result.section.try_emplace(n.get(), at).second) return;
        for (auto const& v : n->inputs) settle(v.node, at);
    }

    /// The sum over all micro-batches of the addends of one.
    Value total(std::vector<Value> const& addends, int at) {
        bool tree = leaves && is_floating(addends[0].meta().dtype);
        check(tree || addends.size() == 1, "a sum in the order of time has one addend a micro-batch");
        if (count == 1 && addends.size() == 1) return addends[0];
        std::shared_ptr<Node const> node;
        if (tree) {
            auto branches = count * leaves->links() / leaves->time_chain();
            node = record(
                MicroTree{leaves->time_chain(), std::countr_zero(static_cast<std::uint64_t>(branches))},
                addends);
        } else {
            node = record(MicroSum{}, addends);
        }
        result.section[node.get()] = at;
        return {node, 0};
    }

    void build(std::shared_ptr<Node const> const& n) {
        OriginScope origin(n->origin);
        int at = section.at(n.get());
        auto const& chosen = nodes.at(n.get());
        std::vector<Value> inputs;
        Metas in, out = n->outputs;
        each_input(*n, [&](Value const& v, AxisLayout const& wanted) {
            bool here = !source_of(*v.node) && !repeated(v.node.get()) && section.at(v.node.get()) == at;
            if (wanted.is_partial()) inputs.push_back(blocks.at(v));
            else if (!wanted.is_shard()) inputs.push_back(whole(v, at));
            else inputs.push_back(as_block(v, wanted) && here ? blocks.at(v) : take(v, wanted.dim, at));
            in.push_back(inputs.back().meta());
        });
        for (std::size_t i = 0; i < out.size(); ++i)
            if (chosen.outputs[i].is_shard()) out[i].shape[chosen.outputs[i].dim] /= count;
        auto made = made_of(n, std::move(inputs), in, out, at);
        for (int i = 0; i < static_cast<int>(out.size()); ++i) {
            Value old{n, i};
            auto const& values = made[static_cast<std::size_t>(i)];
            auto const& l = chosen.outputs[static_cast<std::size_t>(i)];
            check(values[0].meta() == out[static_cast<std::size_t>(i)], "the block of {} is {}, not {}",
                  n->op.name(), to_string(values[0].meta()), to_string(out[static_cast<std::size_t>(i)]));
            copy_place(old, values[0]);
            if (!l.is_shard() && !l.is_partial()) {
                wholes[old] = values[0];
                continue;
            }
            blocks[old] = values[0];
            if (l.is_partial()) {
                wholes[old] = total(values, at);
                continue;
            }
            if (count == 1) {
                wholes[old] = values[0];
                continue;
            }
            result.micro[values[0]] = {l.dim, values[0].meta().shape[l.dim]};
            if (!stacked.contains({n.get(), i})) continue;
            auto stack = record(MicroStack{l.dim, count}, {values[0]});
            result.section[stack.get()] = at;
            wholes[old] = {stack, 0};
            copy_place(old, wholes[old]);
        }
    }

    Sections cut() {
        lay_out();
        loops ? place() : place_once();
        while (loops && find_apart()) {
            layout.clear(), nodes.clear(), section.clear(), stacked.clear();
            lay_out();
            place();
        }
        for (auto const& [v, place] : local.place)
            if (source_of(*v.node)) result.place[v] = place;
        auto order = graph.nodes;
        std::erase_if(order, [&](auto const& n) { return source_of(*n) || (loops && repeated(n.get())); });
        std::stable_sort(order.begin(), order.end(), [&](auto const& a, auto const& b) {
            return section.at(a.get()) < section.at(b.get());
        });
        for (auto const& n : order) build(n);
        auto outputs = graph.outputs;
        for (auto& o : outputs) o.value = whole(o.value, last);
        auto updates = graph.updates;
        for (auto& u : updates) u.value = whole(u.value, last);
        result.graph = Graph::of(std::move(outputs), std::move(updates));
        result.micro_batches = count;
        result.count = last + 1;
        return std::move(result);
    }
};

}  // namespace detail

PLAIT_INLINE Sections cut_loops(LocalGraph const& local, std::int64_t count, std::optional<Leaves> leaves,
                                bool pipeline) {
    if (count == 1 && !leaves && !pipeline) {
        Sections s{local.graph, 1, {}, {}, local.place, 1, {}};
        for (auto const& n : local.graph.nodes)
            if (!source_of(*n)) s.section[n.get()] = 0;
        return s;
    }
    return detail::LoopCutter(local, count, leaves, pipeline).cut();
}

}  // namespace plait
