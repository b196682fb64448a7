#pragma once

#include "plait/exec/memory_plan.hpp"
#include "plait/exec/program.hpp"
#include "plait/graph/micro.hpp"

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
    ValueMap<Value> updated;      // new value -> the variable it is stored to
    std::set<Node const*> fused;  // MicroSum and MicroStack whose input is made in place
    std::set<std::pair<Node const*, int>> gradients;
    std::set<int> stored;  // places of variables that have their new value
    Program program;
    std::vector<std::shared_ptr<Node const>> instruction_nodes;  // the node of each instruction
    std::vector<std::pair<std::size_t, int>> workspaces;         // (instruction, place)

    int section(Node const* n) const { return sections.section.at(n); }
    static bool looped(int section) { return section % 2 == 1; }

    void order_nodes() {
        for (auto const& n : sections.graph.nodes)
            if (!source_of(*n)) order.push_back(n);
        std::stable_sort(order.begin(), order.end(),
                         [&](auto const& a, auto const& b) { return section(a.get()) < section(b.get()); });
        section_end.assign(static_cast<std::size_t>(sections.count), -1);
        section_begin.assign(static_cast<std::size_t>(sections.count), 0);
        for (std::size_t t = 0; t < order.size(); ++t) {
            auto s = static_cast<std::size_t>(section(order[t].get()));
            position[order[t].get()] = static_cast<int>(t);
            if (section_end[s] < 0) section_begin[s] = static_cast<int>(t);
            section_end[s] = static_cast<int>(t);
        }
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
            updated[u.value] = u.variable;
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

    std::int64_t MemoryTable::*kind_of(Value const& v) const {
        return gradients.contains({v.node.get(), v.output}) ? &MemoryTable::gradients
                                                            : &MemoryTable::activations;
    }

    /// Running totals and stacks are made where they stay when their input's kernel can write there.
    void place_loop_results() {
        for (auto const& n : order) {
            bool sum = n->op.as<MicroSum>() != nullptr;
            auto const* stack = n->op.as<MicroStack>();
            if (!sum && !stack) continue;
            Value total{n, 0}, x = n->inputs[0];
            int first = section_begin[static_cast<std::size_t>(section(n.get()))];
            At where{new_place(total, first, false, kind_of(total)), 0, 0};
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

    /// The input whose place output `o` takes, or -1.
    int shared_input(Node const& n, int o, int t) {
        for (auto const& a : n.op.aliases()) {
            if (a.output != o) continue;
            auto const& v = n.inputs[static_cast<std::size_t>(a.input)];
            if (a.view) return a.input;
            auto const& where = at.at(v);
            auto const& p = places[static_cast<std::size_t>(where.place)];
            auto const& meta = n.outputs[static_cast<std::size_t>(o)];
            if (p.state) {
                for (auto const& [value, variable] : updated)
                    if (value.node.get() == &n && value.output == o && variable == v) return a.input;
                continue;
            }
            if (!p.reusable || p.last > t || v.meta() != meta || p.bytes != meta.bytes()) continue;
            if (source_of(*v.node) || section(v.node.get()) != section(&n)) continue;
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
        auto dim = sections.micro_dim.find(v);
        return {p.state ? Region::state : Region::scratch, p.offset + where.offset, where.micro_stride,
                v.meta(), dim == sections.micro_dim.end() ? -1 : dim->second};
    }

    void place_node(std::shared_ptr<Node const> const& node, int t) {
        Node const& n = *node;
        if (fused.contains(&n)) return;
        auto const* take = n.op.as<MicroTake>();
        if (take && take->dim == 0) {
            At where = at.at(n.inputs[0]);
            where.micro_stride = n.outputs[0].bytes();
            join({node, 0}, where);
            return;
        }
        for (auto const& v : n.inputs)
            check(!stored.contains(at.at(v).place), "{} in '{}' reads a variable after it was stored",
                  n.op.name(), n.origin.path);
        std::set<int> taken;
        bool moves = false;
        for (int o = 0; o < static_cast<int>(n.outputs.size()); ++o) {
            Value v{node, o};
            if (at.contains(v)) {  // a total or a stack
                moves = true;
                continue;
            }
            int input = shared_input(n, o, t);
            if (input >= 0 && taken.insert(input).second) {
                join(v, at.at(n.inputs[static_cast<std::size_t>(input)]));
                if (updated.contains(v)) stored.insert(at.at(v).place);
                moves = moves || n.inputs.size() > 1 || !n.op.aliases().front().view;
            } else {
                at[v] = {new_place(v, t, true, kind_of(v)), 0, 0};
                moves = true;
            }
        }
        if (!moves) return;  // a view of its only input
        auto const* row = find_kernel(backend.kernels(), n.op.name());
        check(row != nullptr, "the {} backend has no kernel for {}", backend.name(), n.op.name());
        Instruction i{n.op, row, {}, {}, 0, 0, 0, n.origin};
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
        place_loop_results();
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
