#pragma once

#include "plait/comm/communicator.hpp"
#include "plait/core/inline.hpp"
#include "plait/exec/program.hpp"
#include "plait/exec/state.hpp"
#include "plait/exec/trace_log.hpp"

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace plait {

/// Memory that programs take turns in; as large as the largest of them.
class Scratch {
  public:
    explicit Scratch(std::shared_ptr<Backend> backend) : backend_(std::move(backend)) {}
    /// Makes room for a program; only grows.
    void reserve(std::int64_t bytes) { bytes_ = std::max(bytes_, bytes); }
    std::int64_t bytes() const { return bytes_; }
    /// The memory, taken at the first call and again after it had to grow.
    std::byte* memory();

  private:
    std::shared_ptr<Backend> backend_;
    std::shared_ptr<std::byte[]> memory_;
    std::int64_t bytes_ = 0, held_ = 0;
};

/// The communicator along a mesh axis, or null.
using Communicators = std::function<Communicator*(std::string_view axis)>;

/// Runs a program over a state and a scratch region, which may be shared with other programs.
class Executor {
  public:
    /// `along` is asked when the first step runs, for every axis that the program has collectives on.
    Executor(Program program, std::shared_ptr<State> state, std::shared_ptr<Scratch> scratch,
             Communicators along = {});

    /// One step: batch columns in, results out. `batch` names each column's array, whose meta must match.
    /// After the first call the only memory of 64 KiB or more that it takes is for results of that size.
    std::vector<std::pair<std::string, Array>> run(std::map<std::string, Array> const& batch,
                                                   StepInfo const& at);

    /// From the next step on every instruction is waited for and what it wrote looked at: an Error names the
    /// first one that gives a NaN.
    void check_values(bool on) { checks_values_ = on; }

    /// From the next step on its times are added to `log`; with null, as at first, no clock is read.
    void trace(TraceLog* log) { log_ = log; }

    Program const& program() const { return program_; }

  private:
    void bind();
    void write_inputs(std::map<std::string, Array> const& batch, StepInfo const& at);
    /// Asks for all of a step, or replays what was once asked for.
    void step();
    void record_step();
    void visit_all();
    void check_values_of(int number) const;
    void visit(std::int64_t number);
    void perform(int number, int micro);
    /// How many instructions from `number` on, before `last`, are called in one go.
    int joined(int number, int last, int micro);
    void perform_joined(int number, int count, int micro);
    void move(int number, int micro);
    KernelCall kernel_call(int number, int micro) const;
    /// "rms_norm in blocks.2.norm", or from one to the other.
    std::string where(DeviceFault const& fault) const;
    void start(Instruction const& instruction, std::span<Buffer const> in, std::span<Buffer const> out,
               int micro);
    Pending& pending(int number, int micro) { return pending_[transfer(number, micro)]; }
    std::size_t transfer(int number, int micro) const {
        return static_cast<std::size_t>(number) * static_cast<std::size_t>(program_.micro_batches) +
               static_cast<std::size_t>(micro);
    }
    /// Room for all events of a step.
    void prepare_log();
    std::int64_t now() const { return log_ ? TraceLog::now() : 0; }
    void note(TraceLog::What what, std::int64_t index, int micro, std::int64_t start) {
        if (log_) log_->events.push_back({what, index, micro, start, TraceLog::now(), 0});
    }
    void note_instruction(int number, int micro, std::int64_t start);
    std::byte* address(Operand const& o, int micro) const;

    Program program_;
    std::shared_ptr<State> state_;
    std::shared_ptr<Scratch> scratch_;
    std::byte* scratch_memory_ = nullptr;
    struct Bound {
        std::vector<Buffer> in, out;
        bool moves = false;  // some operand is a block of a micro-batch
    };
    std::vector<Bound> bound_;
    std::unique_ptr<RecordedStep> recording_;
    bool asked_ = false;  // a step was asked for piece by piece since the places were bound
    /// What the recording sends, by communicator.
    std::vector<std::pair<Communicator*, std::vector<TrafficRow>>> recorded_traffic_;
    Communicators along_;
    std::map<std::string, Communicator*> axes_;
    std::vector<Pending> pending_;  // by number of the collective, then micro-batch
    bool checks_values_ = false;
    TraceLog* log_ = nullptr;
    struct Started {
        int instruction = 0;
        std::int64_t at = 0;
    };
    std::vector<Started> started_;  // as pending_, where there is a log
};

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/exec/executor-inl.hpp"
#endif
