#pragma once

#include "plait/core/check.hpp"

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

namespace plait {

/// Element types known at run time. A new one (f16, fp8, fp4) is a row of `dtype_table`.
enum class DType : std::uint8_t { f32, bf16, f64, i32, i64, u8 };

inline constexpr DType f32 = DType::f32;
inline constexpr DType bf16 = DType::bf16;
inline constexpr DType f64 = DType::f64;
inline constexpr DType i32 = DType::i32;
inline constexpr DType i64 = DType::i64;
inline constexpr DType u8 = DType::u8;

struct DTypeRow {
    std::string_view name;
    std::string_view safetensors;  // the name in a safetensors header
    int bits;
    bool floating;
};

inline constexpr std::array<DTypeRow, 6> dtype_table{{
    {"f32", "F32", 32, true},
    {"bf16", "BF16", 16, true},
    {"f64", "F64", 64, true},
    {"i32", "I32", 32, false},
    {"i64", "I64", 64, false},
    {"u8", "U8", 8, false},
}};

constexpr DTypeRow const& row_of(DType t) { return dtype_table[static_cast<std::size_t>(t)]; }
constexpr std::string_view name_of(DType t) { return row_of(t).name; }
constexpr bool is_floating(DType t) { return row_of(t).floating; }

/// Bytes of `elements` elements; sub-byte types round up to whole bytes.
constexpr std::int64_t bytes_of(DType t, std::int64_t elements) {
    return (elements * row_of(t).bits + 7) / 8;
}

/// The dtype called `name` ("f32", "bf16", ...); throws UsageError with the known names.
inline DType parse_dtype(std::string_view name) {
    std::string known;
    for (std::size_t i = 0; i < dtype_table.size(); ++i) {
        if (dtype_table[i].name == name) return static_cast<DType>(i);
        known += (i ? ", " : "") + std::string(dtype_table[i].name);
    }
    fail<UsageError>("unknown dtype '{}': use one of {}", name, known);
}

/// bfloat16 in storage; arithmetic happens in float.
struct Bf16 {
    std::uint16_t bits = 0;

    Bf16() = default;
    /// Rounds to nearest, ties to even; NaN stays a quiet NaN.
    explicit constexpr Bf16(float x) {
        auto u = std::bit_cast<std::uint32_t>(x);
        bits = (u & 0x7fffffffu) > 0x7f800000u
                   ? static_cast<std::uint16_t>((u >> 16) | 0x40u)
                   : static_cast<std::uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
    }
    explicit constexpr operator float() const {
        return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
    }
};

template <class T>
inline constexpr DType dtype_of = [] {
    if constexpr (std::is_same_v<T, float>) return DType::f32;
    else if constexpr (std::is_same_v<T, Bf16>) return DType::bf16;
    else if constexpr (std::is_same_v<T, double>) return DType::f64;
    else if constexpr (std::is_same_v<T, std::int32_t>) return DType::i32;
    else if constexpr (std::is_same_v<T, std::int64_t>) return DType::i64;
    else {
        static_assert(std::is_same_v<T, std::uint8_t>, "no dtype for this C++ type");
        return DType::u8;
    }
}();

}  // namespace plait
