#pragma once

#include "plait/comm/call.hpp"
#include "plait/core/inline.hpp"
#include "plait/exec/backend.hpp"
#include "plait/graph/sections.hpp"
#include "plait/graph/source.hpp"

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace plait {

/// `state` holds the variables and outlives programs; `scratch` is a program's own, overlaid by others
/// between runs.
enum class Region : std::uint8_t { state, scratch };

/// A tensor at its planned place. A block of a micro-batch moves by `micro_stride` from one to the next.
struct Operand {
    Region region = Region::scratch;
    std::int64_t offset = 0, micro_stride = 0;  // bytes
    Meta meta;
    Placement block;               // in its logical tensor, for the first micro-batch
    int copies = -1;               // which of the program's tables of copies says where it lies now, or -1
    std::int64_t copy_stride = 0;  // bytes
    int micro_dim = -1;            // the dim along which micro-batches follow each other, or -1
    std::int64_t micro_step = 0;   // elements of it from one to the next
};

/// What an instruction asks of the ranks along a mesh axis; a message goes to or comes from one of them.
struct Collective {
    Verb verb = Verb::all_reduce;
    std::string axis;
    Combine how = Combine::sum;
    int number = 0;  // of the program's collectives
    int site = 0;    // among all, in the order of the graph: the same on all ranks that take part
    int peer = -1;   // of a message: the other side
};

/// A kernel's call, a collective's start, or the wait for one.
struct Instruction {
    AnyOp op;
    KernelRow const* row = nullptr;  // of a kernel
    std::vector<Operand> in, out;
    std::int64_t workspace = 0, workspace_bytes = 0;  // in scratch
    std::uint32_t accumulate = 0;                     // outputs that every micro-batch but the first adds to
    Origin origin;
    std::optional<Collective> collective;
    int awaits = -1;  // number of the collective
};

/// Bytes of an arena by what they hold. Scratch rows are those alive when most is alive; `gaps` is what the
/// placement adds to that.
struct MemoryTable {
    std::int64_t weights = 0, optimizer = 0, other_state = 0;
    /// `stash`: what a pipeline keeps of micro-batches that are under way.
    std::int64_t gradients = 0, activations = 0, stash = 0, inputs = 0, workspace = 0, gaps = 0;

    std::int64_t state() const { return weights + optimizer + other_state; }
    std::int64_t scratch() const { return gradients + activations + stash + inputs + workspace + gaps; }
    std::int64_t total() const { return state() + scratch(); }
};

/// What a backend runs: kernels at fixed addresses, in order. Nothing in it depends on the numbers of a step.
struct Program {
    /// Instructions [first, last), run once a visit.
    struct Piece {
        std::string name;
        int first = 0, last = 0;
    };
    struct Visit {
        int piece = 0, micro = 0;
    };

    std::vector<Instruction> instructions;
    std::vector<Piece> pieces;
    std::vector<Visit> visits;
    std::int64_t micro_batches = 1;
    /// What several micro-batches hold at one time has as many copies; each table says which of them is that
    /// of a micro-batch.
    struct Copies {
        int count = 1;
        std::vector<int> of_micro;
    };
    std::vector<Copies> copies;

    struct Input {
        std::string name;
        Operand at;
        Source source;
    };
    std::vector<Input> batch, feeds, constants;
    struct Result {
        std::string name;
        Operand at;
    };
    std::vector<Result> results;

    /// A piece of the memory plan. In scratch others may have its bytes before instruction `first` and after
    /// `last`; a variable keeps its own.
    struct Place {
        Region region = Region::scratch;
        std::int64_t offset = 0, bytes = 0;
        int first = 0, last = 0;
        std::int64_t MemoryTable::*kind = nullptr;
        std::string name;  // a variable's path, or the module and the op that it was made for
    };
    std::vector<Place> places;

    int collectives = 0;  // how many instructions start one
    std::int64_t scratch_bytes = 0;
    MemoryTable memory;

    /// Every instruction with its operands' places; then the visits.
    std::string text() const;
};

/// Where a variable lies in the state region, in bytes.
using StateOffset = std::function<std::int64_t(Variable const&)>;

/// Gives every value a place and every node a kernel. Views share their input's place, updates their
/// variable's, and elementwise results take the place of an input that is read for the last time.
Program emit(Sections const& sections, Backend const& backend, StateOffset const& state_offset);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/exec/program-inl.hpp"
#endif
