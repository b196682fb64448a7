#pragma once

#include "../cpu/kernel_cases.hpp"
#include "cuda/table.cuh"

#include "catch.hpp"

#include <memory>
#include <vector>

/// Runs of the kernels of cuda/ on the host.
namespace tests {

namespace gpu = plait::cuda;

template <class T>
inline constexpr plait::DType dtype_of = sizeof(T) == 2 ? plait::bf16 : plait::f32;

/// A tensor with exactly as much memory as it needs, `shift` elements off an address that is a multiple
/// of 16.
template <class T>
class Memory {
  public:
    explicit Memory(std::int64_t n, std::int64_t shift = 0)
        : n_(n), shift_(shift), data_(new std::byte[bytes(n + shift)]) {
        std::memset(data_.get(), 0xA5, bytes(n + shift));
    }
    explicit Memory(Numbers const& x, std::int64_t shift = 0) : Memory(x.size(), shift) {
        std::memcpy(get(), x.data(), bytes(n_));
    }

    T* get() const { return reinterpret_cast<T*>(data_.get()) + shift_; }
    T& operator[](std::int64_t i) const { return get()[i]; }
    Numbers numbers(plait::DType type, plait::Shape shape) const {
        Numbers x({type, shape});
        plait::check(x.meta().bytes() == static_cast<std::int64_t>(bytes(n_)), "another size");
        std::memcpy(x.data(), get(), bytes(n_));
        return x;
    }

  private:
    static std::size_t bytes(std::int64_t n) { return static_cast<std::size_t>(n) * sizeof(T); }

    std::int64_t n_, shift_;
    std::unique_ptr<std::byte[]> data_;
};

/// What run(order) gives, which must be the same bits whether blocks and threads run forward or backward.
template <class F>
std::vector<Numbers> in_both_orders(F run) {
    std::vector<Numbers> one = run(gpu::Order::forward), other = run(gpu::Order::backward);
    REQUIRE(one.size() == other.size());
    for (std::size_t i = 0; i < one.size(); ++i) {
        INFO("output " << i);
        REQUIRE(same_bits(one[i], other[i]));
    }
    return one;
}

/// Rounding apart: the hardware's exp and reciprocal and other orders of sums are within these.
inline double tolerance(plait::DType t) { return t == plait::bf16 ? 0.008 : 4e-6; }

/// The outputs of a kernel against those of the CPU's.
inline void same(std::vector<Numbers> const& got, std::vector<Numbers> const& want) {
    REQUIRE(got.size() == want.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
        INFO("output " << i);
        REQUIRE(got[i].meta() == want[i].meta());
        REQUIRE(difference(got[i], want[i]) <= tolerance(want[i].meta().dtype));
    }
}

}  // namespace tests
