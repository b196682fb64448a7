#pragma once

#include "plait/core/inline.hpp"
#include "plait/exec/backend.hpp"
#include "plait/graph/source.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace plait {

/// The variables that programs share, in one block of device memory that is allocated when first needed.
class State {
  public:
    explicit State(std::shared_ptr<Backend> backend) : backend_(std::move(backend)) {}

    /// Adds variables that are not there yet; only before `allocate`. Two of one path are a UsageError.
    void add(std::vector<std::shared_ptr<Variable>> const& variables);

    std::vector<std::shared_ptr<Variable>> const& variables() const { return variables_; }
    std::int64_t bytes() const { return bytes_; }
    std::int64_t offset_of(Variable const& v) const;
    Backend& backend() const { return *backend_; }
    std::shared_ptr<Backend> const& shared_backend() const { return backend_; }

    /// Takes the memory and fills it: a variable's `value` where it has one, else its `init` from the seed.
    void allocate();
    /// The seed of the first values, 1 unless set; a UsageError when the memory was filled from another.
    void set_seed(std::uint64_t seed);
    std::byte* memory() const { return memory_.get(); }

    /// Copies of what a variable holds now; `allocate` first.
    Array read(Variable const& v) const;
    void write(Variable const& v, Array const& value);

    /// The sum modulo 2^64 of mix(path, logical index, bits widened to f32) over all weights: needs no order.
    /// Throws Error naming a parameter that is not finite.
    std::uint64_t parameter_hash() const;

  private:
    std::shared_ptr<Backend> backend_;
    std::vector<std::shared_ptr<Variable>> variables_;
    std::unordered_map<Variable const*, std::int64_t> offsets_;
    std::shared_ptr<std::byte[]> memory_;
    std::int64_t bytes_ = 0;
    std::uint64_t seed_ = 1;
};

/// The first value of a variable: element i depends on (seed, path, i) alone.
Array initial_value(Variable const& v, std::uint64_t seed);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/exec/state-inl.hpp"
#endif
