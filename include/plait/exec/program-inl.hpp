#pragma once

#include "plait/exec/memory_plan.hpp"
#include "plait/exec/places-inl.hpp"
#include "plait/exec/program.hpp"
#include "plait/graph/collective.hpp"
#include "plait/graph/micro.hpp"
#include "plait/graph/parts.hpp"

#include <algorithm>
#include <set>

namespace plait {
namespace detail {

/// Gives the nodes kernels, in their order.
struct Emitter : Placer {
    using Placer::Placer;

    Program program;
    std::vector<std::shared_ptr<Node const>> instruction_nodes;  // the node of each instruction
    std::vector<std::pair<std::size_t, int>> workspaces;         // (instruction, place)
    std::unordered_map<Node const*, int> collectives;            // number of each that was emitted

    Operand operand(Value const& v) const {
        auto const& where = at.at(v);
        auto const& p = places[static_cast<std::size_t>(where.place)];
        Operand o;
        o.region = p.state ? Region::state : Region::scratch;
        o.offset = p.offset + where.offset, o.micro_stride = where.micro_stride;
        o.meta = v.meta();
        o.copies = p.copies, o.copy_stride = p.copy_stride;
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
        if (part && part->dim == 0 && !home.contains({node, 0})) {
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
                moves =
                    moves || is_made(v) || n.inputs.size() > 1 || at.at(n.inputs[0]).place != h->second.place;
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
                places.push_back({i.workspace_bytes, t, t, false, false, 0, &MemoryTable::workspace,
                                  "workspace of " + place_name(n)});
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
            i.collective =
                Collective{Verb::all_reduce, r->axis, r->how, program.collectives, sites.at(node.get()), -1};
        } else if (auto const* s = op.as<ReduceScatter>()) {
            i.collective = Collective{Verb::reduce_scatter, s->axis, s->how, program.collectives,
                                      sites.at(node.get()), -1};
        } else if (auto const* g = op.as<AllGather>()) {
            i.collective = Collective{Verb::all_gather,     g->axis, Combine::sum, program.collectives,
                                      sites.at(node.get()), -1};
        } else if (auto const* m = op.as<Send>()) {
            i.collective =
                Collective{Verb::send, "pipeline", Combine::sum, program.collectives, m->edge, m->to};
        } else if (auto const* m = op.as<Receive>()) {
            i.collective =
                Collective{Verb::recv, "pipeline", Combine::sum, program.collectives, m->edge, m->from};
        } else {
            return false;
        }
        if (i.collective) {
            collectives[node.get()] = program.collectives++;
        }
        if (i.collective && is_collective(op)) {
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
        for (auto& p : places)
            if (p.lies_in >= 0) p.offset = places[static_cast<std::size_t>(p.lies_in)].offset;
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
            if (sections.pipeline && sections.pipeline->section == s) {
                cut_pipeline();
                continue;
            }
            program.pieces.push_back(piece);
            for (int m = 0; m < (looped(s) ? sections.micro_batches : 1); ++m)
                program.visits.push_back({static_cast<int>(program.pieces.size()) - 1, m});
        }
    }

    /// The loop that a schedule runs: its pieces, in the order of their visits.
    void cut_pipeline() {
        auto const& pipeline = *sections.pipeline;
        std::vector<int> number(pipeline.names.size(), -1);  // pieces without instructions have none
        for (std::size_t i = 0; i < instruction_nodes.size(); ++i) {
            int p = piece(instruction_nodes[i].get());
            if (p < 0) continue;
            auto& n = number[static_cast<std::size_t>(p)];
            if (n < 0) {
                n = static_cast<int>(program.pieces.size());
                program.pieces.push_back(
                    {pipeline.names[static_cast<std::size_t>(p)], static_cast<int>(i), 0});
            }
            program.pieces[static_cast<std::size_t>(n)].last = static_cast<int>(i) + 1;
        }
        for (auto const& v : pipeline.visits)
            if (int n = number[static_cast<std::size_t>(v.piece)]; n >= 0)
                program.visits.push_back({n, v.micro});
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
        find_copies(program.copies);
        plan();
        resolve();
        program.places = planned_places(instruction_nodes);
        cut_pieces();
        return std::move(program);
    }
};

inline std::string operand_text(Operand const& o) {
    auto text =
        fmt::format("{}{}@{}", o.region == Region::state ? "state " : "", to_string(o.meta), o.offset);
    if (o.micro_stride) text += fmt::format("+{}m", o.micro_stride);
    if (o.copies >= 0) text += fmt::format("+{}c{}", o.copy_stride, o.copies);
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
    for (std::size_t c = 0; c < copies.size(); ++c) {
        text += fmt::format("copies c{}:", c);
        for (int copy : copies[c].of_micro) text += fmt::format(" {}", copy);
        text += '\n';
    }
    return text;
}

}  // namespace plait
