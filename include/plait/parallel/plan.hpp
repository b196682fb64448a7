#pragma once

#include "plait/core/inline.hpp"
#include "plait/graph/graph.hpp"
#include "plait/parallel/mesh.hpp"
#include "plait/parallel/schedule.hpp"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace plait {

/// What a store line keeps divided.
enum class Stored : std::uint8_t { parameter, gradient, optimizer, activation };
constexpr std::string_view name_of(Stored what) {
    constexpr std::string_view names[] = {"parameter", "gradient", "optimizer", "activation"};
    return names[static_cast<std::size_t>(what)];
}

/// One line about where values are: `shard GLOB AXIS DIM` divides the work on a parameter or marked
/// activation, `store GLOB AXIS DIM of KIND` only what is kept of it. DIM counts from 0; `*` is the first dim
/// that the axis divides, and a value without one stays whole.
struct PlanLine {
    static constexpr int first_dim = -1;

    bool stores = false;
    std::string glob, axis;
    int dim = 0;                      // or first_dim
    Stored what = Stored::parameter;  // of a store line

    bool operator==(PlanLine const&) const = default;
};
/// "store ** data * of optimizer"
std::string to_string(PlanLine const& line);
/// Throws UsageError that names the line and what is wrong with it.
PlanLine parse_plan_line(std::string const& text);

/// What a run promises of its bits.
enum class Bits : std::uint8_t {
    fast,    // those of its layout
    layout,  // the same on every layout that the granularity covers
};

/// The leaves of canonical sums, powers of two: the batch is cut into `batch` leaves, equal runs of which
/// make `data` virtual data ranks; dims that a shard line names are cut into `tensor` leaves.
struct Granularity {
    std::int64_t batch = 8, data = 8, tensor = 2;

    bool operator==(Granularity const&) const = default;
};

/// The schedule of so many pipeline ranks for so many micro-batches of a rank.
using ScheduleOf = std::function<Schedule(int ranks, int micro_batches)>;

/// A number of a plan that does not go together with its mesh.
struct Misfit {
    std::string key, value;  // "micro_batches" and "6", "mesh" and "data=3", "bits_granularity.data" and "4"
    std::string text;        // what it should be
};
/// The first of a mesh of these sizes, if any: micro-batches, over ranks and time together, that do not
/// divide over the ranks; under Bits::layout what is no power of two, or beyond the granularity: with the
/// value that would cover it.
std::optional<Misfit> misfit(MeshSizes const& sizes, std::int64_t micro_batches, Bits bits,
                             Granularity const& granularity);

/// Where and how a program runs; the model says only what. Each call adds a line:
///     Plan(mesh).zero(2).micro_batches(8).recompute("blocks.*").compute(bf16)
class Plan {
  public:
    Plan() = default;
    explicit Plan(Mesh mesh) : mesh_(std::move(mesh)) {}

    /// Divides the work on what `glob` names along dim `dim` over a mesh axis.
    Plan& shard(std::string glob, std::string axis, int dim) {
        return line({false, std::move(glob), std::move(axis), dim, {}});
    }
    /// Divides what is kept, not the work: gathered where it is needed.
    Plan& store(std::string glob, std::string axis, int dim, Stored what = Stored::activation) {
        return line({true, std::move(glob), std::move(axis), dim, what});
    }
    Plan& line(PlanLine line);
    /// A line as text, or a preset: "megatron tensor", "sequence tensor", "zero 2".
    Plan& line(std::string const& text);
    /// ZeRO over the data axis as store lines: 1 divides the optimizer's state, 2 gradients too, 3 parameters
    /// too. Rajbhandari et al., "ZeRO", 2020.
    Plan& zero(int level);
    /// Tensor parallelism as shard lines over `axis`, for the names that models/ and Hugging Face use:
    /// columns of q, k, v, gate, up and their biases, rows of o and down, the vocabulary of tokens and head.
    /// Shoeybi et al., "Megatron-LM", 2019.
    Plan& megatron(std::string const& axis);
    /// The residual stream divided along the sequence between blocks, as store lines over `axis`. Korthikanti
    /// et al., "Reducing activation recomputation in large transformer models", 2022.
    Plan& sequence(std::string const& axis);
    /// Divides the modules that `glob` names over the pipeline axis, in runs that cost alike, and runs them
    /// by a schedule of schedule_table(), with `virtual_stages` on every rank. Ignored on a pipeline axis of
    /// one rank.
    Plan& stages(std::string glob, std::string const& schedule = "1f1b", int virtual_stages = 1);
    /// The same with a glob for every stage, or one for all, and any schedule.
    Plan& stages(std::vector<std::string> globs, ScheduleOf schedule);
    /// Cuts the batch into `count` pieces, over ranks and time together: a rank runs its share of them one
    /// after another and adds up their gradients.
    Plan& micro_batches(std::int64_t count);
    /// Modules whose forward nodes are run again for backward instead of being kept.
    Plan& recompute(std::string glob) {
        recompute_.push_back(std::move(glob));
        return *this;
    }
    /// Marked values whose names `glob` matches ("blocks.*.out", "**.gradient") become results of the step,
    /// whole on every rank. Nothing else about the program changes its bits.
    Plan& watch(std::string glob) {
        watched_.push_back(std::move(glob));
        return *this;
    }
    /// The dtype of products and activations; master weights, sums and updates stay f32. In f64 a step tells
    /// how much others round.
    Plan& compute(DType dtype);
    /// Bits::layout makes every sum canonical. Throws UsageError where a number is no power of two.
    Plan& bits(Bits bits, Granularity granularity = {});

    Mesh const& mesh() const { return mesh_; }
    std::vector<PlanLine> const& lines() const { return lines_; }
    std::int64_t micro_batches() const { return micro_batches_; }
    /// Of one rank, in time. Throws UsageError for a misfit.
    std::int64_t local_micro_batches() const;
    std::vector<std::string> const& stages() const { return stages_; }
    /// Of the pipeline axis; throws UsageError where there are no stages, or the schedule cannot be.
    Schedule schedule() const;
    std::vector<std::string> const& recompute() const { return recompute_; }
    std::vector<std::string> const& watched() const { return watched_; }
    DType compute() const { return compute_; }
    Bits bits() const { return bits_; }
    Granularity const& granularity() const { return granularity_; }

  private:
    Mesh mesh_;
    std::vector<PlanLine> lines_;
    std::int64_t micro_batches_ = 1;
    std::vector<std::string> recompute_, watched_, stages_;
    ScheduleOf schedule_;
    DType compute_ = f32;
    Bits bits_ = Bits::fast;
    Granularity granularity_;
};

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/parallel/plan-inl.hpp"
#endif
