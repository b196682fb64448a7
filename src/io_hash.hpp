#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>

#include <fmt/core.h>

#if defined(PLAIT_HAS_XXHASH)
#define XXH_INLINE_ALL
#include <xxhash.h>
#endif

namespace plait {

/// XXH64 of bytes that come in pieces; without xxHash at build time it knows no digest.
class ByteHash {
  public:
#if defined(PLAIT_HAS_XXHASH)
    ByteHash() { XXH64_reset(&state_, 0); }
    void update(std::span<std::byte const> bytes) { XXH64_update(&state_, bytes.data(), bytes.size()); }
    /// 16 hex digits.
    std::optional<std::string> digest() const { return fmt::format("{:016x}", XXH64_digest(&state_)); }

  private:
    XXH64_state_t state_;
#else
    void update(std::span<std::byte const>) {}
    std::optional<std::string> digest() const { return std::nullopt; }
#endif
};

}  // namespace plait
