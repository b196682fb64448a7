#pragma once

#include "plait/parallel/pipeline.hpp"
#include "plait/train/stage_costs.hpp"

#include <algorithm>
#include <array>

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

PLAIT_INLINE Costs joined_costs(std::vector<Costs> const& of_ranks) {
    Costs all;
    for (auto part : {&Costs::forward_seconds, &Costs::input_seconds, &Costs::weight_seconds})
        for (auto const& rank : of_ranks) {
            (all.*part).resize((rank.*part).size());
            for (std::size_t s = 0; s < (rank.*part).size(); ++s)
                (all.*part)[s] = std::max((all.*part)[s], (rank.*part)[s]);
        }
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
