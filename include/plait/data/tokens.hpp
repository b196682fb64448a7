#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "plait/core/check.hpp"

namespace plait {

/// Tokens that lie in memory of others, one run after another: bytes of text, or mapped files. It owns
/// nothing.
class Tokens {
  public:
    Tokens() = default;
    /// Each byte is a token.
    Tokens(std::span<std::uint8_t const> bytes) { add(bytes); }
    Tokens(std::vector<std::uint8_t> const& bytes) : Tokens(std::span(bytes)) {}

    /// Appends a run of tokens of 1, 2 or 4 bytes each, unsigned.
    template <class T>
    void add(std::span<T const> tokens) {
        static_assert(sizeof(T) <= 4 && std::is_unsigned_v<T>);
        if (tokens.empty()) return;
        runs_.push_back({tokens.data(), size_, static_cast<int>(sizeof(T))});
        size_ += static_cast<std::int64_t>(tokens.size());
    }

    std::int64_t size() const { return size_; }

    /// Copies tokens [begin, begin + count), across runs.
    void copy(std::int64_t begin, std::int64_t count, std::int32_t* out) const {
        check(begin >= 0 && count >= 0 && count <= size_ - begin, "tokens {} to {} are not among {}", begin,
              begin + count, size_);
        auto run = std::upper_bound(runs_.begin(), runs_.end(), begin,
                                    [](std::int64_t b, Run const& r) { return b < r.begin; });
        while (count > 0) {
            auto const end = run == runs_.end() ? size_ : run->begin;
            auto const& r = run[-1];
            auto const n = std::min(count, end - begin);
            if (r.width == 1) copy_run<std::uint8_t>(r, begin, n, out);
            else if (r.width == 2) copy_run<std::uint16_t>(r, begin, n, out);
            else copy_run<std::uint32_t>(r, begin, n, out);
            begin += n, count -= n, out += n, ++run;
        }
    }

  private:
    struct Run {
        void const* data;
        std::int64_t begin;  // of its first token
        int width;           // bytes of a token
    };

    template <class T>
    static void copy_run(Run const& run, std::int64_t begin, std::int64_t count, std::int32_t* out) {
        auto const* from = static_cast<T const*>(run.data) + (begin - run.begin);
        std::transform(from, from + count, out, [](T t) { return static_cast<std::int32_t>(t); });
    }

    std::vector<Run> runs_;
    std::int64_t size_ = 0;
};

}  // namespace plait
