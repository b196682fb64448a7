#pragma once

#include "plait/exec/copies-inl.hpp"
#include "plait/exec/overlap.hpp"
#include "plait/exec/program.hpp"
#include "plait/graph/collective.hpp"
#include "plait/graph/micro.hpp"
#include "plait/graph/parts.hpp"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

namespace plait::detail {

/// One placed piece of memory; several values may live in it.
struct Place {
    std::int64_t bytes = 0;
    int first = 0, last = 0;  // positions in the node order
    bool state = false;       // lies in the state region at `offset`
    bool reusable = false;    // may be taken over by an output
    std::int64_t offset = 0;
    std::int64_t MemoryTable::*kind = &MemoryTable::activations;
    std::string name{};
    std::set<int> pieces{};  // of a pipeline that make and read it
    bool in_pieces = false;  // made in one of them, for its micro-batch
    int copies = -1;         // table of the program
    std::int64_t copy_stride = 0;
    int lies_in = -1;  // the place whose copies it shares
};

/// "blocks.0.mlp swiglu"
inline std::string place_name(Node const& n) {
    auto const* source = source_of(n);
    if (source) return source->label;
    return n.origin.path + (n.origin.path.empty() ? "" : " ") + std::string(n.op.name());
}

inline std::int64_t MemoryTable::*kind_of(VariableKind kind) {
    return kind == VariableKind::parameter   ? &MemoryTable::weights
           : kind == VariableKind::optimizer ? &MemoryTable::optimizer
                                             : &MemoryTable::other_state;
}

/// The order in which nodes run, and the place of every value that has one before its node is emitted.
struct Placer {
    Placer(Sections const& s, Backend const& b, StateOffset const& o)
        : sections(s), backend(b), state_offset(o) {}

    Sections const& sections;
    Backend const& backend;
    StateOffset const& state_offset;

    struct At {
        int place = -1;
        std::int64_t offset = 0, micro_stride = 0;
    };

    std::vector<std::shared_ptr<Node const>> order;
    std::unordered_map<Node const*, int> position;
    std::unordered_map<Node const*, int> sites;  // of collectives
    std::vector<int> section_end;                // last position of each section
    std::vector<int> section_begin;
    ValueMap<int> last_read;
    ValueMap<int> readers;
    ValueMap<std::set<int>> read_in;  // other pieces than its own that read a value; -1: after the loop
    std::vector<Place> places;
    ValueMap<At> at;
    ValueMap<At> home;            // values that are made in a variable's place
    std::set<Node const*> fused;  // MicroSum, MicroStack and Join whose inputs are made in place
    std::set<std::pair<Node const*, int>> gradients;
    std::set<int> stored;  // places of variables that have their new value

    int section(Node const* n) const { return sections.section.at(n); }
    /// The piece of a pipeline that a node belongs to, or -1.
    int piece(Node const* n) const {
        if (!sections.pipeline || source_of(*n)) return -1;
        auto it = sections.pipeline->piece.find(n);
        return it == sections.pipeline->piece.end() ? -1 : it->second;
    }
    std::pair<int, int> part(Node const* n) const { return {section(n), piece(n)}; }
    static bool looped(int section) { return section % 2 == 1; }

    void order_nodes() {
        for (auto const& n : sections.graph.nodes)
            if (!source_of(*n)) order.push_back(n);
        std::stable_sort(order.begin(), order.end(),
                         [&](auto const& a, auto const& b) { return part(a.get()) < part(b.get()); });
        for (auto const& n : order)
            if (is_collective(n->op)) sites.emplace(n.get(), static_cast<int>(sites.size()));
        order = overlapped(order, [&](Node const* n) { return part(n); });
        section_end.assign(static_cast<std::size_t>(sections.count), -1);
        section_begin.assign(static_cast<std::size_t>(sections.count), 0);
        for (std::size_t t = 0; t < order.size(); ++t) {
            auto s = static_cast<std::size_t>(section(order[t].get()));
            position[order[t].get()] = static_cast<int>(t);
            if (section_end[s] < 0) section_begin[s] = static_cast<int>(t);
            section_end[s] = static_cast<int>(t);
        }
    }

    /// What a node uses: a wait for a message that goes holds what is sent.
    static std::vector<Value> const& used(Node const& n) {
        bool sent = n.op.as<Await>() && n.inputs[0].node->op.as<Send>();
        return sent ? n.inputs[0].node->inputs : n.inputs;
    }

    void find_readers() {
        int end = static_cast<int>(order.size());
        for (auto const& n : order)
            for (auto const& v : used(*n)) {
                int s = section(n.get());
                bool inside = !source_of(*v.node) && section(v.node.get()) == s;
                int from = piece(v.node.get());
                if (from >= 0 && part(v.node.get()) != part(n.get())) read_in[v].insert(piece(n.get()));
                // Pieces run again and again, in any order.
                bool stays = looped(s) && (!inside || from != piece(n.get()));
                int until = stays ? section_end[static_cast<std::size_t>(s)] : position.at(n.get());
                auto [it, fresh] = last_read.emplace(v, until);
                if (!fresh) it->second = std::max(it->second, until);
                ++readers[v];
                if (n->origin.phase == Phase::update && v.node->origin.phase == Phase::backward)
                    gradients.insert({v.node.get(), v.output});
            }
        // What becomes a gradient by sums and reductions is one too.
        for (auto it = order.rbegin(); it != order.rend(); ++it) {
            auto const& n = **it;
            bool sum = n.op.as<MicroSum>() || n.op.as<MicroTree>() || n.op.as<LeafTree>() ||
                       n.op.as<Join>() || n.op.as<Await>() || is_collective(n.op);
            if (sum && gradients.contains({&n, 0}))
                for (auto const& v : n.inputs) gradients.insert({v.node.get(), v.output});
        }
        for (auto const& o : sections.graph.outputs) {
            last_read[o.value] = end;
            ++readers[o.value];
            if (piece(o.value.node.get()) >= 0) read_in[o.value].insert(-1);
        }
        for (auto const& u : sections.graph.updates) {
            last_read[u.value] = end;
            ++readers[u.value];
        }
    }

    int last_of(Value const& v) const {
        if (auto it = last_read.find(v); it != last_read.end()) return it->second;
        return source_of(*v.node) ? 0 : position.at(v.node.get());  // an output that nobody reads
    }

    int new_place(Value const& v, int first, bool reusable, std::int64_t MemoryTable::*kind) {
        Place p{v.meta().bytes(), first, last_of(v), false, reusable, 0, kind, place_name(*v.node)};
        p.in_pieces = piece(v.node.get()) >= 0;
        places.push_back(std::move(p));
        note_pieces(v, static_cast<int>(places.size()) - 1);
        return static_cast<int>(places.size()) - 1;
    }

    void join(Value const& v, At where) {
        auto& p = places[static_cast<std::size_t>(where.place)];
        p.last = std::max(p.last, last_of(v));
        note_pieces(v, where.place);
        at[v] = where;
    }

    /// Which pieces make and read a place; more than one hold it through the whole loop.
    void note_pieces(Value const& v, int place) {
        int own = piece(v.node.get());
        auto& p = places[static_cast<std::size_t>(place)];
        if (own < 0 || !p.in_pieces) return;
        p.pieces.insert(own);
        if (auto it = read_in.find(v); it != read_in.end())
            p.pieces.insert(it->second.begin(), it->second.end());
        if (p.pieces.size() > 1)
            p.first = section_begin[static_cast<std::size_t>(sections.pipeline->section)];
    }

    /// What several pieces share has a copy for every micro-batch that is under way between the first and the
    /// last of them; what is stashed shares copies with others of its size.
    void find_copies(std::vector<Program::Copies>& tables) {
        if (!sections.pipeline) return;
        CopyPools stashed(*sections.pipeline, sections.micro_batches), own = stashed;
        for (std::size_t i = 0; i < places.size(); ++i) {
            auto& p = places[i];
            if (!p.in_pieces || p.pieces.size() < 2 || p.bytes == 0) continue;
            p.copy_stride = (p.bytes + 63) / 64 * 64;
            bool stash = p.kind == &MemoryTable::activations;
            if (stash) p.kind = &MemoryTable::stash;
            (stash ? stashed : own).add(static_cast<int>(i), p.copy_stride, p.pieces);
        }
        auto share = [&](std::vector<int> const& numbers, int table) {
            auto& first = places[static_cast<std::size_t>(numbers.front())];
            first.bytes = first.copy_stride * tables[static_cast<std::size_t>(table)].count;
            for (int number : numbers) {
                auto& p = places[static_cast<std::size_t>(number)];
                p.copies = table++;
                if (&p == &first) continue;
                p.bytes = 0, p.lies_in = numbers.front();
                first.first = std::min(first.first, p.first), first.last = std::max(first.last, p.last);
            }
        };
        stashed.for_each(tables, share);
        own.for_each(tables, share);
    }

    void place_sources() {
        for (auto const& n : sections.graph.nodes) {
            auto const* s = source_of(*n);
            if (!s) continue;
            Value v{n, 0};
            if (s->kind == SourceKind::variable) {
                auto variable = s->variable.lock();
                check(variable != nullptr,
                      "a variable of the program no longer exists: keep its module alive");
                places.push_back({v.meta().bytes(), 0, 0, true, false, state_offset(*variable),
                                  detail::kind_of(variable->kind), variable->path});
                at[v] = {static_cast<int>(places.size()) - 1, 0, 0};
            } else {
                at[v] = {new_place(v, 0, false, &MemoryTable::inputs), 0, 0};
            }
        }
    }

    /// An update is made in its variable's place, and so is what it is a view of, and the block of it that a
    /// gather collects.
    void find_homes() {
        for (auto const& u : sections.graph.updates) {
            Value v = u.value;
            At where = at.at(u.variable);
            home[v] = where;
            while (!source_of(*v.node)) {
                auto const* gather = v.node->op.as<AllGather>();
                bool view = !is_made(v) && v.node->inputs.size() == 1 &&
                            v.node->inputs[0].meta().bytes() == v.meta().bytes();
                if ((!gather || gather->stacked) && !view) break;
                v = v.node->inputs[0];
                if (gather && readers.at(v) > 1) break;
                if (gather) where.offset += gather->coordinate * v.meta().bytes();
                home[v] = where;
            }
        }
    }

    std::int64_t MemoryTable::*kind_of(Value const& v) const {
        return gradients.contains({v.node.get(), v.output}) ? &MemoryTable::gradients
                                                            : &MemoryTable::activations;
    }

    /// A place that all micro-batches share.
    int new_total(Value const& v, int first, bool reusable, std::int64_t MemoryTable::*kind) {
        int place = new_place(v, first, reusable, kind);
        auto& p = places[static_cast<std::size_t>(place)];
        p.in_pieces = false;
        if (piece(v.node.get()) >= 0)
            p.last = std::max(p.last, section_end[static_cast<std::size_t>(section(v.node.get()))]);
        return place;
    }

    /// Running totals and stacks are made where they stay when their input's kernel can write there.
    void place_loop_results() {
        for (auto const& n : order) {
            int first = section_begin[static_cast<std::size_t>(section(n.get()))];
            if (n->op.as<MicroTree>()) {
                for (auto const& v : values_of(n))
                    at[v] = {new_total(v, first, v.output == 0, kind_of({n, 0})), 0, 0};
                // The left sides that wait live as long as the loop.
                auto& pending = places.back();
                pending.last =
                    std::max(pending.last, section_end[static_cast<std::size_t>(section(n.get()))]);
                continue;
            }
            bool sum = n->op.as<MicroSum>() != nullptr;
            auto const* stack = n->op.as<MicroStack>();
            if (!sum && !stack) continue;
            Value total{n, 0}, x = n->inputs[0];
            At where{new_total(total, first, sum, kind_of(total)), 0, 0};
            at[total] = where;
            auto const* row = find_kernel(backend.kernels(), x.node->op.name());
            bool direct = row && (sum ? (row->accumulates >> x.output & 1u) && readers.at(x) == 1
                                      : stack->dim == 0 && x.node->op.aliases().empty());
            if (!direct) continue;
            fused.insert(n.get());
            where.micro_stride = sum ? 0 : x.meta().bytes();
            join(x, where);
        }
    }

    /// Blocks side by side along dim 0 are made where they stay.
    void place_joins() {
        for (auto const& n : order) {
            auto const* join_op = n->op.as<Join>();
            Value all{n, 0};
            if (!join_op || join_op->dim != 0 || at.contains(all)) continue;
            bool direct = true;
            int first = position.at(n.get());
            for (auto const& v : n->inputs) {
                direct = direct && !source_of(*v.node) && readers.at(v) == 1 && !at.contains(v) &&
                         part(v.node.get()) == part(n.get()) && is_made(v);
                if (direct) first = std::min(first, position.at(v.node.get()));
            }
            if (!direct) continue;
            At where{new_place(all, first, true, kind_of(all)), 0, 0};
            at[all] = where;
            for (auto const& v : n->inputs) {
                join(v, where);
                where.offset += v.meta().bytes();
            }
            fused.insert(n.get());
        }
    }

    /// Whether a kernel writes the value: it is no view.
    static bool is_made(Value const& v) {
        auto const aliases = v.node->op.aliases();
        return std::none_of(aliases.begin(), aliases.end(),
                            [&](Alias const& a) { return a.view && a.output == v.output; });
    }

    /// The input whose place output `o` takes, or -1.
    int shared_input(Node const& n, int o, int t) {
        for (auto const& a : n.op.aliases()) {
            if (a.output != o) continue;
            auto const& v = n.inputs[static_cast<std::size_t>(a.input)];
            if (a.view) return a.input;
            auto const& where = at.at(v);
            auto const& p = places[static_cast<std::size_t>(where.place)];
            auto const& meta = n.outputs[static_cast<std::size_t>(o)];
            if (p.state) continue;
            if (!p.reusable || p.last > t || v.meta() != meta || p.bytes != meta.bytes()) continue;
            if (source_of(*v.node)) continue;
            // A loop reads what is made before it in every iteration.
            if (looped(section(&n)) && section(v.node.get()) != section(&n)) continue;
            bool alone = std::none_of(n.inputs.begin(), n.inputs.end(), [&](Value const& other) {
                return !(other == v) && at.at(other).place == where.place;
            });
            if (alone) return a.input;
        }
        return -1;
    }

    /// Once all have addresses. Lifetimes are told in instructions, which are fewer than nodes; pieces that
    /// no instruction meets, such as outlines, are left out.
    std::vector<Program::Place> planned_places(std::vector<std::shared_ptr<Node const>> const& nodes) const {
        int const count = static_cast<int>(nodes.size());
        std::vector<int> before(order.size() + 2, 0);  // instructions before a position
        for (auto const& n : nodes) ++before[static_cast<std::size_t>(position.at(n.get())) + 1];
        std::partial_sum(before.begin(), before.end(), before.begin());
        std::vector<Program::Place> list;
        for (auto const& p : places) {
            int first = p.state ? 0 : before[static_cast<std::size_t>(p.first)];
            int last = p.state ? count - 1 : before[static_cast<std::size_t>(p.last) + 1] - 1;
            if (p.bytes == 0 || last < first) continue;
            list.push_back(
                {p.state ? Region::state : Region::scratch, p.offset, p.bytes, first, last, p.kind, p.name});
        }
        return list;
    }
};

}  // namespace plait::detail
