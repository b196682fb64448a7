#pragma once

#include "plait/core/inline.hpp"
#include "plait/graph/source.hpp"
#include "plait/parallel/layout.hpp"
#include "plait/parallel/stages.hpp"

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace plait {

/// The coordinates of the pipeline axis that hold each variable; one that is not here is on all of them.
using Holders = std::unordered_map<Variable const*, std::set<int>>;

/// The block of a variable that a rank of the mesh holds, and where it lies: an empty one where its stages
/// are others'.
std::pair<Shape, Placement> block_of(Variable const& v, Layout const& layout, Mesh const& mesh,
                                     Holders const& holders);

/// "stage 0 F": the piece of a rank's program that does a stage's work, and the slot (with micro-batch 0)
/// that such a name stands for; nothing for other pieces.
std::string piece_name(Work work, int stage);
std::optional<Slot> slot_of_piece(std::string_view name);

/// What one rank of the pipeline axis has of a program.
struct PipelineShare {
    Sections sections;
    Holders holders;
};

/// Cuts a program at its stages. `whole` is what one rank would run; every rank derives the same cut from it,
/// and keeps the pieces of its own stages, in the order of its row of the schedule. A value that another
/// stage's piece reads is sent when it is made; one that more ranks read after the loop (a loss, a tied
/// weight's gradient) is sent to each of them. A variable is on the ranks whose stages read it, and its
/// update and optimizer state with it. Folds over values of several ranks (a maximum, an integer sum) are
/// made of a part from each. Throws UsageError where the schedule's order does not let a stage read what it
/// reads, or runs micro-batches of a piece out of their order, which sums keep.
PipelineShare share_pipeline(Sections const& whole, StageCut const& cut, Schedule const& schedule, int rank,
                             std::vector<std::shared_ptr<Variable>> const& variables);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/parallel/pipeline-inl.hpp"
#endif
