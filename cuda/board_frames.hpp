#pragma once

#include "plait/core/check.hpp"

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

// How the board's bytes go over a connection: frames of a size and as many bytes. To the server an op, the
// size of the key, the key and the rest; back a status and what was asked for. Numbers are little-endian.
namespace plait::cuda::frames {

enum Op : std::uint8_t { hello = 1, put, append, get, erase, bye };
enum Status : std::uint8_t { fine, not_there, refused };

inline constexpr std::string_view magic = "plait board 1";
inline constexpr std::uint32_t most = 256u << 20, most_before_hello = 256;

inline void add(std::string& to, std::uint32_t n) {
    for (int i = 0; i < 4; ++i) to += static_cast<char>(n >> (8 * i) & 0xffu);
}
inline void add(std::string& to, std::string_view piece) {
    add(to, static_cast<std::uint32_t>(piece.size()));
    to += piece;
}

/// Reads a frame piece by piece, no further than its end.
class Reader {
  public:
    explicit Reader(std::string_view bytes) : bytes_(bytes) {}
    std::string_view take(std::size_t n) {
        check(n <= bytes_.size(), "a frame of the board is cut short");
        auto piece = bytes_.substr(0, n);
        bytes_.remove_prefix(n);
        return piece;
    }
    std::uint8_t byte() { return static_cast<std::uint8_t>(take(1)[0]); }
    std::uint32_t number() {
        std::uint32_t n = 0;
        auto piece = take(4);
        for (int i = 3; i >= 0; --i)
            n = n << 8 | static_cast<unsigned char>(piece[static_cast<std::size_t>(i)]);
        return n;
    }
    std::string_view piece() { return take(number()); }
    std::string_view rest() { return bytes_; }

  private:
    std::string_view bytes_;
};

}  // namespace plait::cuda::frames
