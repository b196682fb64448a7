#pragma once

#include "plait/parallel/pipeline.hpp"
#include "plait/train/stage_costs.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <utility>

namespace plait {
namespace detail {

/// Of every instruction, whether it waits for a message of the pipeline.
inline std::vector<bool> message_waits(Program const& program) {
    std::vector<bool> message(static_cast<std::size_t>(program.collectives)), waits;
    for (auto const& i : program.instructions)
        if (i.collective)
            message[static_cast<std::size_t>(i.collective->number)] =
                i.collective->verb == Verb::send || i.collective->verb == Verb::recv;
    for (auto const& i : program.instructions)
        waits.push_back(i.awaits >= 0 && message[static_cast<std::size_t>(i.awaits)]);
    return waits;
}

/// The stage and the work of a visit's piece; nothing for other pieces.
inline std::optional<Slot> slot_of_visit(Program const& program, std::int64_t visit) {
    auto const piece = program.visits[static_cast<std::size_t>(visit)].piece;
    return slot_of_piece(program.pieces[static_cast<std::size_t>(piece)].name);
}

}  // namespace detail

PLAIT_INLINE Costs measured_costs(Program const& program, TraceLog const& log, int stages) {
    auto const waits = detail::message_waits(program);
    struct Sum {
        double seconds = 0;
        int visits = 0;
    };
    std::array<std::vector<Sum>, std::size(all_work)> sums;
    for (auto& s : sums) s.resize(static_cast<std::size_t>(stages));
    std::int64_t waited = 0;  // in the visit that ends next
    for (auto const& e : log.events) {
        if (e.what == TraceLog::What::instruction && waits[static_cast<std::size_t>(e.index)])
            waited += e.end - e.start;
        if (e.what != TraceLog::What::visit) continue;
        if (auto slot = detail::slot_of_visit(program, e.index)) {
            auto& sum = sums[static_cast<std::size_t>(slot->work)].at(static_cast<std::size_t>(slot->stage));
            sum.seconds += 1e-9 * static_cast<double>(e.end - e.start - waited);
            ++sum.visits;
        }
        waited = 0;
    }
    auto means = [&](Work work) {
        std::vector<double> all;
        for (auto const& s : sums[static_cast<std::size_t>(work)])
            all.push_back(s.visits ? s.seconds / s.visits : 0);
        return all;
    };
    Costs costs;
    costs.forward_seconds = means(Work::F);
    costs.input_seconds = means(Work::B);
    costs.weight_seconds = means(Work::W);
    return costs;
}

PLAIT_INLINE Costs stash_costs(Program const& program, int stages) {
    // A value that pieces share: the stage and the work that make it, and the last work that reads it.
    struct Kept {
        std::int64_t bytes = 0;  // of a micro-batch
        int stage = 0;
        Work made = Work::F, read = Work::F;
    };
    // By the pool of copies that it lies in, and by the table that says which of them is a micro-batch's.
    std::map<std::pair<Program::Place const*, int>, Kept> all;
    auto note = [&](Operand const& o, int instruction, Slot const& slot) {
        auto const pool = std::find_if(program.places.begin(), program.places.end(), [&](auto const& p) {
            return p.kind == &MemoryTable::stash && p.first <= instruction && instruction <= p.last &&
                   p.offset <= o.offset && o.offset < p.offset + p.bytes;
        });
        if (o.copies < 0 || o.region != Region::scratch || pool == program.places.end()) return;
        auto const [it, fresh] =
            all.try_emplace({&*pool, o.copies}, Kept{o.copy_stride, slot.stage, slot.work, slot.work});
        it->second.made = std::min(it->second.made, slot.work);
        it->second.read = std::max(it->second.read, slot.work);
    };
    for (auto const& piece : program.pieces) {
        auto const slot = slot_of_piece(piece.name);
        for (int i = piece.first; slot && i < piece.last; ++i) {
            auto const& instruction = program.instructions[static_cast<std::size_t>(i)];
            for (auto const& o : instruction.in) note(o, i, *slot);
            for (auto const& o : instruction.out) note(o, i, *slot);
        }
    }
    auto const n = static_cast<std::size_t>(stages);
    Costs costs;
    costs.stash_bytes.resize(n), costs.held_bytes.resize(n);
    for (auto const& [key, kept] : all) {
        auto const stage = static_cast<std::size_t>(kept.stage);
        if (kept.made == Work::F) costs.stash_bytes.at(stage) += kept.bytes;
        if (kept.read == Work::W) costs.held_bytes.at(stage) += kept.bytes;
    }
    return costs;
}

PLAIT_INLINE Costs joined_costs(std::vector<Costs> const& of_ranks) {
    Costs all;
    auto join = [&](auto part) {
        for (auto const& rank : of_ranks) {
            (all.*part).resize((rank.*part).size());
            for (std::size_t s = 0; s < (rank.*part).size(); ++s)
                (all.*part)[s] = std::max((all.*part)[s], (rank.*part)[s]);
        }
    };
    join(&Costs::forward_seconds), join(&Costs::input_seconds), join(&Costs::weight_seconds);
    join(&Costs::stash_bytes), join(&Costs::held_bytes);
    return all;
}

PLAIT_INLINE std::vector<PipelineSpan> pipeline_spans(Program const& program, TraceLog const& log) {
    std::vector<PipelineSpan> spans;
    std::optional<PipelineSpan> now;
    for (auto const& e : log.events) {
        if (e.what == TraceLog::What::visit && detail::slot_of_visit(program, e.index)) {
            if (!now) now = {e.start, e.end};
            now->end = e.end;
        }
        if (e.what == TraceLog::What::step && now) {
            spans.push_back(*now);
            now.reset();
        }
    }
    return spans;
}

}  // namespace plait
