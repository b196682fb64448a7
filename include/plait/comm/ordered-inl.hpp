#pragma once

#include "plait/comm/ordered.hpp"

#include <algorithm>
#include <bit>
#include <type_traits>

namespace plait {

namespace detail {

inline constexpr std::int64_t combine_tile =
    256;  // elements; a tile of every level of the tree lies on the stack

template <class T>
struct Accumulator {
    using type = T;
};
template <>
struct Accumulator<Bf16> {
    using type = float;
};

template <Combine how, class A>
A combine(A a, A b) {
    if constexpr (how == Combine::max) return a > b || a != a ? a : b;
    else if constexpr (std::is_integral_v<A>) {
        using U = std::make_unsigned_t<A>;
        return static_cast<A>(static_cast<U>(a) + static_cast<U>(b));
    } else return a + b;
}

template <Combine how, class T, class A>
void combine_tree(std::span<std::byte const* const> inputs, std::int64_t first, std::int64_t n, A* result) {
    if (inputs.size() == 1) {
        auto const* x = reinterpret_cast<T const*>(inputs[0]) + first;
        for (std::int64_t i = 0; i < n; ++i) result[i] = static_cast<A>(x[i]);
        return;
    }
    A right[combine_tile];
    auto left = std::bit_floor(inputs.size() - 1);
    combine_tree<how, T>(inputs.first(left), first, n, result);
    combine_tree<how, T>(inputs.subspan(left), first, n, right);
    // As stored after every step, so that a sum whose lower part was made and stored before is the same.
    for (std::int64_t i = 0; i < n; ++i)
        result[i] = static_cast<A>(static_cast<T>(combine<how>(result[i], right[i])));
}

template <Combine how, class T>
void combine_all(std::span<std::byte const* const> inputs, std::byte* out, std::int64_t count) {
    using A = typename Accumulator<T>::type;
    A result[combine_tile];
    auto* y = reinterpret_cast<T*>(out);
    for (std::int64_t first = 0; first < count; first += combine_tile) {
        auto n = std::min(combine_tile, count - first);
        combine_tree<how, T>(inputs, first, n, result);
        for (std::int64_t i = 0; i < n; ++i) y[first + i] = static_cast<T>(result[i]);
    }
}

}  // namespace detail

PLAIT_INLINE void check_combine(Combine how, DType dtype) {
    bool ok = how == Combine::integer_sum ? dtype == i32 || dtype == i64 : dtype != u8;
    check<UsageError>(ok, "{} of {} over ranks: {}", name_of(how), name_of(dtype),
                      how == Combine::integer_sum ? "use i32 or i64" : "use f32, bf16, f64, i32 or i64");
}

PLAIT_INLINE void ordered_combine(Combine how, DType dtype, std::span<std::byte const* const> inputs,
                                  std::byte* out, std::int64_t count) {
    check_combine(how, dtype);
    bool max = how == Combine::max;
    auto run = [&]<class T>(T) {
        if (max) detail::combine_all<Combine::max, T>(inputs, out, count);
        else detail::combine_all<Combine::sum, T>(inputs, out, count);
    };
    switch (dtype) {
        case DType::f32:
            return run(float{});
        case DType::bf16:
            return run(Bf16{});
        case DType::f64:
            return run(double{});
        case DType::i32:
            return run(std::int32_t{});
        case DType::i64:
            return run(std::int64_t{});
        case DType::u8:
            break;  // refused above
    }
}

}  // namespace plait
