#pragma once

// Elements in storage and in registers.

#include "cuda/device/block.cuh"

namespace plait::cuda {

/// bfloat16 in storage; arithmetic happens in float.
struct Bf16 {
    std::uint16_t bits;
};

PLAIT_BOTH float to_float(float x) { return x; }
PLAIT_BOTH float to_float(Bf16 x) {
    return __builtin_bit_cast(float, static_cast<std::uint32_t>(x.bits) << 16);
}

/// Two floats rounded to bf16, to nearest and ties to even, the first in the low half.
PLAIT_BOTH std::uint32_t bf16_pair(float low, float high) {
#ifdef __CUDA_ARCH__
    std::uint32_t pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
#else
    auto rounded = [](float x) {
        auto u = __builtin_bit_cast(std::uint32_t, x);
        return (u & 0x7fffffffu) > 0x7f800000u ? 0x7fffu : (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    };
    return rounded(low) | rounded(high) << 16;
#endif
}

/// `n` consecutive elements as they are stored, moved by accesses of 16 bytes (8 where there are no more).
template <class T, int n = 16 / static_cast<int>(sizeof(T))>
class Pack {
  public:
    static constexpr int lanes = n;

    Pack() = default;

    /// Rounds to T.
    PLAIT_DEVICE explicit Pack(float const (&x)[n]) {
        if constexpr (sizeof(T) == 4) {
            PLAIT_UNROLL
            for (int j = 0; j < n; ++j) words_[j] = __builtin_bit_cast(std::uint32_t, x[j]);
        } else {
            PLAIT_UNROLL
            for (int j = 0; j < n; j += 2) words_[j / 2] = bf16_pair(x[j], x[j + 1]);
        }
    }

    /// The first `count` elements at p, in global memory, and zeros. With `wide` p is a multiple of 16 bytes.
    PLAIT_DEVICE static Pack load(T const* p, std::int64_t count, bool wide) {
        Pack x;
        if (wide && count >= n) {
            PLAIT_UNROLL
            for (int i = 0; i < words; i += step) {
                auto w = load_words<step>(p + i * per_word);
                PLAIT_UNROLL
                for (int j = 0; j < step; ++j) x.words_[i + j] = w.at[j];
            }
        } else {
            float v[n];
            PLAIT_UNROLL
            for (int j = 0; j < n; ++j) v[j] = j < count ? to_float(p[j]) : 0.0f;
            x = Pack(v);
        }
        return x;
    }

    /// Writes the first `count`.
    PLAIT_DEVICE void store(T* p, std::int64_t count, bool wide) const {
        if (wide && count >= n) {
            PLAIT_UNROLL
            for (int i = 0; i < words; i += step) {
                Words<step> w;
                PLAIT_UNROLL
                for (int j = 0; j < step; ++j) w.at[j] = words_[i + j];
                store_words<step>(p + i * per_word, w);
            }
        } else {
            PLAIT_UNROLL
            for (int j = 0; j < n; ++j)
                if (j < count) p[j] = element(j);
        }
    }

    PLAIT_DEVICE float operator[](int j) const {
        if constexpr (sizeof(T) == 4) return __builtin_bit_cast(float, words_[j]);
        else return __builtin_bit_cast(float, j % 2 ? words_[j / 2] & 0xffff0000u : words_[j / 2] << 16);
    }

    /// nvcc forgets what it made of the elements, which else stays in registers for their next use.
    PLAIT_DEVICE void forget() {
#ifdef __CUDA_ARCH__
        PLAIT_UNROLL
        for (int j = 0; j < words; ++j) asm("" : "+r"(words_[j]));
#endif
    }

  private:
    static constexpr int per_word = 4 / static_cast<int>(sizeof(T)), words = n / per_word,
                         step = words < 4 ? words : 4;
    static_assert(n % per_word == 0 && words % step == 0 && step >= 2);

    PLAIT_DEVICE T element(int j) const {
        if constexpr (sizeof(T) == 4) return __builtin_bit_cast(T, words_[j]);
        else return T{static_cast<std::uint16_t>(words_[j / 2] >> (j % 2 * 16))};
    }

    std::uint32_t words_[words];
};

}  // namespace plait::cuda
