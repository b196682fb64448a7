#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "plait/comm/communicator.hpp"
#include "plait/exec/trace_log.hpp"
#include "plait/train/compile.hpp"

namespace plait::tools {

/// What --trace asks for.
struct TraceRequest {
    std::string file;
    std::int64_t steps = 1;
};

/// Traces some steps of a run and writes the file of all ranks; all make the same calls. The first two steps
/// are left out where the run has more, as they warm up.
class Tracer {
  public:
    /// For a run of the steps from `first` to `last`.
    Tracer(TraceRequest request, Step& step, Communicator& world, std::int64_t first, std::int64_t last);

    /// Before each step; the ranks meet before the first that is traced.
    void before(std::int64_t step);
    /// After each step: after the last that is traced the file is written, and rank 0 gets a line about it.
    std::optional<std::string> after(std::int64_t step);
    /// Where the run ends earlier.
    std::optional<std::string> end();

  private:
    std::optional<std::string> write();

    TraceRequest request_;
    Step& step_;
    Communicator& world_;
    std::int64_t first_, last_;
    std::int64_t origin_ = 0;
    bool done_ = false;
    std::int64_t traced_ = 0;
    std::int64_t oldest_ = 0, newest_ = 0;  // of the traced steps: after a rollback they come again
    TraceLog log_;
};

}  // namespace plait::tools
