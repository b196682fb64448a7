#pragma once

#include "plait/core/inline.hpp"
#include "plait/exec/backend.hpp"
#include "plait/graph/source.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace plait {

/// Bytes that a block takes of a state, or of a copy of one: blocks begin at multiples of 64.
inline std::int64_t placed_bytes(Meta const& block) { return (block.bytes() + 63) / 64 * 64; }

/// The variables that programs share, in one block of device memory that is allocated when first needed.
class State {
  public:
    explicit State(std::shared_ptr<Backend> backend) : backend_(std::move(backend)) {}

    /// Adds variables that are not there yet; only before `allocate`. Two of one path are a UsageError.
    void add(std::vector<std::shared_ptr<Variable>> const& variables);

    std::vector<std::shared_ptr<Variable>> const& variables() const { return variables_; }
    /// Keeps only a block of `shape` at `place` of a variable. The variables of programs that share a state
    /// are laid out alike: another block than the one that a program was compiled on is a UsageError.
    void set_block(Variable const& v, Shape const& shape, Placement place);
    /// The blocks that are here stay as they are from now on: a program counts on them.
    void settle();
    bool settled(Variable const& v) const { return entry(v).settled; }
    /// How many stages the first program has that a pipeline divides, and that of every module; later ones
    /// are divided alike.
    struct Stages {
        int count = 0;
        std::vector<std::pair<std::string, int>> modules{};
    };
    Stages const& stages() const { return stages_; }
    void set_stages(Stages stages) { stages_ = std::move(stages); }
    /// What this state holds of a variable: dtype and shape of the block, and where it lies.
    Meta const& block_of(Variable const& v) const { return entry(v).block; }
    Placement const& place_of(Variable const& v) const { return entry(v).place; }

    /// Of all blocks; `offset_of` counts from the start of the memory.
    std::int64_t bytes() const;
    std::int64_t offset_of(Variable const& v) const;
    Backend& backend() const { return *backend_; }
    std::shared_ptr<Backend> const& shared_backend() const { return backend_; }

    /// Takes the memory and fills it: a variable's `value` where it has one, else its `init` from the seed.
    void allocate();
    /// The seed of the first values, 1 unless set; a UsageError when the memory was filled from another.
    void set_seed(std::uint64_t seed);
    std::byte* memory() const { return memory_.get(); }

    /// Copies of what a variable's block holds now; `allocate` first.
    Array read(Variable const& v) const;
    void write(Variable const& v, Array const& block);

    /// The sum modulo 2^64 of mix(path, logical index, bits widened to f32) over the block of a parameter:
    /// needs no order, and leaves padding out. Throws Error naming one that is not finite.
    std::uint64_t parameter_hash(Variable const& v) const;
    /// The same over all weights.
    std::uint64_t parameter_hash() const;

  private:
    struct Entry {
        Meta block;
        Placement place;
        std::int64_t offset = 0;
        bool settled = false;
    };
    Entry const& entry(Variable const& v) const;
    void lay_out() const;

    std::shared_ptr<Backend> backend_;
    std::vector<std::shared_ptr<Variable>> variables_;
    mutable std::unordered_map<Variable const*, Entry> entries_;
    mutable std::int64_t bytes_ = -1;  // -1: offsets are yet to be given
    std::shared_ptr<std::byte[]> memory_;
    std::uint64_t seed_ = 1;
    Stages stages_;
};

/// The first value of a block of a variable: logical element i depends on (seed, path, i) alone.
Array initial_value(Variable const& v, std::uint64_t seed, Shape const& block, Placement const& place = {});
inline Array initial_value(Variable const& v, std::uint64_t seed) {
    return initial_value(v, seed, v.meta.shape);
}

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/exec/state-inl.hpp"
#endif
