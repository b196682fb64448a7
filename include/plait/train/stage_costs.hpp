#pragma once

#include "plait/core/inline.hpp"
#include "plait/exec/program.hpp"
#include "plait/exec/trace_log.hpp"
#include "plait/parallel/schedule_check.hpp"

#include <vector>

namespace plait {

/// F, B and W of `stages` stages as a rank of a pipeline has measured them: means over the micro-batches and
/// steps of its log, without the waits for messages of the pipeline. Those of stages on other ranks are 0.
Costs measured_costs(Program const& program, TraceLog const& log, int stages);

/// What F, and what B, leaves of one micro-batch for later pieces of its stage, in bytes, as a rank's program
/// has planned it. Those of stages on other ranks are 0.
Costs stash_costs(Program const& program, int stages);

/// The costs of all stages from those that each rank has measured, or planned.
Costs joined_costs(std::vector<Costs> const& of_ranks);

/// From the first piece of a stage to the end of the last one in each step of a rank's log, on its own clock.
struct PipelineSpan {
    std::int64_t start = 0, end = 0;  // nanoseconds
};
std::vector<PipelineSpan> pipeline_spans(Program const& program, TraceLog const& log);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/train/stage_costs-inl.hpp"
#endif
