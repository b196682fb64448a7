#pragma once

#include "plait/exec/memory_plan.hpp"
#include "plait/exec/program.hpp"
#include "plait/graph/collective.hpp"
#include "plait/graph/micro.hpp"
#include "plait/graph/parts.hpp"

#include <algorithm>
#include <set>

namespace plait {
namespace detail {

/// One placed piece of memory; several values may live in it.
struct Place {
    std::int64_t bytes = 0;
    int first = 0, last = 0;  // positions in the node order
    bool state = false;       // lies in the state region at `offset`
    bool reusable = false;    // may be taken over by an output
    std::int64_t offset = 0;
    std::int64_t MemoryTable::*kind = &MemoryTable::activations;
};

struct Emitter {
    Emitter(Sections const& s, Backend const& b, StateOffset const& o)
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
    std::vector<int> section_end;  // last position of each section
    std::vector<int> section_begin;
    ValueMap<int> last_read;
    ValueMap<int> readers;
    std::vector<Place> places;
    ValueMap<At> at;
    ValueMap<At> home;            // values that are made in a variable's place
    std::set<Node const*> fused;  // MicroSum, MicroStack and Join whose inputs are made in place
    std::set<std::pair<Node const*, int>> gradients;
    std::set<int> stored;  // places of variables that have their new value
    Program program;
    std::vector<std::shared_ptr<Node const>> instruction_nodes;  // the node of each instruction
    std::vector<std::pair<std::size_t, int>> workspaces;         // (instruction, place)
    std::unordered_map<Node const*, int> collectives;            // number of each that was emitted

    int section(Node const* n) const { return sections.section.at(n); }
    static bool looped(int section) { return section % 2 == 1; }

    void order_nodes() {
        for (auto const& n : sections.graph.nodes)
            if (!source_of(*n)) order.push_back(n);
        std::stable_sort(order.begin(), order.end(),
                         [&](auto const& a, auto const& b) { return section(a.get()) < section(b.get()); });
        sink_awaits();
        section_end.assign(static_cast<std::size_t>(sections.count), -1);
        section_begin.assign(static_cast<std::size_t>(sections.count), 0);
        for (std::size_t t = 0; t < order.size(); ++t) {
            auto s = static_cast<std::size_t>(section(order[t].get()));
            position[order[t].get()] = static_cast<int>(t);
            if (section_end[s] < 0) section_begin[s] = static_cast<int>(t);
            section_end[s] = static_cast<int>(t);
        }
    }

    /// A collective's result is awaited where it is first read, or at the end of its section.
    void sink_awaits() {
        std::vector<std::shared_ptr<Node const>> sunk, waiting;
        auto release = [&](auto const& wanted) {
            std::erase_if(waiting, [&](auto const& n) {
                if (wanted(n)) sunk.push_back(n);
                return wanted(n);
            });
        };
        for (auto const& n : order) {
            if (!waiting.empty() && section(waiting.front().get()) != section(n.get()))
                release([](auto const&) { return true; });
            if (auto const* a = n->op.as<Await>(); a && !a->at_once) {
                waiting.push_back(n);
                continue;
            }
            release([&](auto const& w) {
                return std::any_of(n->inputs.begin(), n->inputs.end(),
                                   [&](Value const& v) { return v.node == w; });
            });
            sunk.push_back(n);
        }
        release([](auto const&) { return true; });
        order = std::move(sunk);
    }

    void find_readers() {
        int end = static_cast<int>(order.size());
        for (auto const& n : order)
            for (auto const& v : n->inputs) {
                int s = section(n.get());
                bool inside = !source_of(*v.node) && section(v.node.get()) == s;
                int until =
                    !inside && looped(s) ? section_end[static_cast<std::size_t>(s)] : position.at(n.get());
                auto [it, fresh] = last_read.emplace(v, until);
                if (!fresh) it->second = std::max(it->second, until);
                ++readers[v];
                if (n->origin.phase == Phase::update && v.node->origin.phase == Phase::backward)
                    gradients.insert({v.node.get(), v.output});
            }
        for (auto const& o : sections.graph.outputs) last_read[o.value] = end, ++readers[o.value];
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
        places.push_back({v.meta().bytes(), first, last_of(v), false, reusable, 0, kind});
        return static_cast<int>(places.size()) - 1;
    }

    void join(Value const& v, At where) {
        auto& p = places[static_cast<std::size_t>(where.place)];
        p.last = std::max(p.last, last_of(v));
        at[v] = where;
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
                places.push_back({v.meta().bytes(), 0, 0, true, false, state_offset(*variable), nullptr});
                at[v] = {static_cast<int>(places.size()) - 1, 0, 0};
            } else {
                at[v] = {new_place(v, 0, false, &MemoryTable::inputs), 0, 0};
            }
        }
    }

    /// An update is made in its variable's place, and so is the block of it that a gather collects.
    void find_homes() {
        for (auto const& u : sections.graph.updates) {
            Value v = u.value;
            At where = at.at(u.variable);
            home[v] = where;
            while (!source_of(*v.node)) {
                auto const* gather = v.node->op.as<AllGather>();
                if (!gather && !v.node->op.as<Await>()) break;
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

    /// Running totals and stacks are made where they stay when their input's kernel can write there.
    void place_loop_results() {
        for (auto const& n : order) {
            int first = section_begin[static_cast<std::size_t>(section(n.get()))];
            if (n->op.as<MicroTree>()) {
                for (auto const& v : values_of(n))
                    at[v] = {new_place(v, first, v.output == 0, kind_of({n, 0})), 0, 0};
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
            At where{new_place(total, first, sum, kind_of(total)), 0, 0};
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
                         section(v.node.get()) == section(n.get()) && is_made(v);
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

    Operand operand(Value const& v) const {
        auto const& where = at.at(v);
        auto const& p = places[static_cast<std::size_t>(where.place)];
        Operand o{p.state ? Region::state : Region::scratch,
                  p.offset + where.offset,
                  where.micro_stride,
                  v.meta(),
                  {},
                  -1,
                  0};
        if (auto it = sections.place.find(v); it != sections.place.end()) o.block = it->second;
        if (auto it = sections.micro.find(v); it != sections.micro.end())
            o.micro_dim = it->second.dim, o.micro_step = it->second.step;
        return o;
    }

    /// Values that are part of another's place, or have none: no kernel runs for them.
    bool is_address(std::shared_ptr<Node const> const& node) {
        Node const& n = *node;
        if (fused.contains(&n)) return true;
        auto const* take = n.op.as<MicroTake>();
        auto const* part = n.op.as<Part>();
        if (take && take->dim == 0) {
            At where = at.at(n.inputs[0]);
            where.micro_stride = n.outputs[0].bytes();
            join({node, 0}, where);
            return true;
        }
        if (part && part->dim == 0) {
            At where = at.at(n.inputs[0]);
            where.offset += part->length ? n.outputs[0].bytes() / part->length * part->start : 0;
            join({node, 0}, where);
            return true;
        }
        if (n.op.as<Outline>()) {
            at[{node, 0}] = {new_place({node, 0}, position.at(&n), false, &MemoryTable::activations), 0, 0};
            places.back().bytes = 0;
            return true;
        }
        return false;
    }

    /// An update that is made in its variable's place may read that place only element by element.
    void check_home(Node const& n, int o, At const& to) const {
        for (std::size_t i = 0; i < n.inputs.size(); ++i) {
            auto const& from = at.at(n.inputs[i]);
            if (from.place != to.place) continue;
            auto const aliases = n.op.aliases();
            bool same =
                from.offset == to.offset && std::any_of(aliases.begin(), aliases.end(), [&](Alias const& a) {
                    return a.output == o && a.input == static_cast<int>(i);
                });
            // A gather reads the rank's own block where it stays.
            check(same || n.op.as<AllGather>() || home.contains(n.inputs[i]),
                  "{} in '{}' reads a variable while it stores it", n.op.name(), n.origin.path);
        }
    }

    void place_node(std::shared_ptr<Node const> const& node, int t) {
        Node const& n = *node;
        if (is_address(node)) return;
        for (auto const& v : n.inputs)
            check(!stored.contains(at.at(v).place) || home.contains(v),
                  "{} in '{}' reads a variable after it was stored", n.op.name(), n.origin.path);
        std::set<int> taken;
        bool moves = false;
        for (int o = 0; o < static_cast<int>(n.outputs.size()); ++o) {
            Value v{node, o};
            if (auto h = home.find(v); h != home.end()) {
                check_home(n, o, h->second);
                at[v] = h->second;
                stored.insert(h->second.place);
                moves = moves || is_made(v) || n.inputs.size() > 1;
                continue;
            }
            if (at.contains(v)) {  // a total, a stack, or joined to others
                moves = true;
                continue;
            }
            int input = shared_input(n, o, t);
            if (input >= 0 && taken.insert(input).second) {
                join(v, at.at(n.inputs[static_cast<std::size_t>(input)]));
                moves = moves || n.inputs.size() > 1 || !n.op.aliases().front().view;
            } else {
                at[v] = {new_place(v, t, true, kind_of(v)), 0, 0};
                moves = true;
            }
        }
        if (emit_collective(node)) return;
        if (!moves) return;  // a view of its only input
        auto const* row = find_kernel(backend.kernels(), n.op.name());
        check(row != nullptr, "the {} backend has no kernel for {}", backend.name(), n.op.name());
        Instruction i{n.op, row, {}, {}, 0, 0, 0, n.origin, {}, -1};
        if (n.op.as<MicroSum>()) i.accumulate = 1;
        for (int o = 0; o < static_cast<int>(n.outputs.size()); ++o)
            for (auto const& f : fused)
                if (f->op.as<MicroSum>() && f->inputs[0].node.get() == &n && f->inputs[0].output == o)
                    i.accumulate |= 1u << o;
        if (row->workspace) {
            Metas in;
            for (auto const& v : n.inputs) in.push_back(v.meta());
            i.workspace_bytes = row->workspace(n.op, in, n.outputs, backend.workers());
            if (i.workspace_bytes > 0) {
                workspaces.emplace_back(program.instructions.size(), static_cast<int>(places.size()));
                places.push_back({i.workspace_bytes, t, t, false, false, 0, &MemoryTable::workspace});
            }
        }
        // Places have no addresses yet: the nodes' values are remembered and resolved after planning.
        program.instructions.push_back(std::move(i));
        instruction_nodes.push_back(node);
    }

    /// Collectives and their awaits go to communicators, not kernels.
    bool emit_collective(std::shared_ptr<Node const> const& node) {
        auto const& op = node->op;
        Instruction i{op, nullptr, {}, {}, 0, 0, 0, node->origin, {}, -1};
        auto const* await = op.as<Await>();
        if (await) {
            i.awaits = collectives.at(node->inputs[0].node.get());
        } else if (auto const* r = op.as<AllReduce>()) {
            i.collective = Collective{Verb::all_reduce, r->axis, r->how, program.collectives};
        } else if (auto const* s = op.as<ReduceScatter>()) {
            i.collective = Collective{Verb::reduce_scatter, s->axis, s->how, program.collectives};
        } else if (auto const* g = op.as<AllGather>()) {
            i.collective = Collective{Verb::all_gather, g->axis, Combine::sum, program.collectives};
        } else {
            return false;
        }
        if (i.collective) {
            collectives[node.get()] = program.collectives++;
            // What it reads is in use until it is awaited.
            auto& in = places[static_cast<std::size_t>(at.at(node->inputs[0]).place)];
            for (auto const& n : order)
                if (n->op.as<Await>() && n->inputs[0].node == node)
                    in.last = std::max(in.last, position.at(n.get()));
        }
        program.instructions.push_back(std::move(i));
        instruction_nodes.push_back(node);
        return true;
    }

    void plan() {
        std::vector<Lifetime> lifetimes;
        std::vector<std::size_t> which;
        for (std::size_t i = 0; i < places.size(); ++i)
            if (!places[i].state) {
                lifetimes.push_back({places[i].bytes, places[i].first, places[i].last});
                which.push_back(i);
            }
        auto plan = plan_memory(lifetimes);
        for (std::size_t i = 0; i < which.size(); ++i) places[which[i]].offset = plan.offsets[i];
        program.scratch_bytes = plan.bytes;
        fill_table(plan);
    }

    void fill_table(MemoryPlan const& plan) {
        std::vector<std::int64_t> live(order.size() + 2, 0);
        for (auto const& p : places)
            if (!p.state) {
                live[static_cast<std::size_t>(p.first)] += p.bytes;
                live[static_cast<std::size_t>(p.last) + 1] -= p.bytes;
            }
        std::int64_t now = 0, most = -1;
        int peak = 0;
        for (std::size_t t = 0; t < live.size(); ++t)
            if ((now += live[t]) > most) most = now, peak = static_cast<int>(t);
        for (auto const& p : places)
            if (!p.state && p.first <= peak && peak <= p.last) program.memory.*p.kind += p.bytes;
        program.memory.gaps = plan.bytes - most;
    }

    void resolve() {
        for (std::size_t i = 0; i < instruction_nodes.size(); ++i) {
            auto const& n = instruction_nodes[i];
            auto& instruction = program.instructions[i];
            for (auto const& v : n->inputs) instruction.in.push_back(operand(v));
            for (int o = 0; o < static_cast<int>(n->outputs.size()); ++o)
                instruction.out.push_back(operand({n, o}));
        }
        for (auto const& [instruction, place] : workspaces)
            program.instructions[instruction].workspace = places[static_cast<std::size_t>(place)].offset;
        for (auto const& n : sections.graph.nodes) {
            auto const* s = source_of(*n);
            if (!s || s->kind == SourceKind::variable) continue;
            auto& list = s->kind == SourceKind::batch  ? program.batch
                         : s->kind == SourceKind::feed ? program.feeds
                                                       : program.constants;
            list.push_back({s->label, operand({n, 0}), *s});
        }
        for (auto const& o : sections.graph.outputs) program.results.push_back({o.name, operand(o.value)});
        for (auto const& u : sections.graph.updates) {
            auto from = operand(u.value), to = operand(u.variable);
            check(from.region == Region::state && from.offset == to.offset,
                  "an update of a variable was not made in the variable's place");
        }
    }

    void cut_pieces() {
        for (int s = 0; s < sections.count; ++s) {
            Program::Piece piece{
                looped(s) ? fmt::format("loop {}", s / 2 + 1) : fmt::format("part {}", s / 2 + 1), 0, 0};
            bool any = false;
            for (std::size_t i = 0; i < instruction_nodes.size(); ++i)
                if (section(instruction_nodes[i].get()) == s) {
                    if (!any) piece.first = static_cast<int>(i);
                    piece.last = static_cast<int>(i) + 1;
                    any = true;
                }
            if (!any) continue;
            program.pieces.push_back(piece);
            for (int m = 0; m < (looped(s) ? sections.micro_batches : 1); ++m)
                program.visits.push_back({static_cast<int>(program.pieces.size()) - 1, m});
        }
    }

    Program run() {
        program.micro_batches = sections.micro_batches;
        order_nodes();
        find_readers();
        place_sources();
        find_homes();
        place_loop_results();
        place_joins();
        for (std::size_t t = 0; t < order.size(); ++t) place_node(order[t], static_cast<int>(t));
        plan();
        resolve();
        cut_pieces();
        return std::move(program);
    }
};

inline std::string operand_text(Operand const& o) {
    auto text =
        fmt::format("{}{}@{}", o.region == Region::state ? "state " : "", to_string(o.meta), o.offset);
    if (o.micro_stride) text += fmt::format("+{}m", o.micro_stride);
    return text;
}

}  // namespace detail

PLAIT_INLINE Program emit(Sections const& sections, Backend const& backend, StateOffset const& state_offset) {
    return detail::Emitter(sections, backend, state_offset).run();
}

PLAIT_INLINE std::string Program::text() const {
    std::string text;
    for (auto const& p : pieces) {
        auto visits_of = std::count_if(visits.begin(), visits.end(), [&](Visit const& v) {
            return &pieces[static_cast<std::size_t>(v.piece)] == &p;
        });
        text += fmt::format("{} ({} x)\n", p.name, visits_of);
        for (int i = p.first; i < p.last; ++i) {
            auto const& n = instructions[static_cast<std::size_t>(i)];
            text += fmt::format("  {:4} {}", i, n.op.text());
            for (auto const& o : n.in) text += " " + detail::operand_text(o);
            text += " ->";
            for (auto const& o : n.out) text += " " + detail::operand_text(o);
            if (n.workspace_bytes) text += fmt::format(" workspace {}@{}", n.workspace_bytes, n.workspace);
            if (n.accumulate) text += " accumulates";
            text += fmt::format("  # {} {}\n", n.origin.path, name_of(n.origin.phase));
        }
    }
    return text;
}

}  // namespace plait
