#pragma once

#include "plait/comm/communicator.hpp"
#include "plait/train/compile.hpp"

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

// What steps computed, to be compared with what another layout computed (train/bisect.hpp).
namespace plait {

/// One value of one step: a result of the step, or a variable as the step left it.
struct RecordedValue {
    enum class Kind : std::uint8_t { result, parameter, state };

    std::int64_t step = 0;  // counted from 1
    std::string name;       // "blocks.3.out", "loss", "blocks.3.mlp.gate.weight.gradient"
    Kind kind = Kind::result;
    Meta meta{};             // of the whole
    std::uint64_t hash = 0;  // of the whole: the sum modulo 2^64 of mix(name, logical index, bits)
    double squares = 0;      // sum of squares, in f64
    double largest = 0;      // |x|; NaN where an element is not finite
    Shape block{};           // what a rank held; the whole where no axis divides the value
    /// Where each rank's block begins, nothing for a rank that has none of the value; empty where all ranks
    /// hold the whole.
    std::vector<std::optional<Shape>> origins{};
    int odd_rank = -1;  // the first whose copy is not that of an earlier rank, or -1
    Array array{};      // the whole; empty where only hashes are kept

    double rms() const;
};

/// The values of some steps of one run, step by step and in the order of the program.
struct Recording {
    std::string layout;      // "replica=1, data=2, pipeline=1, tensor=1; zero 1; bits fast"
    DType compute = f32;     // of products and activations
    bool canonical = false;  // bits = "layout"
    std::vector<RecordedValue> values{};
};

/// The bits that a hash takes of an element: f32 and what is narrower as f32, so that a value's hash does not
/// change where it is only widened.
std::uint64_t hashed_bits(Array const& a, std::int64_t element);
/// The hash of a whole array under a name; a parameter's is State::parameter_hash.
std::uint64_t hash_of(std::string const& name, Array const& whole);

/// What the step that ran last computed: its results (Plan::watch makes marked values results) and the
/// variables of its state, whose blocks are gathered from all ranks. Copies are compared. Collective on
/// `world`, the world of the step's mesh; rank 0 gets the values, other ranks nothing. `keep` keeps the
/// arrays.
std::vector<RecordedValue> recorded_values(Communicator& world, Step& step, Values const& results, bool keep);

/// Sets the blocks of a state to the variables among `values`, which have arrays; others stay. The state must
/// have memory.
void take_variables(State& state, std::vector<RecordedValue> const& values);

/// The whole batch of a step, counted from 0.
using Batches = std::function<std::map<std::string, Array>(std::int64_t step)>;

/// Runs `steps` steps and keeps all values. With `leader`, a recording of the same steps, every step starts
/// from the variables that the leader's step before left: what differs was then made in its own step, and
/// nothing has grown since.
/// Collective on `world`; rank 0 gets the values.
std::vector<RecordedValue> record_steps(Communicator& world, Step& step, Batches const& batches,
                                        std::int64_t steps, Recording const* leader = nullptr);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/train/recording-inl.hpp"
#endif
