#pragma once

#include <cstdint>
#include <string_view>

namespace plait {

/// How addends or the values of several ranks become one. `integer_sum` is a sum modulo 2^bits, so its order
/// is free.
enum class Combine : std::uint8_t { sum, max, integer_sum };
constexpr std::string_view name_of(Combine how) {
    constexpr std::string_view names[] = {"sum", "max", "integer_sum"};
    return names[static_cast<std::size_t>(how)];
}

}  // namespace plait
