#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

namespace plait {

/// How many bytes at the beginning of `text` are whole UTF-8 characters (Unicode 15, table 3-7: no overlong
/// forms, no surrogates, nothing beyond U+10FFFF).
inline std::size_t valid_utf8(std::string_view text) {
    auto const* p = reinterpret_cast<unsigned char const*>(text.data());
    auto const size = text.size();
    auto follows = [&](std::size_t i) { return i < size && (p[i] & 0xc0) == 0x80; };
    std::size_t i = 0;
    while (i < size) {
        std::uint64_t word = 0;
        while (i + 8 <= size && (std::memcpy(&word, p + i, 8), (word & 0x8080808080808080u) == 0)) i += 8;
        if (i == size) break;
        auto const c = p[i];
        if (c < 0x80) {
            ++i;
        } else if (c >= 0xc2 && c <= 0xdf) {
            if (!follows(i + 1)) break;
            i += 2;
        } else if (c >= 0xe0 && c <= 0xef) {
            if (!follows(i + 1) || !follows(i + 2)) break;
            if ((c == 0xe0 && p[i + 1] < 0xa0) || (c == 0xed && p[i + 1] > 0x9f)) break;
            i += 3;
        } else if (c >= 0xf0 && c <= 0xf4) {
            if (!follows(i + 1) || !follows(i + 2) || !follows(i + 3)) break;
            if ((c == 0xf0 && p[i + 1] < 0x90) || (c == 0xf4 && p[i + 1] > 0x8f)) break;
            i += 4;
        } else {
            break;
        }
    }
    return i;
}

}  // namespace plait
