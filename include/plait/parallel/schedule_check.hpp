#pragma once

#include "plait/parallel/schedule.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace plait {

/// What the pieces of a schedule cost. Vectors are by stage; an empty one means 1 for each.
struct Costs {
    std::vector<double> forward_seconds, input_seconds, weight_seconds;  // F, B, W
    double edge_seconds = 0;  // from the end of a piece to its reader on another rank
    /// What F leaves for B and what B leaves for W, of one micro-batch; the second takes the place of the
    /// first when B ends.
    std::vector<std::int64_t> stash_bytes, held_bytes;
};

/// How a schedule runs at given costs.
struct Timeline {
    struct Piece {
        double start = 0, end = 0;  // seconds
    };
    std::vector<std::vector<Piece>> pieces;  // as Schedule::slots
    double makespan = 0;                     // seconds
    /// Of every rank, in seconds: at work; not at work until the makespan; and the part of that between its
    /// first piece and its last. The rest is the barrier that ends a step, which overlaps with no next one.
    std::vector<double> busy, bubble, inner_bubble;
    /// The bubbles of all ranks over their work: (ranks - 1) / micro_batches of 1F1B.
    double bubble_fraction = 0;
    /// At most alive: micro-batches between F and W, and their bytes.
    std::vector<int> rank_copies, stage_copies;
    std::vector<std::int64_t> rank_bytes, stage_bytes;
};

/// Throws UsageError unless every stage has one F, B and W of every micro-batch, on its rank; names the piece
/// that is repeated, forgotten or elsewhere, with rank and slot, counted from 0.
void check_complete(Schedule const& schedule);

/// Runs a schedule on events. A slot begins when the one before it on its rank has ended, and F has F of the
/// stage before, B its own F and B of the stage behind (W, where backward is whole), W its own B;
/// `edge_seconds` later from another rank. Sends never make a rank wait. Throws UsageError for what
/// check_complete finds, for a deadlock, with the slot that every stuck rank waits in and for what, and for
/// the first slot that takes a rank over its `limit_bytes` (by rank; empty: none).
Timeline check_schedule(Schedule const& schedule, Costs const& costs = {},
                        std::vector<std::int64_t> const& limit_bytes = {});

/// Throws UsageError, with rank and slot, unless every stage does its F, its B and its W in the order of the
/// micro-batches each: losses and gradients are added up in the order of the pieces that make them.
void check_micro_order(Schedule const& schedule);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/parallel/schedule_check-inl.hpp"
#endif
