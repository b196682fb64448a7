#pragma once

// Elements of a dtype that is known at run time, and integers.

#include "cuda/device/pack.cuh"

namespace plait::cuda {

enum class Type : std::uint8_t { f32, bf16, i32, i64, u8 };

/// x in another type as the CPU's casts have it: between integers and floats by way of a double.
template <class To, class From>
PLAIT_BOTH To converted(From x) {
    if constexpr (std::is_integral_v<From> && std::is_floating_point_v<To>)
        return static_cast<To>(static_cast<double>(x));
    else return static_cast<To>(x);
}
PLAIT_BOTH Bf16 to_bf16(float x) { return Bf16{static_cast<std::uint16_t>(bf16_pair(x, 0.0f))}; }

/// A tensor to read. C, the type to compute in, is float or std::int64_t.
struct Source {
    void const* data;
    Type type;

    template <class C>
    PLAIT_DEVICE C load(std::int64_t i) const {
        switch (type) {
            case Type::f32:
                return converted<C>(static_cast<float const*>(data)[i]);
            case Type::bf16:
                return converted<C>(to_float(static_cast<Bf16 const*>(data)[i]));
            case Type::i32:
                return converted<C>(static_cast<std::int32_t const*>(data)[i]);
            case Type::i64:
                return converted<C>(static_cast<std::int64_t const*>(data)[i]);
            default:
                return converted<C>(static_cast<std::uint8_t const*>(data)[i]);
        }
    }
};

/// A tensor to write.
struct Target {
    void* data;
    Type type;

    PLAIT_BOTH Source source() const { return {data, type}; }

    template <class C>
    PLAIT_DEVICE void store(std::int64_t i, C x) const {
        switch (type) {
            case Type::f32:
                static_cast<float*>(data)[i] = converted<float>(x);
                break;
            case Type::bf16:
                static_cast<Bf16*>(data)[i] = to_bf16(converted<float>(x));
                break;
            case Type::i32:
                static_cast<std::int32_t*>(data)[i] = converted<std::int32_t>(x);
                break;
            case Type::i64:
                static_cast<std::int64_t*>(data)[i] = converted<std::int64_t>(x);
                break;
            default:
                static_cast<std::uint8_t*>(data)[i] = converted<std::uint8_t>(x);
        }
    }
};

/// The greater; NaN when one is NaN.
template <class C>
PLAIT_BOTH C greater(C a, C b) {
    return a > b || a != a ? a : b;
}
template <class C>
PLAIT_BOTH C lesser(C a, C b) {
    return a < b || a != a ? a : b;
}

/// Elements of a tensor as another lies over them, dim by dim: sizes, and strides in units of elements.
template <int tensors>
struct Strides {
    static constexpr int most = 8;
    int rank;
    std::int64_t size[most], stride[tensors][most];

    /// Where element i of all, row-major, is in each tensor, added to `offset`.
    PLAIT_DEVICE void find(std::int64_t i, std::int64_t (&offset)[tensors]) const {
        for (int d = rank - 1; d > 0; --d) {
            std::int64_t rest = quotient(i, size[d]), at = i - rest * size[d];
            PLAIT_UNROLL
            for (int k = 0; k < tensors; ++k) offset[k] += at * stride[k][d];
            i = rest;
        }
        PLAIT_UNROLL
        for (int k = 0; k < tensors; ++k) offset[k] += i * stride[k][0];
    }
};

}  // namespace plait::cuda
