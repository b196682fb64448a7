#pragma once

// What moves bytes and computes nothing: kernels know sizes of elements, not dtypes.

#include "cuda/device/any.cuh"

#include <cstddef>

namespace plait::cuda {

template <int bytes>
struct UnitOf;
template <>
struct UnitOf<1> {
    using Type = std::uint8_t;
};
template <>
struct UnitOf<2> {
    using Type = std::uint16_t;
};
template <>
struct UnitOf<4> {
    using Type = std::uint32_t;
};
template <>
struct UnitOf<8> {
    using Type = Words<2>;
};
template <>
struct UnitOf<16> {
    using Type = Words<4>;
};
/// So many bytes, moved by one access.
template <int bytes>
using Unit = typename UnitOf<bytes>::Type;

template <int bytes>
PLAIT_DEVICE Unit<bytes> load_unit(std::byte const* from) {
    if constexpr (bytes < 8) return *reinterpret_cast<Unit<bytes> const*>(from);
    else return load_words<bytes / 4>(from);
}
template <int bytes>
PLAIT_DEVICE void store_unit(std::byte* to, Unit<bytes> const& value) {
    if constexpr (bytes < 8) *reinterpret_cast<Unit<bytes>*>(to) = value;
    else store_words<bytes / 4>(to, value);
}

/// Copies n units from one place to another by strides of bytes; from nowhere means zeros. Addresses and
/// strides are multiples of a unit.
template <int bytes>
struct CopyMap {
    static constexpr char const* name = "copy";
    static constexpr int threads = 256, each = 4;
    using Shared = NoShared;

    std::byte const* from;
    std::byte* to;
    Strides<2> walk;  // of units: from, to
    std::int64_t n;

    std::int64_t blocks() const { return smaller<std::int64_t>(pieces(n, threads * each), 1 << 20); }

    PLAIT_DEVICE void operator()(Block const& block, Shared&) const {
        for (auto i = static_cast<std::int64_t>(block.index()) * threads * each + block.thread(); i < n;
             i += static_cast<std::int64_t>(block.blocks()) * threads * each) {
            Unit<bytes> value[each];
            std::int64_t place[each];
            PLAIT_UNROLL
            for (int k = 0; k < each; ++k) {
                value[k] = {};
                if (i + k * threads >= n) continue;
                std::int64_t at[2] = {0, 0};
                walk.find(i + k * threads, at);
                if (from) value[k] = load_unit<bytes>(from + at[0]);
                place[k] = at[1];
            }
            PLAIT_UNROLL
            for (int k = 0; k < each; ++k)
                if (i + k * threads < n) store_unit<bytes>(to + place[k], value[k]);
        }
    }
};

/// Transposes planes, tile by tile: to[c * to_stride + r] = from[r * from_stride + c]. Strides count
/// elements.
template <int bytes>
struct TransposeMap {
    static constexpr char const* name = "transpose";
    static constexpr int threads = 256, side = bytes < 8 ? 64 : 32, each = side * side / threads,
                         apart = threads / side;  // rows that a thread moves: how many, how far apart
    /// Rows are a word longer than the tile, so that a column lies in all banks.
    static constexpr int pad = bytes < 4 ? 4 / bytes : 1;
    struct Shared {
        Unit<bytes> tile[side][side + pad];
    };

    std::byte const* from;
    std::byte* to;
    std::int64_t rows, columns, from_stride, to_stride;
    std::int64_t planes;
    Strides<2> outer;  // of planes, in elements: from, to

    PLAIT_BOTH std::int64_t tiles() const { return pieces(rows, side) * pieces(columns, side); }
    std::int64_t blocks() const { return smaller<std::int64_t>(planes * tiles(), 1 << 20); }

    PLAIT_DEVICE void operator()(Block const& block, Shared& shared) const {
        std::int64_t across = pieces(columns, side), in_plane = tiles(), items = planes * in_plane;
        for (std::int64_t item = block.index(); item < items; item += block.blocks()) {
            std::int64_t plane = item / in_plane, tile = item - plane * in_plane;
            std::int64_t r0 = tile / across * side, c0 = tile % across * side, at[2] = {0, 0};
            if (planes > 1) outer.find(plane, at);
            int i = block.thread() % side, j = block.thread() / side;
            auto const* source = from + (at[0] + (r0 + j) * from_stride + c0 + i) * bytes;
            auto* target = to + (at[1] + (c0 + j) * to_stride + r0 + i) * bytes;
            int height = static_cast<int>(smaller<std::int64_t>(side, rows - r0)),
                width = static_cast<int>(smaller<std::int64_t>(side, columns - c0));
            Unit<bytes> value[each];
            PLAIT_UNROLL
            for (int k = 0; k < each; ++k) {
                if (j + k * apart < height && i < width) value[k] = load_unit<bytes>(source);
                source += apart * from_stride * bytes;
            }
            PLAIT_UNROLL
            for (int k = 0; k < each; ++k)
                if (j + k * apart < height && i < width) shared.tile[j + k * apart][i] = value[k];
            block.barrier();
            PLAIT_UNROLL
            for (int k = 0; k < each; ++k) {
                if (j + k * apart < width && i < height)
                    store_unit<bytes>(target, shared.tile[i][j + k * apart]);
                target += apart * to_stride * bytes;
            }
            block.barrier();  // before the next tile overwrites this one
        }
    }
};

/// Copies `chosen` to `to` where *flag is not 0, else `other`; nothing where that is there already.
struct CopyChosen {
    static constexpr char const* name = "commit";
    static constexpr int threads = 256, each = 4;
    using Shared = NoShared;

    std::uint8_t const* flag;
    std::byte const *chosen, *other;
    std::byte* to;
    std::int64_t bytes;

    std::int64_t blocks() const { return smaller<std::int64_t>(pieces(bytes, threads * each * 16), 1 << 16); }

    PLAIT_DEVICE void operator()(Block const& block, Shared&) const {
        auto const* from = *flag ? chosen : other;
        if (from == to) return;
        std::int64_t step = static_cast<std::int64_t>(block.blocks()) * threads;
        auto first = static_cast<std::int64_t>(block.index()) * threads + block.thread();
        std::int64_t words = aligned(from, to) ? bytes / 16 : 0;
        for (auto i = first; i < words; i += each * step) {
            Words<4> value[each];
            PLAIT_UNROLL
            for (int k = 0; k < each; ++k)
                if (i + k * step < words) value[k] = load_words<4>(from + 16 * (i + k * step));
            PLAIT_UNROLL
            for (int k = 0; k < each; ++k)
                if (i + k * step < words) store_words<4>(to + 16 * (i + k * step), value[k]);
        }
        for (auto i = 16 * words + first; i < bytes; i += step) to[i] = from[i];
    }
};

/// n elements of one value, of which `word` holds as many as it can.
struct Fill {
    static constexpr char const* name = "fill";
    static constexpr int threads = 256, each = 4;
    using Shared = NoShared;

    std::byte* to;
    Words<4> word;
    std::int64_t bytes;  // of all
    int size;            // bytes of an element

    std::int64_t blocks() const { return smaller<std::int64_t>(pieces(bytes, threads * each * 16), 1 << 16); }

    PLAIT_DEVICE void operator()(Block const& block, Shared&) const {
        std::int64_t step = static_cast<std::int64_t>(block.blocks()) * threads;
        auto first = static_cast<std::int64_t>(block.index()) * threads + block.thread();
        std::int64_t words = aligned(to) ? bytes / 16 : 0;
        for (auto i = first; i < words; i += step) store_words<4>(to + 16 * i, word);
        for (auto i = 16 * words + first * size; i < bytes; i += step * size) {
            if (size == 1) to[i] = static_cast<std::byte>(word.at[0]);
            else if (size == 2)
                *reinterpret_cast<std::uint16_t*>(to + i) = static_cast<std::uint16_t>(word.at[0]);
            else if (size == 4) *reinterpret_cast<std::uint32_t*>(to + i) = word.at[0];
            else store_words<2>(to + i, Words<2>{{word.at[0], word.at[1]}});
        }
    }
};

}  // namespace plait::cuda
